//! Methods `join` and `list_channels`, and frames that ask for coming and going.

use entrenous_model::{ConversationId, IdGenerator};
use entrenous_protocol::{
    Code, Failure,
    entry::{MemberChange, Role},
    live::{LiveKind, UserNotice},
    rest::{CreateConversation, Page, PublicChannel},
    rpc::store::{
        FrameOrigin, Join, JoinBy, JoinRequest, ListChannels, ListChannelsRequest, RemoveMember, RemoveMemberRequest,
    },
};
use serde_json::json;

use super::{code, frame_of};
use crate::{
    channels::{heard, members_read, membership},
    fixture::{Fixture, channel_of, connect, device, group_of, into, member_content, payload, sealed, user},
};

impl Fixture {
    async fn channels(&self, request: ListChannelsRequest) -> Result<Page<PublicChannel>, Failure> {
        self.call::<ListChannels>(&request).await
    }

    /// Titles of all public channels that answer a question.
    pub(super) async fn found(&self, caller: u128, query: Option<&str>) -> Vec<String> {
        let query = query.map(str::to_owned);
        let request = ListChannelsRequest { caller: user(caller), query, cursor: None, limit: 100 };
        let page = self.channels(request).await.unwrap();
        page.items.into_iter().map(|channel| channel.title.unwrap_or_default()).collect()
    }

