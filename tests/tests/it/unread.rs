//! What is unread, on every device alike, after own messages, removal and return.

use entrenous_client::{Target, frame::Body, outgoing};
use entrenous_model::{ConversationId, IdGenerator};
use entrenous_protocol::{Code, rest::MarkRead};
use entrenous_system_tests::{Person, Shape, System};

use crate::support::{group, live, next, text, until};

/// Read cursor, count, and the seqs that make it up, as a device is told.
async fn unread(device: &Person, room: ConversationId) -> (u64, u64, Vec<u64>) {
    let found = device.api.conversation(room).await.unwrap();
    (found.read_seq, found.unread_count, device.api.unread(room).await.unwrap().seqs)
}

async fn say(person: &Person, room: ConversationId, count: usize) {
    for number in 0..count {
        person.api.send_message(room, &text(&number.to_string())).await.unwrap();
    }
}

async fn read(device: &Person, conversation_id: ConversationId, seq: u64) -> Result<(), entrenous_client::ApiError> {
    device.api.mark_read(&MarkRead { conversation_id, seq: Some(seq), message_ids: None }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_device_of_a_person_has_the_same_unread() {
    let system = System::start(&Shape { gateways: 2, ..Shape::one_process() }).await.unwrap();
    let alice = Person::new(system.gateway(), "alice").await.unwrap();
    let phone = Person::new(system.gateway(), "bob").await.unwrap();
    // At the other gateway: what one has stored, the other knows at once.
    let laptop = Person::login(&system.gateways()[1], "bob", "laptop").await.unwrap();
    let room = group(&alice, &[&phone]).await;
    let same = async |expected: (u64, u64, Vec<u64>)| {
        for device in [&phone, &laptop] {
            assert_eq!(unread(device, room).await, expected);
        }
    };
    say(&alice, room, 3).await;
    same((0, 3, vec![2, 3, 4])).await;
    read(&laptop, room, 3).await.unwrap();
    same((3, 1, vec![4])).await;

    // Sending by WebSocket reads, as soon as it is acknowledged.
    let at_phone = live(&phone).await;
    let own = at_phone.send_message(Target::Conversation(room), &text("mine")).await.unwrap();
    same((own.seq, 0, vec![])).await;
    say(&alice, room, 2).await;
    same((own.seq, 2, vec![6, 7])).await;
    read(&phone, room, 2).await.unwrap();
    same((own.seq, 2, vec![6, 7])).await;
    // A device that comes later stands where the person does.
    let tablet = Person::login(system.gateway(), "bob", "tablet").await.unwrap();
    assert_eq!(unread(&tablet, room).await, (own.seq, 2, vec![6, 7]));

    // By a frame: told to the other devices, and known as soon as they are told.
    let mut at_laptop = live(&laptop).await;
    let id = IdGenerator.next();
    let receipt = outgoing::read_receipt(Some(id), room, 6);
    at_phone.handle().request(id, receipt).await.unwrap().wait().await.unwrap();
    let told = next(&mut at_laptop, |body| match body {
        // Alice has read what was before her own messages: bob is told so too, at any time.
        Body::Read(receipt) if receipt.user_id == phone.user_id => Some((receipt.device_id, receipt.seq)),
        _ => None,
    })
    .await;
    assert_eq!(told, (Some(phone.device_id), 6));
    same((6, 1, vec![7])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_begins_anew() {
    let system = System::start(&Shape::one_process()).await.unwrap();
    let alice = Person::new(system.gateway(), "alice").await.unwrap();
    let bob = Person::new(system.gateway(), "bob").await.unwrap();
    let laptop = Person::login(system.gateway(), "bob", "laptop").await.unwrap();
    let room = group(&alice, &[&bob]).await;
    say(&alice, room, 4).await;
    read(&bob, room, 3).await.unwrap();
    assert_eq!(unread(&bob, room).await, (3, 2, vec![4, 5]));

    alice.api.remove_member(room, bob.user_id).await.unwrap();
    say(&alice, room, 3).await;
    assert!(bob.api.conversation(room).await.unwrap_err().is(Code::NotFound));
    assert!(bob.api.unread(room).await.unwrap_err().is(Code::NotFound));
    assert!(read(&bob, room, 8).await.unwrap_err().is(Code::NotFound));
    let at_bob = bob.connect().await.unwrap();
    let id = IdGenerator.next();
    let refused = at_bob.handle().request(id, outgoing::read_receipt(Some(id), room, 9)).await.unwrap().wait().await;
    assert!(refused.unwrap_err().is(Code::NotFound));
    assert!(bob.api.conversations(None).await.unwrap().items.is_empty());

    let joined = 10;
    alice.api.add_member(room, bob.user_id, None).await.unwrap();
    for device in [&bob, &laptop] {
        assert_eq!(unread(device, room).await, (joined - 1, 0, vec![]), "what was missed is not unread");
    }
    say(&alice, room, 2).await;
    assert_eq!(unread(&laptop, room).await, (joined - 1, 2, vec![11, 12]));
    // Of what the device has not, the old part may not be read any more.
    until("from there on", async || {
        let seqs: Vec<_> = laptop.api.undelivered(10).await.unwrap().items.iter().map(|entry| entry.seq).collect();
        Some(if seqs == [joined, 11, 12] { "from there on".to_owned() } else { format!("{seqs:?}") })
    })
    .await;
    read(&bob, room, 2).await.unwrap();
    assert_eq!(unread(&bob, room).await, (joined - 1, 2, vec![11, 12]), "an old receipt moves nothing");
    say(&bob, room, 1).await;
    assert_eq!(unread(&laptop, room).await, (13, 0, vec![]));
}
