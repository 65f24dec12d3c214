//! What people allow each other: who may write to whom, who is invited, who is seen.

use entrenous_model::ConversationId;
use entrenous_protocol::{
    Code, Failure,
    entry::{ConversationKind, Encryption},
    rest::{CreateConversation, MessagesFrom, VisibleTo},
    rpc::store::{
        AppendResult, Create, CreateRequest, ListConversations, ListConversationsRequest, Privacy, ReadBlocked,
        ReadBlockedRequest, ReadVisible, ReadVisibleRequest, TakePrivacy, VISIBLE_MAX,
    },
};

use crate::{
    fixture::{Fixture, connect, group_of, into, new_message, refused, sealed, seqs, stored, stranger, to, user},
    function::count,
};

/// What a user allows, at a version.
fn privacy(number: u128, version: u64, blocked: &[u128]) -> Privacy {
    Privacy {
        user_id: user(number),
        version,
        presence_visible_to: VisibleTo::default(),
        messages_from: MessagesFrom::default(),
        blocked: blocked.iter().copied().map(user).collect(),
    }
}

async fn take(fixture: &Fixture, privacy: Privacy) {
    fixture.call::<TakePrivacy>(&privacy).await.unwrap();
}

pub(crate) async fn block(fixture: &Fixture, number: u128, version: u64, blocked: &[u128]) {
    take(fixture, privacy(number, version, blocked)).await;
}

async fn messages_from(fixture: &Fixture, number: u128, version: u64, messages_from: MessagesFrom) {
    take(fixture, Privacy { messages_from, ..privacy(number, version, &[]) }).await;
}

/// Whether a message to somebody is stored; else it is refused as unwanted.
async fn reaches(fixture: &Fixture, sender: u128, other: u128) -> bool {
    match fixture.append_one(to(other, sender, sealed("a"))).await {
        AppendResult::Stored(_) => true,
        AppendResult::Refused(failure) => {
            assert_eq!(failure, unwanted());
            false
        }
        other => panic!("{other:?}"),
    }
}

fn unwanted() -> Failure {
    Failure::new(Code::Forbidden, "this person does not take messages from you")
}

async fn blocked_in(fixture: &Fixture, number: u128, conversation_id: ConversationId) -> Vec<u128> {
    let request = ReadBlockedRequest { user_id: user(number), conversation_id };
    let users = fixture.call::<ReadBlocked>(&request).await.unwrap();
    users.into_iter().map(|user| user.as_uuid().as_u128()).collect()
}

