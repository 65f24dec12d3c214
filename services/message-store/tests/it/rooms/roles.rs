//! Method `set_role`.

use entrenous_protocol::{
    Code,
    entry::{
        MemberChange,
        Role::{self, Member, Moderator, Owner, Reader},
    },
    live::{FLAG_MEMBER, LiveKind},
    rest::{CreateConversation, NewInvite},
    rpc::store::{SetRole, SetRoleRequest},
};
use serde_json::json;
use tokio::task::JoinSet;

use super::code;
use crate::{
    channels::{channel, heard},
    fixture::{ANSWER_MAX, Fixture, group_of, into, member_content, payload, refused, sealed, user},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_an_entry_and_holds_at_once() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2, 3]).await.id;
    fixture.give(1, group, 2, Moderator).await.unwrap();
    let muted = fixture.give(2, group, 3, Reader).await.unwrap();
    assert_eq!((muted.user_id, muted.role, muted.joined_seq), (user(3), Reader, 1));
    assert_eq!(fixture.give(2, group, 3, Reader).await.unwrap(), muted, "twice: the same, and no entry");
    assert_eq!(refused(&fixture.append_one(into(group, 3, sealed("a"))).await), Code::Forbidden);
    fixture.give(2, group, 3, Member).await.unwrap();
    fixture.send(into(group, 3, sealed("a"))).await;
    let log = fixture.log(Some(3), group).await;
    let changes = log.entries[1..4].iter().map(|entry| member_content(&payload(&entry.frame)));
    let changes: Vec<_> = changes.map(|one| (one.change, one.user_id, one.role, one.by)).collect();
    let role = MemberChange::Role;
    let (first, second) = ((role, user(2), Some(Moderator), user(1)), (role, user(3), Some(Reader), user(2)));
    assert_eq!(changes, [first, second, (role, user(3), Some(Member), user(2))]);
    assert_eq!(fixture.audited("role_changed").await, 3);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ownership_is_handed_over_and_never_lost() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let give = async |caller, number, role: Role| fixture.give(caller, group, number, role).await.map(|one| one.role);
    assert_eq!(code(give(1, 1, Member).await), Code::Conflict);
    assert_eq!(code(give(2, 2, Owner).await), Code::Forbidden);
    assert_eq!(code(give(1, 3, Owner).await), Code::NotFound);
    assert_eq!(give(1, 2, Owner).await, Ok(Owner));
    assert_eq!(give(1, 1, Member).await, Ok(Member));
    assert_eq!(give(1, 1, Member).await, Ok(Member), "twice");
    assert_eq!(code(give(1, 2, Member).await), Code::Forbidden);
    assert_eq!(code(fixture.remove(2, group, 2).await), Code::Conflict);
    fixture.remove(1, group, 1).await.unwrap();
    assert_eq!(code(give(2, 1, Owner).await), Code::NotFound, "who has left has no role");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_owners_who_step_down_at_once_one_stays() {
    let (fixture, replica) = Fixture::start().await;
    for _ in 0..3 {
        let group = fixture.group(&[1, 2]).await.id;
        fixture.give(1, group, 2, Owner).await.unwrap();
        let mut stepping = JoinSet::new();
        for owner in [1, 2] {
            let (bus, caller) = (fixture.gateway.clone(), user(owner));
            let request = SetRoleRequest { caller, conversation_id: group, user_id: caller, role: Member };
            stepping.spawn(async move { bus.call::<SetRole>(&request, ANSWER_MAX).await.is_ok() });
        }
        let down = stepping.join_all().await;
        assert_eq!(down.iter().filter(|down| **down).count(), 1, "{down:?}");
    }
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_back_to_an_old_role() {
    let (fixture, replica) = Fixture::start().await;
    for room in [fixture.group(&[1, 2]).await.id, channel(&fixture, &[1, 2]).await] {
        fixture.give(1, room, 2, Moderator).await.unwrap();
        fixture.remove(2, room, 2).await.unwrap();
        assert_eq!(fixture.add(1, room, 2, None).await.unwrap().role, Member);
        assert_eq!(fixture.get(2, room).await.unwrap().role, Member);
        assert_eq!(code(fixture.add(2, room, 3, None).await), Code::Forbidden);
    }
    replica.stop().await;
}

/// Who was muted does not come out of it by leaving; whoever looks after the members decides.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_muted_comes_back_muted() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.create(user(1), CreateConversation { is_public: true, ..group_of(&[]) }).await.unwrap().id;
    let channel = fixture.public_channel(1, "news", "").await;
    fixture.update(1, channel, json!({"posting": "everyone"})).await.unwrap();
    for room in [group, channel] {
        let token = fixture.invite(1, room, NewInvite::default()).await.unwrap().token.unwrap();
        let role = async || fixture.get(2, room).await.unwrap().role;
        let leave = async || fixture.remove(2, room, 2).await.unwrap();
        fixture.join(2, room).await.unwrap();
        assert_eq!(role().await, Member);
        fixture.give(1, room, 2, Reader).await.unwrap();
        leave().await;
        fixture.join(2, room).await.unwrap();
        assert_eq!(role().await, Reader, "by oneself");
        assert_eq!(refused(&fixture.append_one(into(room, 2, sealed("a"))).await), Code::Forbidden);
        leave().await;
        fixture.join_by(2, &token).await.unwrap();
        assert_eq!(role().await, Reader, "by an invite");
        fixture.ban(1, room, 2).await.unwrap();
        fixture.unban(1, room, 2).await.unwrap();
        fixture.join(2, room).await.unwrap();
        assert_eq!(role().await, Reader, "after a ban");
        leave().await;
        assert_eq!(fixture.add(1, room, 2, None).await.unwrap().role, Member, "as a moderator says");
        fixture.give(1, room, 2, Moderator).await.unwrap();
        leave().await;
        fixture.join(2, room).await.unwrap();
        assert_eq!(role().await, Member, "never more");
    }
    let told: Vec<_> = fixture.said(group).await.into_iter().map(|(_, content)| content).collect();
    let roles = told.iter().filter(|content| content["change"] == "joined").map(|content| content["role"].as_str());
    assert_eq!(roles.collect::<Option<Vec<_>>>().unwrap(), ["member", "reader", "reader", "reader", "member"]);
    replica.stop().await;
}

