//! Messages: acks in place, one order, sync with cursors, repeats, removal.

use entrenous_client::{OutgoingMessage, SyncFrom, SyncStart, Target, frame::Body};
use entrenous_model::ConversationId;
use entrenous_protocol::{
    Code,
    entry::{ConversationKind, Encryption, EntryKind},
};
use entrenous_system_tests::{Person, Shape, System};

use crate::support::{close_code, conversation, group, live, next, next_entry, next_seqs, sealed, text};

#[tokio::test]
async fn messages_over_one_gateway() {
    let system = System::start(&Shape::one_process()).await.unwrap();
    let person = async |name: &str| Person::new(system.gateway(), name).await.unwrap();
    let (alice, bob, carol) = (person("alice").await, person("bob").await, person("carol").await);
    direct(&alice, &bob).await;
    acks_stand_in_place(&alice, &bob).await;
    every_device(&system, &alice, &bob).await;
    repeats(&system, &alice, &bob).await;
    sync_with_cursors(&alice, &bob).await;
    encryption_is_kept_apart(&alice, &bob).await;
    removal(&alice, &bob, &carol).await;
    history_and_log(&alice, &carol).await;
    system.stop().await;
}

async fn direct(alice: &Person, bob: &Person) {
    let id = ConversationId::direct(alice.user_id, bob.user_id);
    let mut at_bob = live(bob).await;
    let at_alice = live(alice).await;
    let message = sealed(b"one");
    let stored = at_alice.send_message(Target::User(bob.user_id), &message).await.unwrap();
    assert_eq!((stored.conversation_id, stored.seq), (id, 1));
    let entry = next_entry(&mut at_bob).await;
    assert_eq!((entry.id, entry.seq, entry.sender_id), (message.id, 1, alice.user_id));
    assert_eq!((entry.conversation_id, entry.sender_device_id), (id, Some(alice.device_id)));
    let seen = bob.api.conversation(id).await.unwrap();
    assert_eq!((seen.kind, seen.encryption, seen.last_seq), (ConversationKind::Direct, Encryption::E2ee, 1));
    assert_eq!(seen.peer.unwrap().id, alice.user_id);
    let again = alice.api.create_conversation(&conversation(ConversationKind::Direct, &[bob])).await.unwrap();
    assert_eq!((again.id, again.encryption), (id, Encryption::E2ee), "it exists and stays as it is");
    let nobody = uuid_like_user();
    assert!(at_alice.send_message(Target::User(nobody), &sealed(b"x")).await.unwrap_err().is(Code::NotFound));
}

fn uuid_like_user() -> entrenous_model::UserId {
    "01900000-0000-7000-8000-00000000dead".parse().unwrap()
}

async fn acks_stand_in_place(alice: &Person, bob: &Person) {
    let room = group(alice, &[bob]).await;
    let (mut at_alice, mut at_bob) = (live(alice).await, live(bob).await);
    let mut waiting = Vec::new();
    for number in 0..20 {
        let target = Target::Conversation(room);
        waiting.push(at_alice.handle().start_message(target, &text(&format!("a{number}"))).await.unwrap());
        waiting.push(at_bob.handle().start_message(target, &text(&format!("b{number}"))).await.unwrap());
    }
    let expected: Vec<u64> = (2..=41).collect();
    assert_eq!(next_seqs(&mut at_alice, 40).await, expected, "own acks and others' entries are one stream");
    assert_eq!(next_seqs(&mut at_bob, 40).await, expected);
    let mut seqs = Vec::new();
    for reply in waiting {
        seqs.push(reply.stored().await.unwrap().seq);
    }
    let of_alice: Vec<_> = seqs.iter().step_by(2).copied().collect();
    assert!(of_alice.is_sorted(), "a connection's messages keep their order: {of_alice:?}");
}

async fn every_device(system: &System, alice: &Person, bob: &Person) {
    let room = group(alice, &[bob]).await;
    let tablet = Person::login(system.gateway(), "alice", "tablet").await.unwrap();
    let (mut first, mut second) = (live(alice).await, live(&tablet).await);
    let stored = first.send_message(Target::Conversation(room), &text("x")).await.unwrap();
    assert_eq!(next_entry(&mut second).await.seq, stored.seq);
    let by_rest = alice.api.send_message(room, &text("y")).await.unwrap();
    assert_eq!(next_entry(&mut second).await.id, by_rest.id);
    assert_eq!(next_entry(&mut first).await.id, by_rest.id, "what REST sent comes to the sender's connections too");
    alice.api.remove_device(tablet.device_id).await.unwrap();
    assert_eq!(close_code(&mut second).await, Some(4503));
}