async fn sees(fixture: &Fixture, viewer: u128, users: &[u128]) -> Vec<bool> {
    let request = ReadVisibleRequest { viewer: user(viewer), user_ids: users.iter().copied().map(user).collect() };
    fixture.call::<ReadVisible>(&request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_in_any_order_end_in_the_newest() {
    let (fixture, replica) = Fixture::start().await;
    let second = fixture.replica().await;
    // Each version has blocked whoever has its number and the one after.
    let state = |version: u64| privacy(1, version, &[100 + u128::from(version), 101 + u128::from(version)]);
    let mut versions: Vec<u64> = (1..=40).collect();
    for round in 0..4_u64 {
        let (from, to) = (round * 40 + 1, round * 40 + 40);
        versions.clear();
        versions.extend((from..=to).rev().step_by(2).chain((from..=to).step_by(2)).chain([to, from]));
        futures::future::join_all(versions.iter().map(|version| take(&fixture, state(*version)))).await;
        let mut connection = connect(&fixture.postgres).await;
        let query = format!(
            "SELECT (SELECT version FROM messaging.privacy) * 10 + count(*) AS count FROM messaging.blocks
             WHERE blocked_id IN ('{}', '{}')",
            user(100 + u128::from(to)),
            user(101 + u128::from(to))
        );
        let to = i64::try_from(to).unwrap();
        assert_eq!(count(&mut connection, &query).await, to * 10 + 2);
        assert_eq!(count(&mut connection, "SELECT count(*) FROM messaging.blocks").await, 2);
    }
    replica.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_stops_both_and_answers_like_contacts_only() {
    let (fixture, replica) = Fixture::start().await;
    assert!(reaches(&fixture, 1, 2).await && reaches(&fixture, 2, 1).await);
    block(&fixture, 1, 1, &[2, 3]).await;
    assert!(!reaches(&fixture, 2, 1).await && !reaches(&fixture, 1, 2).await);
    // The same where nobody has written yet; and nothing comes into being.
    assert!(!reaches(&fixture, 3, 1).await && !reaches(&fixture, 1, 3).await);
    assert!(reaches(&fixture, 2, 3).await, "others are not concerned");
    messages_from(&fixture, 4, 1, MessagesFrom::Contacts).await;
    assert!(!reaches(&fixture, 3, 4).await);
    let conversation = ConversationId::direct(user(1), user(3));
    assert_eq!(refused(&fixture.append_one(into(conversation, 3, sealed("a"))).await), Code::NotFound);
    let log = fixture.log(Some(2), ConversationId::direct(user(1), user(2))).await;
    assert_eq!(seqs(&log), [1, 2]);
    // By the conversation's id, and with what would be refused for other reasons, it is the same.
    let direct = ConversationId::direct(user(1), user(2));
    let by_id = fixture.append(vec![
        into(direct, 2, sealed("a")),
        into(direct, 2, new_message(r#"{"content":{"text":"a"}}"#)),
        to(1, 3, new_message(r#"{"content":{"text":"a"}}"#)),
    ]);
    for result in by_id.await {
        assert_eq!(result, AppendResult::Refused(unwanted()));
    }

    block(&fixture, 1, 2, &[3]).await;
    assert!(reaches(&fixture, 2, 1).await && reaches(&fixture, 1, 2).await, "no longer");
    block(&fixture, 1, 1, &[2]).await;
    assert!(reaches(&fixture, 2, 1).await, "an older version changes nothing");
    let mut connection = connect(&fixture.postgres).await;
    assert_eq!(count(&mut connection, "SELECT count(*) FROM messaging.conversations").await, 2);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repeats_get_their_first_ack_whatever_was_blocked_since() {
    let (fixture, replica) = Fixture::start().await;
    let message = to(2, 1, sealed("a"));
    let first = fixture.send(message.clone()).await;
    block(&fixture, 2, 1, &[1]).await;
    let again = fixture.send(message.clone()).await;
    assert_eq!((again.seq, again.sent_at, again.is_repeat), (first.seq, first.sent_at, true));
    let results = fixture.append(vec![message, to(2, 1, sealed("b")), to(3, 1, sealed("c"))]).await;
    assert_eq!(stored(&results[0]).seq, first.seq);
    assert_eq!(results[1], AppendResult::Refused(unwanted()));
    assert_eq!(stored(&results[2]).seq, 1, "the rest of the batch is stored");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_messages_from_contacts_only_begins_by_writing() {
    let (fixture, replica) = Fixture::start().await;
    messages_from(&fixture, 1, 1, MessagesFrom::Contacts).await;
    assert!(!reaches(&fixture, 2, 1).await, "nobody has written");
    assert!(reaches(&fixture, 1, 2).await, "who is so writes to whom they want");
    assert!(reaches(&fixture, 2, 1).await, "and is answered");

    // Somebody who wrote before it was so is no contact, until they are answered.
    assert!(reaches(&fixture, 3, 4).await);
    messages_from(&fixture, 4, 1, MessagesFrom::Contacts).await;
    assert!(!reaches(&fixture, 3, 4).await);
    assert!(reaches(&fixture, 4, 3).await);
    assert!(reaches(&fixture, 3, 4).await);

    // Two such people: the first message of either is refused.
    messages_from(&fixture, 5, 1, MessagesFrom::Contacts).await;
    assert!(!reaches(&fixture, 1, 5).await && !reaches(&fixture, 5, 1).await);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_messages_from_nobody_is_not_even_answered() {
    let (fixture, replica) = Fixture::start().await;
    assert!(reaches(&fixture, 1, 2).await && reaches(&fixture, 2, 1).await);
    messages_from(&fixture, 1, 1, MessagesFrom::Nobody).await;
    assert!(!reaches(&fixture, 2, 1).await && !reaches(&fixture, 3, 1).await);
    assert!(reaches(&fixture, 1, 2).await && reaches(&fixture, 1, 3).await);
    let group = fixture.group(&[1, 2]).await.id;
    fixture.send(into(group, 2, sealed("a"))).await;
    messages_from(&fixture, 1, 2, MessagesFrom::Everyone).await;
    assert!(reaches(&fixture, 2, 1).await);
    // A block that comes after a setting holds too, beside it and after it.
    let both = Privacy { messages_from: MessagesFrom::Contacts, ..privacy(1, 3, &[2]) };
    take(&fixture, both).await;
    assert!(!reaches(&fixture, 2, 1).await && !reaches(&fixture, 1, 2).await);
    take(&fixture, Privacy { messages_from: MessagesFrom::Contacts, ..privacy(1, 4, &[]) }).await;
    assert!(reaches(&fixture, 2, 1).await, "they have exchanged messages");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_one_batch_each_is_judged_alone() {
    let (fixture, replica) = Fixture::start().await;
    messages_from(&fixture, 1, 1, MessagesFrom::Contacts).await;
    block(&fixture, 3, 1, &[4]).await;
    let results = fixture
        .append(vec![
            to(1, 2, sealed("a")),
            to(2, 1, sealed("b")),
            to(3, 4, sealed("c")),
            to(stranger(), 1, sealed("d")),
            to(6, 5, sealed("e")),
            to(5, 6, sealed("f")),
        ])
        .await;
    assert_eq!(results[0], AppendResult::Refused(unwanted()), "nobody had written to them");
    assert_eq!(stored(&results[1]).seq, 1);
    assert_eq!(results[2], AppendResult::Refused(unwanted()));
    assert_eq!(refused(&results[3]), Code::NotFound);
    assert_eq!((stored(&results[4]).seq, stored(&results[5]).seq), (1, 2));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_conversation_is_not_begun_with_who_does_not_want_it() {
    let (fixture, replica) = Fixture::start().await;
    let direct = |other: u128| CreateConversation {
        kind: ConversationKind::Direct,
        encryption: Encryption::E2ee,
        members: vec![user(other)],
        ..group_of(&[])
    };
    let create = async |caller: u128, other: u128| {
        let request = CreateRequest { caller: user(caller), conversation: direct(other) };
        fixture.call::<Create>(&request).await.map(|created| created.is_new)
    };
    assert_eq!(create(1, 2).await, Ok(true));
    block(&fixture, 2, 1, &[1, 3]).await;
    messages_from(&fixture, 4, 1, MessagesFrom::Contacts).await;
    assert_eq!(create(1, 2).await, Ok(false), "it exists");
    for (caller, other) in [(3, 2), (2, 3), (3, 4)] {
        assert_eq!(create(caller, other).await, Err(unwanted()), "{caller} {other}");
    }
    assert_eq!(create(4, 3).await, Ok(true));
    let listed = ListConversationsRequest { caller: user(2), cursor: None, limit: 50 };
    assert_eq!(fixture.call::<ListConversations>(&listed).await.unwrap().items.len(), 1);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_blocked_invites_nobody_and_is_not_told() {
    let (fixture, replica) = Fixture::start().await;
    block(&fixture, 2, 1, &[1]).await;
    let group = fixture.group(&[1, 2, 3]).await;
    assert_eq!(group.member_count, 2);
    let members = async |caller: u128, conversation_id| {
        let members = fixture.members(caller, conversation_id).await.unwrap().items;
        members.into_iter().map(|member| member.user_id.as_uuid().as_u128()).collect::<Vec<_>>()
    };
    assert_eq!(members(1, group.id).await, [1, 3]);
    let head = fixture.log(Some(1), group.id).await.last_seq;
    let added = fixture.add(1, group.id, 2, None).await.unwrap();
    assert_eq!((added.user_id, added.joined_seq), (user(2), head + 1));
    assert_eq!(members(1, group.id).await, [1, 3]);
    assert_eq!(fixture.log(Some(1), group.id).await.last_seq, head);

    // Only this way round: whom one has blocked one may invite. And who is a member stays one.
    let other = fixture.group(&[2, 1]).await.id;
    assert_eq!(members(2, other).await, [1, 2]);
    let joined = fixture.add(2, other, 3, None).await.unwrap();
    assert_eq!(fixture.add(2, other, 3, None).await.unwrap(), joined);
    block(&fixture, 3, 1, &[2]).await;
    assert_eq!(fixture.add(2, other, 3, None).await.unwrap(), joined);
    fixture.send(into(other, 1, sealed("a"))).await;
    fixture.send(into(other, 2, sealed("b"))).await;
    // What is refused to others is refused here too.
    assert_eq!(fixture.add(3, group.id, 4, None).await.unwrap_err().code, Code::Forbidden);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sees_whom() {
    let (fixture, replica) = Fixture::start().await;
    let visible_to = async |number: u128, version: u64, presence_visible_to| {
        take(&fixture, Privacy { presence_visible_to, ..privacy(number, version, &[]) }).await;
    };
    // 1 is with 2 in a group, has exchanged messages with 3, has written to 4, and knows nothing of 5.
    let group = fixture.group(&[1, 2]).await.id;
    for (sender, other) in [(1, 3), (3, 1), (1, 4)] {
        fixture.send(to(other, sender, sealed("a"))).await;
    }
    let all = [1, 2, 3, 4, 5, 3];
    assert_eq!(sees(&fixture, 1, &all).await, [true, true, true, true, false, true]);
    assert_eq!(sees(&fixture, 1, &[]).await, [false; 0]);
    assert_eq!(sees(&fixture, 5, &[1, 5]).await, [false, true]);
    let settings = [
        (VisibleTo::Everyone, [true, true, true, true, true, true]),
        (VisibleTo::Contacts, [true, false, true, false, false, true]),
        (VisibleTo::Nobody, [true, false, false, false, false, false]),
        (VisibleTo::Shared, [true, true, true, true, false, true]),
    ];
    for (version, (setting, wanted)) in (1..).zip(settings) {
        for number in 1..=5 {
            visible_to(number, version, setting).await;
        }
        assert_eq!(sees(&fixture, 1, &all).await, wanted, "{setting}");
    }

    // A block hides both from each other, whatever they share.
    block(&fixture, 3, 1_000, &[1]).await;
    assert_eq!(
        (sees(&fixture, 1, &[3, 2]).await, sees(&fixture, 3, &[1, 2]).await),
        (vec![false, true], vec![false; 2])
    );
    // Who has left is not seen any more.
    fixture.remove(1, group, 2).await.unwrap();
    assert_eq!((sees(&fixture, 1, &[2]).await, sees(&fixture, 2, &[1]).await), (vec![false], vec![false]));
    let request = ReadVisibleRequest { viewer: user(1), user_ids: vec![user(2); VISIBLE_MAX + 1] };
    assert_eq!(fixture.call::<ReadVisible>(&request).await.unwrap_err().code, Code::Invalid);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_among_members_are_found_from_both_sides() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2, 3, 4]).await.id;
    assert_eq!(blocked_in(&fixture, 1, group).await, [0; 0]);
    block(&fixture, 1, 1, &[2, 9]).await;
    block(&fixture, 3, 1, &[1]).await;
    assert_eq!(blocked_in(&fixture, 1, group).await, [2, 3]);
    assert_eq!((blocked_in(&fixture, 2, group).await, blocked_in(&fixture, 3, group).await), (vec![1], vec![1]));
    assert_eq!(blocked_in(&fixture, 4, group).await, [0; 0]);
    fixture.remove(1, group, 2).await.unwrap();
    assert_eq!(blocked_in(&fixture, 1, group).await, [3]);
    replica.stop().await;
}