    pub(super) async fn public_channel(&self, caller: u128, title: &str, description: &str) -> ConversationId {
        let channel = CreateConversation {
            title: Some(title.to_owned()),
            description: Some(description.to_owned()),
            is_public: true,
            ..channel_of(&[])
        };
        self.create(user(caller), channel).await.unwrap().id
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_joins_what_is_public() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.create(user(1), CreateConversation { is_public: true, ..group_of(&[]) }).await.unwrap().id;
    let joined = fixture.join(2, group).await.unwrap();
    assert_eq!(joined.entry.unwrap().seq, 2);
    assert_eq!(fixture.join(2, group).await.unwrap(), joined, "twice: the same");
    assert_eq!(fixture.join(1, group).await.unwrap().entry.unwrap().seq, 1);
    let last = member_content(&payload(&fixture.log(Some(2), group).await.entries[0].frame));
    assert_eq!((last.change, last.role, last.by), (MemberChange::Joined, Some(Role::Member), user(2)));
    fixture.update(1, group, json!({"is_public": false})).await.unwrap();
    assert_eq!(code(fixture.join(3, group).await), Code::NotFound);
    assert_eq!(fixture.join(2, group).await.unwrap(), joined, "a member already, public or not");
    assert_eq!(code(fixture.join(3, IdGenerator.next()).await), Code::NotFound);

    let room = fixture.public_channel(1, "news", "").await;
    let mut live = fixture.gateway.subscribe_live().await.unwrap();
    assert_eq!(fixture.join(2, room).await.unwrap().entry, None);
    fixture.join(2, room).await.unwrap();
    let told = heard(&mut live, room, 1).await;
    let content = membership(&told[0]).content;
    assert_eq!((content.change, content.user_id, told[0].preamble.seq), (MemberChange::Joined, user(2), 1));
    assert_eq!(fixture.get(2, room).await.unwrap().member_count, 2);
    fixture.update(1, room, json!({"max_members": 2})).await.unwrap();
    assert_eq!(code(fixture.join(3, room).await), Code::TooLarge);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_in_too_many_at_once() {
    let (fixture, replica) = Fixture::start().await;
    let mut rooms = Vec::new();
    for number in 1..=8 {
        rooms.push(fixture.public_channel(number, "a", "").await);
    }
    let join = |room| {
        let request = JoinRequest { caller: user(9), by: JoinBy::Conversation(room), frame: None };
        let bus = fixture.gateway.clone();
        async move { bus.call::<Join>(&request, crate::fixture::ANSWER_MAX).await }
    };
    let outcomes = futures::future::join_all(rooms.into_iter().map(join)).await;
    let refused: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert_eq!(refused.len(), 3, "five are allowed: {outcomes:?}");
    assert!(refused.iter().all(|refusal| refusal.detail.contains("conversations_per_user")), "{refused:?}");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_are_found_by_their_words_the_largest_first() {
    let (fixture, replica) = Fixture::start().await;
    let rust = fixture.public_channel(1, "Rust news", "What is new in Rust-land").await;
    let garden = fixture.public_channel(2, "Garden", "New roses, Straße, Öl").await;
    fixture.create(user(3), channel_of(&[])).await.unwrap();
    let open = CreateConversation { is_public: true, title: Some("New group".to_owned()), ..group_of(&[]) };
    fixture.create(user(3), open).await.unwrap();
    for number in [4, 5] {
        fixture.join(number, garden).await.unwrap();
    }
    let found = async |query: &'static str| fixture.found(4, Some(query)).await;
    assert_eq!(fixture.found(4, None).await, ["Garden", "Rust news"], "public channels, the largest first");
    assert_eq!(found("  ").await, ["Garden", "Rust news"]);
    assert_eq!(found("NEW").await, ["Garden", "Rust news"]);
    assert_eq!(found("rust ne").await, ["Rust news"], "the last word may be a beginning");
    assert_eq!(found("ru news").await, Vec::<String>::new(), "the others may not");
    assert_eq!(found("land").await, ["Rust news"]);
    assert_eq!(found("öl straß").await, ["Garden"]);
    assert_eq!(found("' | !x:*").await, Vec::<String>::new());
    assert_eq!(found("--").await, Vec::<String>::new());

    fixture.update(1, rust, json!({"title": "Ferris", "description": null})).await.unwrap();
    assert_eq!((found("rust").await, found("ferr").await), (Vec::new(), vec!["Ferris".to_owned()]));
    let first = ListChannelsRequest { caller: user(4), query: None, cursor: None, limit: 1 };
    let page = fixture.channels(first.clone()).await.unwrap();
    let one = &page.items[0];
    assert_eq!((one.id, one.member_count, one.is_member, page.has_more), (garden, 3, true, true));
    let next = fixture.channels(ListChannelsRequest { cursor: page.next, ..first.clone() }).await.unwrap();
    assert_eq!((next.items[0].id, next.items[0].is_member, next.has_more), (rust, false, false));
    let bad = ListChannelsRequest { cursor: Some("x".to_owned()), ..first };
    assert_eq!(code(fixture.channels(bad).await), Code::Invalid);
    fixture.update(2, garden, json!({"is_public": false})).await.unwrap();
    assert_eq!(fixture.found(4, None).await, ["Ferris"]);
    fixture.update(2, garden, json!({"is_public": true})).await.unwrap();
    assert_eq!(fixture.found(4, None).await, ["Garden", "Ferris"]);
    replica.stop().await;
}

/// The frame's id is the entry's, and it is told with the frame's origin, so that the `ack` stands in its place.
#[tokio::test(flavor = "multi_thread")]
async fn frames_give_their_ids_to_the_entries() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.create(user(1), CreateConversation { is_public: true, ..group_of(&[]) }).await.unwrap().id;
    let message = into(group, 1, sealed("a"));
    fixture.send(message.clone()).await;
    let mut live = fixture.gateway.subscribe_live().await.unwrap();
    let (joins, leaves) = (frame_of(2, IdGenerator.next()), frame_of(2, IdGenerator.next()));
    let join = async |frame| {
        let request = JoinRequest { caller: user(2), by: JoinBy::Conversation(group), frame: Some(frame) };
        fixture.call::<Join>(&request).await
    };
    let leave = async |frame| {
        let (conversation_id, caller) = (group, user(2));
        let request = RemoveMemberRequest { caller, conversation_id, user_id: caller, frame: Some(frame) };
        fixture.call::<RemoveMember>(&request).await
    };
    let taken = frame_of(2, message.message.id);
    assert_eq!(code(join(taken).await), Code::IdConflict);
    let joined = join(joins).await.unwrap();
    assert_eq!(code(leave(taken).await), Code::IdConflict);
    let left = leave(leaves).await.unwrap();
    assert_eq!((joined.entry.unwrap().seq, left.entry.unwrap().seq), (3, 4));
    assert_eq!(join(joins).await.unwrap(), joined, "a repeat that comes late changes nothing");
    assert_eq!(leave(leaves).await.unwrap(), left);
    assert_eq!(leave(frame_of(2, IdGenerator.next())).await.unwrap(), left, "left already");
    assert_eq!(code(fixture.get(2, group).await), Code::NotFound);
    let elsewhere = FrameOrigin { device_id: device(7), ..joins };
    assert_eq!(code(join(elsewhere).await), Code::IdConflict, "the same id from another device");
    let told = heard(&mut live, group, 2).await;
    let places: Vec<_> = told.iter().map(|one| (one.preamble.kind, one.preamble.seq, one.preamble.origin)).collect();
    assert_eq!(places, [(LiveKind::Entry, 3, 7), (LiveKind::Entry, 4, 7)]);
    let log = fixture.log(Some(1), group).await;
    let entry = &log.entries[2];
    assert_eq!((entry.id, entry.sender_device_id), (joins.entry_id, Some(joins.device_id)));
    let back = join(frame_of(2, IdGenerator.next())).await.unwrap();
    assert_eq!(back.entry.unwrap().seq, 5);
    assert_eq!(join(joins).await.unwrap(), joined, "the first one's answer, whatever happened since");
    replica.stop().await;
}

/// A channel of 100,000 is joined, left and listed as one of three is.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_grows_with_a_public_channel() {
    const MEMBERS: i64 = 20_000;
    let (fixture, replica) = Fixture::start().await;
    let room = fixture.public_channel(1, "crowd", "many").await;
    fixture
        .execute(&format!(
            "INSERT INTO messaging.members (conversation_id, user_id, role, joined_seq, joined_at) \
             SELECT '{room}', gen_random_uuid(), 'member', 1, now() FROM generate_series(1, {MEMBERS}); \
             UPDATE messaging.conversations SET member_count = {MEMBERS} + 1, max_members = 100000 WHERE id = '{room}'; \
             ANALYZE messaging.members"
        ))
        .await;
    replica.stop().await;
    let mut connection = connect(&fixture.postgres).await;
    let before = members_read(&mut connection).await;
    let replica = fixture.replica().await;
    for _ in 0..4 {
        for number in 2..=6 {
            fixture.join(number, room).await.unwrap();
            assert_eq!(fixture.found(number, Some("crow")).await, ["crowd"]);
            fixture.remove(number, room, number).await.unwrap();
        }
    }
    fixture.ban(1, room, 2).await.unwrap();
    fixture.delete(1, room).await.unwrap();
    replica.stop().await;
    let read = members_read(&mut connection).await - before;
    assert!(read < MEMBERS / 10, "20 joins, searches and leaves of 20,001 members read {read} rows");
}

/// So that their connections have the conversation live when the entry comes.
#[tokio::test(flavor = "multi_thread")]
async fn who_joins_a_group_is_told_before_the_entry() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.create(user(1), CreateConversation { is_public: true, ..group_of(&[]) }).await.unwrap().id;
    let mut live = fixture.gateway.subscribe_live().await.unwrap();
    fixture.join(2, group).await.unwrap();
    let told = heard(&mut live, user(2).as_uuid().into(), 1).await;
    let notice: UserNotice = serde_json::from_slice(&told[0].body).unwrap();
    assert!(
        matches!(notice, UserNotice::ConversationJoined { conversation_id, joined_seq: 2, .. } if conversation_id == group)
    );
    replica.stop().await;
}
