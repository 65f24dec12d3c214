//! Method `delete_conversation`, and what is left of a conversation.

use entrenous_protocol::{
    Code, Failure,
    live::{FLAG_END, LiveKind},
    rest::CreateConversation,
    rpc::store::{
        ConversationRequest, DeleteConversation, History, HistoryFilter, HistoryPosition, HistoryRequest,
        ListConversations, ListConversationsRequest, ListUnread, ListUnreadRequest, ReadCursor, ReadUnread,
        ReadUnreadRequest,
    },
};
use serde_json::json;

use super::code;
use crate::{
    channels::{channel, heard, memberships},
    fixture::{Fixture, channel_of, into, refused, sealed, stored, to, user},
};

impl Fixture {
    pub(super) async fn delete(
        &self,
        caller: u128,
        conversation: entrenous_model::ConversationId,
    ) -> Result<(), Failure> {
        let request = ConversationRequest { caller: user(caller), conversation_id: conversation };
        self.call::<DeleteConversation>(&request).await.map(drop)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_entry_says_so_and_then_there_is_nothing() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2, 3]).await.id;
    let message = into(group, 2, sealed("a"));
    fixture.send(message.clone()).await;
    fixture.remove(1, group, 3).await.unwrap();
    let mut live = fixture.gateway.subscribe_live().await.unwrap();
    assert_eq!(code(fixture.delete(2, group).await), Code::Forbidden);
    assert_eq!(code(fixture.delete(3, group).await), Code::NotFound);
    fixture.delete(1, group).await.unwrap();
    fixture.delete(1, group).await.unwrap();
    assert_eq!(code(fixture.delete(2, group).await), Code::NotFound);
    let heard = heard(&mut live, group, 1).await;
    assert_eq!((heard[0].preamble.flags, heard[0].preamble.seq), (FLAG_END, 4));
    let frame: serde_json::Value = serde_json::from_slice(&heard[0].body).unwrap();
    assert_eq!(frame["type"], "conversation_updated");
    assert_eq!(frame["payload"]["content"], json!({"by": user(1), "deleted": true}));

    for number in 1..=3 {
        assert_eq!(code(fixture.get(number, group).await), Code::NotFound);
        assert_eq!(code(fixture.members(number, group).await), Code::NotFound);
        assert!(!fixture.log(Some(number), group).await.is_readable);
        let position = HistoryPosition::Latest;
        let history = HistoryRequest {
            caller: user(number),
            conversation_id: group,
            position,
            limit: 10,
            filter: HistoryFilter::default(),
        };
        assert_eq!(code(fixture.call::<History>(&history).await), Code::NotFound);
        let cursor = ReadCursor { conversation_id: group, read_seq: 0 };
        let unread = ListUnreadRequest { user_id: user(number), cursor };
        assert_eq!(code(fixture.call::<ListUnread>(&unread).await), Code::NotFound);
        let unread = ReadUnreadRequest { user_id: user(number), cursors: vec![cursor] };
        assert_eq!(fixture.call::<ReadUnread>(&unread).await.unwrap(), []);
        let own = ListConversationsRequest { caller: user(number), cursor: None, limit: 10 };
        assert!(fixture.call::<ListConversations>(&own).await.unwrap().items.is_empty());
    }
    assert_eq!(refused(&fixture.append_one(into(group, 1, sealed("b"))).await), Code::NotFound);
    assert!(stored(&fixture.append_one(message).await).is_repeat, "what was acknowledged stays so");
    assert_eq!(code(fixture.update(1, group, json!({"title": "x"})).await), Code::NotFound);
    assert_eq!(code(fixture.add(1, group, 4, None).await), Code::NotFound);
    assert!(!fixture.log(None, group).await.is_readable);

    let told = [(1, vec![(group, 4)]), (2, vec![(group, 4)]), (3, vec![(group, 3)])];
    for (number, left) in told.clone() {
        let memberships = memberships(&fixture, number).await;
        assert_eq!((memberships.left, memberships.conversations), (left, Vec::new()));
    }
    fixture.execute("UPDATE messaging.conversations SET deleted_at = deleted_at - interval '31 days'").await;
    for (number, _) in told {
        assert_eq!(memberships(&fixture, number).await.left, []);
    }
    assert_eq!(fixture.audited("conversation_deleted").await, 1);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_end_alike_and_direct_conversations_never() {
    let (fixture, replica) = Fixture::start().await;
    let made = CreateConversation { is_public: true, ..channel_of(&[2]) };
    let room = fixture.create(user(1), made).await.unwrap().id;
    let token = fixture.invite(1, room, <_>::default()).await.unwrap().token.unwrap();
    fixture.delete(1, room).await.unwrap();
    assert_eq!(code(fixture.join(3, room).await), Code::NotFound);
    assert_eq!(code(fixture.join_by(3, &token).await), Code::NotFound);
    assert!(fixture.found(3, None).await.is_empty());
    let message = to(2, 1, sealed("a"));
    fixture.send(message.clone()).await;
    assert_eq!(code(fixture.delete(1, message.conversation_id).await), Code::Forbidden);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_counts_no_more() {
    let (fixture, replica) = Fixture::start().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(fixture.group(&[1]).await.id);
    }
    let refusal = fixture.create(user(1), crate::fixture::group_of(&[])).await.unwrap_err();
    assert!(refusal.detail.contains("conversations_per_user"), "{refusal}");
    fixture.delete(1, made[0]).await.unwrap();
    fixture.group(&[1]).await;
    replica.stop().await;
}

/// The store that deleted it died before it told: another one tells it as the first would have.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_is_swept_as_an_end() {
    let fixture = Fixture::without_identity().await;
    fixture.serve_identity().await;
    let dying = fixture.dying_replica().await;
    let room = channel(&fixture, &[1, 2]).await;
    fixture.delete(1, room).await.unwrap();
    dying.stop().await;
    let mut live = fixture.gateway.subscribe_live().await.unwrap();
    let replica = fixture.replica().await;
    let swept = heard(&mut live, room, 2).await;
    let told: Vec<_> = swept.iter().map(|one| (one.preamble.kind, one.preamble.seq, one.preamble.flags)).collect();
    assert_eq!(told[1], (LiveKind::Entry, 2, FLAG_END), "{told:?}");
    assert_eq!(told[0].1, 1);
    replica.stop().await;
}

/// Nothing that grows with the members is done when a conversation ends.
#[tokio::test(flavor = "multi_thread")]
async fn the_rows_of_members_stay_as_they_are() {
    let (fixture, replica) = Fixture::start().await;
    let room = channel(&fixture, &[1, 2, 3]).await;
    let before = memberships(&fixture, 2).await.membership_version;
    fixture.delete(1, room).await.unwrap();
    let left =
        format!("SELECT count(*) FROM messaging.members WHERE conversation_id = '{room}' AND left_seq IS NOT NULL");
    let mut connection = crate::fixture::connect(&fixture.postgres).await;
    assert_eq!(crate::function::count(&mut connection, &left).await, 0);
    assert_eq!(memberships(&fixture, 2).await.membership_version, before);
    replica.stop().await;
}