/// In a channel it is an entry too, with how many left before; and it makes nobody a member, not even when it is swept.
#[tokio::test(flavor = "multi_thread")]
async fn in_a_channel_a_role_takes_a_seq() {
    let fixture = Fixture::without_identity().await;
    fixture.serve_identity().await;
    let dying = fixture.dying_replica().await;
    let room = channel(&fixture, &[1, 2, 3]).await;
    fixture.remove(3, room, 3).await.unwrap();
    fixture.add(1, room, 4, None).await.unwrap();
    let joined_seq = fixture.members(1, room).await.unwrap().items[2].joined_seq;
    fixture.give(1, room, 2, Moderator).await.unwrap();
    dying.stop().await;
    let mut live = fixture.gateway.subscribe_live().await.unwrap();
    let mut of_four = fixture.gateway.subscribe_live().await.unwrap();
    let replica = fixture.replica().await;
    let swept = heard(&mut live, room, 2).await.pop().unwrap();
    assert_eq!((swept.preamble.kind, swept.preamble.flags), (LiveKind::Entry, FLAG_MEMBER));
    assert_eq!((swept.preamble.seq, joined_seq, swept.preamble.leaves), (2, 2, 1));
    let later = fixture.group(&[4]).await.id;
    let told = heard(&mut of_four, user(4).as_uuid().into(), 1).await;
    assert!(String::from_utf8_lossy(&told[0].body).contains(&later.to_string()), "{told:?}");
    replica.stop().await;
}