async fn repeats(system: &System, alice: &Person, bob: &Person) {
    let room = group(alice, &[bob]).await;
    let target = Target::Conversation(room);
    let connection = live(alice).await;
    let message = text("once");
    let first = connection.send_message(target, &message).await.unwrap();
    assert_eq!(connection.send_message(target, &message).await.unwrap(), first);
    let by_rest = alice.api.send_message(room, &message).await.unwrap();
    assert_eq!((by_rest.seq, by_rest.sent_at), (first.seq, first.sent_at));
    let other = OutgoingMessage::text(message.id, "other words");
    assert!(connection.send_message(target, &other).await.unwrap_err().is(Code::IdConflict));
    assert!(alice.api.send_message(room, &other).await.unwrap_err().is(Code::IdConflict));
    let tablet = Person::login(system.gateway(), "alice", "another").await.unwrap();
    assert!(tablet.api.send_message(room, &message).await.unwrap_err().is(Code::IdConflict));
    assert!(bob.api.send_message(room, &message).await.unwrap_err().is(Code::IdConflict));
    let elsewhere = group(alice, &[bob]).await;
    assert_eq!(alice.api.send_message(elsewhere, &message).await.unwrap().seq, 2, "another conversation's message");
    assert_eq!(alice.api.conversation(room).await.unwrap().last_seq, first.seq);
}

async fn sync_with_cursors(alice: &Person, bob: &Person) {
    let room = group(alice, &[bob]).await;
    for number in 0..10 {
        alice.api.send_message(room, &text(&number.to_string())).await.unwrap();
    }
    let mut at_bob = bob.connect().await.unwrap();
    let start = |cursor, limit| SyncStart { cursors: [(room, cursor)].into(), from: Some(SyncFrom::Now), limit };
    let complete = at_bob.sync(&start(3, Some(4))).await.unwrap();
    let synced = complete.conversations.iter().find(|synced| synced.conversation_id == room).unwrap();
    assert_eq!((synced.starts_at, synced.sent_up_to, synced.last_seq, synced.has_more), (4, 7, 11, true));
    assert_eq!(next_seqs(&mut at_bob, 4).await, [4, 5, 6, 7]);
    // Paused: what is said meanwhile comes with the next sync, in order.
    alice.api.send_message(room, &text("meanwhile")).await.unwrap();
    let complete = at_bob.sync(&start(7, None)).await.unwrap();
    let synced = complete.conversations.iter().find(|synced| synced.conversation_id == room).unwrap();
    assert_eq!((synced.starts_at, synced.sent_up_to, synced.has_more), (8, 12, false));
    assert_eq!(next_seqs(&mut at_bob, 5).await, [8, 9, 10, 11, 12]);
    alice.api.send_message(room, &text("live")).await.unwrap();
    assert_eq!(next_seqs(&mut at_bob, 1).await, [13]);
}

async fn encryption_is_kept_apart(alice: &Person, bob: &Person) {
    let direct = ConversationId::direct(alice.user_id, bob.user_id);
    assert!(alice.api.send_message(direct, &text("clear")).await.unwrap_err().is(Code::Invalid));
    let room = group(alice, &[bob]).await;
    assert!(alice.api.send_message(room, &sealed(b"x")).await.unwrap_err().is(Code::Invalid));
}

async fn removal(alice: &Person, bob: &Person, carol: &Person) {
    let room = group(alice, &[bob, carol]).await;
    let mut at_carol = live(carol).await;
    let kept = text("before");
    let before = at_carol.send_message(Target::Conversation(room), &kept).await.unwrap();
    alice.api.remove_member(room, carol.user_id).await.unwrap();
    let entry = next_entry(&mut at_carol).await;
    assert_eq!((entry.kind, entry.seq), (EntryKind::Member, before.seq + 1), "the removal itself still comes");
    alice.api.send_message(room, &text("without carol")).await.unwrap();
    assert!(carol.api.conversation(room).await.unwrap_err().is(Code::NotFound));
    assert!(carol.api.log(room, 0, 10).await.unwrap_err().is(Code::NotFound));
    assert!(carol.api.send_message(room, &text("still here?")).await.unwrap_err().is(Code::NotFound));
    let repeat = at_carol.send_message(Target::Conversation(room), &kept).await.unwrap();
    assert_eq!(repeat.seq, before.seq, "a repeat gets the first one's ack also after the sender's removal");
    alice.api.add_member(room, carol.user_id, None).await.unwrap();
    let joined = next(&mut at_carol, |body| match body {
        Body::Entry(entry) => panic!("{entry:?} came before conversation_joined"),
        Body::Notification(note) if note.event == "conversation_joined" => note.seq,
        _ => None,
    })
    .await;
    assert_eq!(joined, before.seq + 3);
    assert_eq!(next_entry(&mut at_carol).await.seq, joined);
    let log = carol.api.log(room, 0, 100).await.unwrap();
    assert_eq!(log.items.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [joined], "who joins reads from there on");
}

async fn history_and_log(alice: &Person, stranger: &Person) {
    let room = group(alice, &[]).await;
    for number in 0..5 {
        alice.api.send_message(room, &text(&number.to_string())).await.unwrap();
    }
    let page = entrenous_client::api::HistoryPage { limit: Some(2), before: Some(6), ..Default::default() };
    let history = alice.api.history(room, page).await.unwrap();
    assert_eq!(history.items.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [5, 4], "newest first");
    assert!(history.has_more);
    let log = alice.api.log(room, 1, 3).await.unwrap();
    assert_eq!(log.items.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [2, 3, 4], "oldest first");
    assert!(log.has_more);
    for limit in [0, 101] {
        let page = entrenous_client::api::HistoryPage { limit: Some(limit), ..Default::default() };
        assert!(alice.api.history(room, page).await.unwrap_err().is(Code::Invalid));
    }
    assert!(stranger.api.log(room, 0, 10).await.unwrap_err().is(Code::NotFound));
}
