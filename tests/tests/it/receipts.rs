//! What was delivered and read: told to authors and own devices, counted, and explained.

use entrenous_client::{
    Connection,
    api::HistoryPage,
    frame::{Body, Receipt},
    outgoing,
};
use entrenous_model::{ConversationId, IdGenerator};
use entrenous_protocol::{
    entry::ConversationKind,
    rest::{MarkRead, UnreadEntries},
};
use entrenous_system_tests::{Person, Shape, System};

use crate::support::{conversation, group, live, next, next_entry, text, until};

async fn next_read(connection: &mut Connection) -> Receipt {
    next(connection, |body| match body {
        Body::Read(receipt) => Some(receipt),
        _ => None,
    })
    .await
}

async fn unread_in_list(person: &Person, room: ConversationId) -> (u64, u64) {
    let page = person.api.conversations(None).await.unwrap();
    let found = page.items.into_iter().find(|conversation| conversation.id == room).unwrap();
    let alone = person.api.conversation(room).await.unwrap();
    assert_eq!((alone.read_seq, alone.unread_count), (found.read_seq, found.unread_count));
    (found.read_seq, found.unread_count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_reach_the_author_and_the_own_devices() {
    let system = System::start(&Shape::one_process()).await.unwrap();
    let alice = Person::new(system.gateway(), "alice").await.unwrap();
    let bob = Person::new(system.gateway(), "bob").await.unwrap();
    let carol = Person::new(system.gateway(), "carol").await.unwrap();
    let bobs_laptop = Person::login(system.gateway(), "bob", "laptop").await.unwrap();
    let room = group(&alice, &[&bob, &carol]).await;
    let (mut at_alice, mut at_bob) = (live(&alice).await, live(&bob).await);
    let (mut at_laptop, mut at_carol) = (live(&bobs_laptop).await, live(&carol).await);
    let mut sent = Vec::new();
    for number in 0..3 {
        sent.push(alice.api.send_message(room, &text(&number.to_string())).await.unwrap());
    }
    let last = sent[2].seq;
    for connection in [&mut at_bob, &mut at_laptop, &mut at_carol] {
        while next_entry(connection).await.seq < last {}
    }
    assert_eq!(unread_in_list(&bob, room).await, (0, 3));
    assert_eq!(bob.api.unread(room).await.unwrap(), UnreadEntries { count: 3, seqs: vec![2, 3, 4] });
    assert_eq!(unread_in_list(&alice, room).await, (last, 0), "one's own");

    let id = IdGenerator.next();
    let reply = at_bob.handle().request(id, outgoing::read_receipt(Some(id), room, 3)).await.unwrap();
    reply.wait().await.unwrap();
    let told = next_read(&mut at_alice).await;
    assert_eq!((told.conversation_id, told.user_id, told.device_id, told.seq), (room, bob.user_id, None, 3));
    let told = next_read(&mut at_laptop).await;
    assert_eq!((told.user_id, told.device_id, told.seq), (bob.user_id, Some(bob.device_id), 3));
    assert_eq!(unread_in_list(&bobs_laptop, room).await, (3, 1));
    assert_eq!(bob.api.unread(room).await.unwrap().seqs, [4]);

    let receipts = alice.api.receipts(room, sent[0].id).await.unwrap();
    assert_eq!((receipts.items.len(), receipts.delivered_count, receipts.read_count), (2, 1, 1));
    let bobs = receipts.items.iter().find(|item| item.user_id == bob.user_id).unwrap();
    assert!(bobs.delivered_at.is_some() && bobs.read_at == Some(told.at));
    let receipts = alice.api.receipts(room, sent[2].id).await.unwrap();
    assert_eq!((receipts.delivered_count, receipts.read_count), (0, 0));

    // Nobody but authors hears of it: the first that carol is told is about her own message. Who sends has read.
    let hers = carol.api.send_message(room, &text("hers")).await.unwrap();
    bob.api.mark_read(&MarkRead { conversation_id: room, seq: None, message_ids: Some(vec![hers.id]) }).await.unwrap();
    let told = next_read(&mut at_carol).await;
    assert_eq!((told.user_id, told.seq), (bob.user_id, hers.seq));
    assert_eq!(unread_in_list(&bob, room).await, (hers.seq, 0));
    let heard = [next_read(&mut at_alice).await, next_read(&mut at_alice).await];
    assert!(heard.iter().any(|told| (told.user_id, told.seq) == (carol.user_id, hers.seq)), "sending reads: {heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_to_be_read_is_checked() {
    let system = System::start(&Shape::one_process()).await.unwrap();
    let alice = Person::new(system.gateway(), "alice").await.unwrap();
    let bob = Person::new(system.gateway(), "bob").await.unwrap();
    let room = group(&alice, &[&bob]).await;
    let foreign = group(&alice, &[]).await;
    alice.api.send_message(room, &text("one")).await.unwrap();
    let mark = |conversation_id, seq, message_ids| MarkRead { conversation_id, seq, message_ids };
    for (read, status) in [
        (mark(foreign, Some(1), None), 404),
        (mark(room, None, None), 422),
        (mark(room, Some(1), Some(Vec::new())), 422),
        (mark(room, None, Some(Vec::new())), 422),
        (mark(room, None, Some(vec![IdGenerator.next()])), 404),
    ] {
        let refused = bob.api.mark_read(&read).await.unwrap_err();
        assert_eq!(refused.status(), Some(status), "{read:?}: {refused}");
    }
    assert_eq!(unread_in_list(&bob, room).await, (0, 1));
    assert!(bob.api.unread(foreign).await.is_err());
    // Beyond the head is at the head.
    bob.api.mark_read(&mark(room, Some(99), None)).await.unwrap();
    assert_eq!(unread_in_list(&bob, room).await, (2, 0));
    alice.api.send_message(room, &text("two")).await.unwrap();
    assert_eq!(unread_in_list(&bob, room).await, (2, 1));
    until("alice sees it", async || {
        let page = alice.api.history(room, HistoryPage::default()).await.unwrap();
        let receipts = alice.api.receipts(room, page.items[1].id).await.unwrap();
        Some(if receipts.read_count == 1 { "alice sees it" } else { "not yet" }.to_owned())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_device_has_not_acknowledged_is_listed_the_most_urgent_first() {
    let system = System::start(&Shape::one_process()).await.unwrap();
    let alice = Person::new(system.gateway(), "alice").await.unwrap();
    let bob = Person::new(system.gateway(), "bob").await.unwrap();
    let room = group(&alice, &[&bob]).await;
    for number in 0..3 {
        alice.api.send_message(room, &text(&number.to_string())).await.unwrap();
    }
    let direct = alice.api.create_conversation(&conversation(ConversationKind::Direct, &[&bob])).await.unwrap().id;
    alice.api.send_message(direct, &text("urgent")).await.unwrap();
    let listed = async |limit| {
        let page = bob.api.undelivered(limit).await.unwrap();
        let places: Vec<_> = page.items.iter().map(|entry| (entry.conversation_id, entry.seq)).collect();
        (places, page.has_more)
    };
    let all = vec![(direct, 1), (room, 1), (room, 2), (room, 3), (room, 4)];
    assert_eq!(listed(100).await, (all.clone(), false));
    assert_eq!(listed(2).await, (all[..2].to_vec(), true));
    assert_eq!(listed(1).await, (all[..1].to_vec(), true));
    let at_bob = live(&bob).await;
    for (conversation, seq) in [(direct, 1), (room, 3)] {
        let id = IdGenerator.next();
        let receipt = outgoing::delivery_receipt(Some(id), conversation, seq);
        at_bob.handle().request(id, receipt).await.unwrap().wait().await.unwrap();
    }
    let left = (vec![(room, 4)], false);
    until("acknowledged", async || Some(if listed(100).await == left { "acknowledged" } else { "not yet" }.to_owned()))
        .await;
    // Each device for itself: another one begins when it was added.
    let laptop = Person::login(system.gateway(), "bob", "laptop").await.unwrap();
    assert!(laptop.api.undelivered(10).await.unwrap().items.is_empty());
}
