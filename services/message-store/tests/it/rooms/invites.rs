//! Methods `create_invite`, `list_invites`, `revoke_invite`, and joining by one.

use std::time::Duration;

use entrenous_model::{Clock, SystemClock};
use entrenous_protocol::{
    Code,
    entry::Role,
    rest::{Invite, NewInvite},
    rpc::store::{
        ConversationRequest, INVITES_MAX, Join, JoinBy, JoinRequest, ListInvites, RevokeInvite, RevokeInviteRequest,
    },
};
use tokio::task::JoinSet;

use super::code;
use crate::{
    channels::channel,
    fixture::{ANSWER_MAX, Fixture, connect, group_of, user},
    function::count,
};

const FOR_ALL: NewInvite = NewInvite { expires_at: None, max_uses: None };

async fn list(fixture: &Fixture, caller: u128, conversation_id: entrenous_model::ConversationId) -> Vec<Invite> {
    let request = ConversationRequest { caller: user(caller), conversation_id };
    fixture.call::<ListInvites>(&request).await.unwrap().items
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_lets_in_until_it_is_used_up_or_taken_back() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let invite = fixture.invite(1, group, NewInvite { max_uses: Some(2), expires_at: None }).await.unwrap();
    assert_eq!((invite.max_uses, invite.uses, invite.created_by), (Some(2), 0, user(1)));
    let token = invite.token.unwrap();
    let first = fixture.join_by(3, &token).await.unwrap();
    assert_eq!((first.conversation_id, first.entry.unwrap().seq), (group, 2));
    assert_eq!(fixture.join_by(3, &token).await.unwrap(), first, "twice: the same, and counted once");
    assert_eq!(fixture.join_by(2, &token).await.unwrap().entry.unwrap().seq, 1, "a member already uses nothing up");
    let listed = list(&fixture, 1, group).await;
    assert_eq!((listed.len(), listed[0].uses, listed[0].token.as_ref()), (1, 1, None));
    fixture.join_by(4, &token).await.unwrap();
    assert_eq!(fixture.get(4, group).await.unwrap().role, Role::Member);
    assert_eq!(code(fixture.join_by(5, &token).await), Code::NotFound);
    assert_eq!(fixture.join_by(4, &token).await.unwrap().entry.unwrap().seq, 3, "also of one that is used up");
    assert!(list(&fixture, 1, group).await.is_empty());

    let other = fixture.invite(1, group, FOR_ALL).await.unwrap();
    let revoke = async |caller| {
        let request = RevokeInviteRequest { caller: user(caller), conversation_id: group, invite_id: other.id };
        fixture.call::<RevokeInvite>(&request).await
    };
    assert_eq!(code(revoke(2).await), Code::Forbidden);
    revoke(1).await.unwrap();
    revoke(1).await.unwrap();
    assert_eq!(code(fixture.join_by(5, &other.token.unwrap()).await), Code::NotFound);
    assert_eq!(code(fixture.join_by(5, "no such token").await), Code::NotFound);
    let stored = "SELECT count(*) FROM messaging.invites WHERE encode(token_digest, 'escape') LIKE '%' || \
                  (SELECT '{}') || '%'";
    let stored = count(&mut connect(&fixture.postgres).await, &stored.replace("{}", &token)).await;
    assert_eq!(stored, 0, "the token itself is kept nowhere");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invites_end_by_time() {
    let (fixture, replica) = Fixture::start().await;
    let room = channel(&fixture, &[1]).await;
    let now = SystemClock.now();
    let until = |expires_at| NewInvite { expires_at: Some(expires_at), max_uses: None };
    assert_eq!(code(fixture.invite(1, room, until(now - Duration::from_secs(1))).await), Code::Invalid);
    assert_eq!(code(fixture.invite(1, room, NewInvite { max_uses: Some(0), expires_at: None }).await), Code::Invalid);
    let invite = fixture.invite(1, room, until(now + Duration::from_secs(600))).await.unwrap();
    let token = invite.token.unwrap();
    assert_eq!(fixture.join_by(2, &token).await.unwrap().entry, None, "no entry in a channel");
    fixture.execute("UPDATE messaging.invites SET expires_at = now() - interval '1 second'").await;
    assert_eq!(code(fixture.join_by(3, &token).await), Code::NotFound);
    fixture.join_by(2, &token).await.unwrap();
    assert!(list(&fixture, 1, room).await.is_empty());
    fixture.execute("UPDATE messaging.invites SET expires_at = now() - interval '25 hours'").await;
    fixture.invite(1, room, FOR_ALL).await.unwrap();
    let kept = count(&mut connect(&fixture.postgres).await, "SELECT count(*) FROM messaging.invites").await;
    assert_eq!(kept, 1, "what ended long ago is forgotten");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uses_are_counted_exactly() {
    let (fixture, replica) = Fixture::start().await;
    let second = fixture.replica().await;
    let room = channel(&fixture, &[1]).await;
    let invite = fixture.invite(1, room, NewInvite { max_uses: Some(5), expires_at: None }).await.unwrap();
    let token = invite.token.unwrap();
    let mut joining = JoinSet::new();
    for number in 2..=21 {
        let request = JoinRequest { caller: user(number), by: JoinBy::Invite(token.clone()), frame: None };
        let bus = fixture.gateway.clone();
        joining.spawn(async move { bus.call::<Join>(&request, ANSWER_MAX).await.map_err(|refusal| refusal.code) });
    }
    let joined = joining.join_all().await;
    assert_eq!(joined.iter().filter(|one| one.is_ok()).count(), 5, "{joined:?}");
    assert!(joined.iter().all(|one| one.is_ok() || one.as_ref().err() == Some(&Code::NotFound)), "{joined:?}");
    assert_eq!(fixture.get(1, room).await.unwrap().member_count, 6);
    second.stop().await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_a_hundred_at_most() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.create(user(1), group_of(&[2])).await.unwrap().id;
    for _ in 0..INVITES_MAX {
        fixture.invite(1, group, FOR_ALL).await.unwrap();
    }
    let refusal = fixture.invite(1, group, FOR_ALL).await.unwrap_err();
    assert_eq!((refusal.code, refusal.detail.contains("invites")), (Code::TooLarge, true));
    assert_eq!(list(&fixture, 1, group).await.len(), INVITES_MAX);
    fixture
        .execute(
            "UPDATE messaging.invites SET max_uses = 1, uses = 1 WHERE id = (SELECT id FROM messaging.invites LIMIT 1)",
        )
        .await;
    fixture.invite(1, group, FOR_ALL).await.unwrap();
    replica.stop().await;
}
