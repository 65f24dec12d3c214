//! Methods `ban_member`, `unban_member` and `list_bans`.

use entrenous_protocol::{
    Code,
    entry::{MemberChange, Role},
    rest::NewInvite,
    rpc::store::{ListBans, ListMembersRequest, MemberRequest, UnbanMember},
};
use serde_json::json;

use super::code;
use crate::{
    channels::{channel, heard, membership},
    fixture::{Fixture, into, member_content, payload, refused, sealed, stranger, user},
};

impl Fixture {
    pub(super) async fn unban(
        &self,
        caller: u128,
        conversation_id: entrenous_model::ConversationId,
        number: u128,
    ) -> Result<(), entrenous_protocol::Failure> {
        let request = MemberRequest { caller: user(caller), conversation_id, user_id: user(number) };
        self.call::<UnbanMember>(&request).await.map(drop)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_banned_goes_and_stays_out() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2, 3]).await.id;
    fixture.update(1, group, json!({"is_public": true})).await.unwrap();
    fixture.ban(1, group, 2).await.unwrap();
    fixture.ban(1, group, 2).await.unwrap();
    let log = fixture.log(Some(1), group).await;
    assert_eq!(log.last_seq, 3, "one entry");
    let last = member_content(&payload(&log.entries[2].frame));
    assert_eq!((last.change, last.user_id, last.by), (MemberChange::Banned, user(2), user(1)));
    assert!(!fixture.log(Some(2), group).await.is_readable);
    assert_eq!(refused(&fixture.append_one(into(group, 2, sealed("a"))).await), Code::NotFound);
    assert_eq!(fixture.get(1, group).await.unwrap().member_count, 2);

    let token =
        fixture.invite(1, group, NewInvite { max_uses: Some(1), expires_at: None }).await.unwrap().token.unwrap();
    assert_eq!(code(fixture.add(1, group, 2, None).await), Code::Forbidden);
    assert_eq!(code(fixture.join(2, group).await), Code::Forbidden);
    assert_eq!(code(fixture.join_by(2, &token).await), Code::Forbidden);
    fixture.ban(1, group, 9).await.unwrap();
    assert_eq!(fixture.log(Some(1), group).await.last_seq, 3, "was no member: no entry");
    assert_eq!(code(fixture.join(9, group).await), Code::Forbidden);

    fixture.unban(1, group, 2).await.unwrap();
    fixture.unban(1, group, 2).await.unwrap();
    assert_eq!(fixture.join_by(2, &token).await.unwrap().entry.unwrap().seq, 4, "a refusal used nothing up");
    let audited = async |action| fixture.audited(action).await;
    assert_eq!((audited("member_banned").await, audited("member_unbanned").await), (2, 1));
    assert_eq!(audited("member_removed").await, 0);
    fixture.remove(1, group, 3).await.unwrap();
    fixture.remove(2, group, 2).await.unwrap();
    assert_eq!(audited("member_removed").await, 1, "who leaves is not noted");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_bound_who_is_banned() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    for number in [3, 4] {
        fixture.add(1, group, number, Some(Role::Moderator)).await.unwrap();
    }
    let ban = async |caller, number| code(fixture.ban(caller, group, number).await);
    assert_eq!(ban(3, 1).await, Code::Forbidden);
    assert_eq!(ban(3, 4).await, Code::Forbidden);
    assert_eq!(ban(2, 5).await, Code::Forbidden);
    assert_eq!(ban(6, 2).await, Code::NotFound);
    assert_eq!(ban(1, 1).await, Code::Invalid, "not oneself");
    assert_eq!(ban(1, stranger()).await, Code::NotFound);
    assert_eq!(code(fixture.unban(2, group, 5).await), Code::Forbidden);
    fixture.ban(1, group, 4).await.unwrap();
    for number in [2, 5, 6] {
        fixture.ban(3, group, number).await.unwrap();
    }
    let list = async |caller, after: Option<u128>| {
        let after = after.map(user);
        let request = ListMembersRequest { caller: user(caller), conversation_id: group, after, limit: 3 };
        fixture.call::<ListBans>(&request).await
    };
    assert_eq!(code(list(2, None).await), Code::NotFound);
    let page = list(3, None).await.unwrap();
    let users: Vec<_> = page.items.iter().map(|ban| (ban.user_id, ban.banned_by)).collect();
    assert_eq!(users, [(user(2), user(3)), (user(4), user(1)), (user(5), user(3))]);
    assert!(page.has_more);
    let rest = list(3, Some(5)).await.unwrap();
    assert_eq!((rest.items.len(), rest.items[0].user_id, rest.has_more), (1, user(6), false));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_channel_a_ban_is_a_leave() {
    let (fixture, replica) = Fixture::start().await;
    let room = channel(&fixture, &[1, 2]).await;
    let mut live = fixture.gateway.subscribe_live().await.unwrap();
    fixture.ban(1, room, 2).await.unwrap();
    let heard = heard(&mut live, room, 1).await;
    let (preamble, told) = (&heard[0].preamble, membership(&heard[0]));
    assert_eq!((preamble.seq, preamble.leaves, told.content.change), (1, 1, MemberChange::Banned));
    assert_eq!(fixture.log(Some(1), room).await.last_seq, 1);
    assert_eq!(code(fixture.add(1, room, 2, None).await), Code::Forbidden);
    replica.stop().await;
}
