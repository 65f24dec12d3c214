//! Device messages: queued until acknowledged, in order, for each device alone.

use entrenous_client::{
    Connection, Refusal, RequestError, SyncStart,
    frame::{Body, SyncComplete},
    outgoing,
};
use entrenous_model::{DeviceId, EntryId, IdGenerator, UserId};
use entrenous_protocol::{
    RawValue,
    device_message::{DeviceMessage, NewDeviceMessage},
};
use entrenous_system_tests::{Person, Shape, System};
use serde_json::json;

use crate::support::{live, next};

pub(crate) fn to(person: &Person, content: &str) -> NewDeviceMessage {
    let content = RawValue::from_string(json!({ "ciphertext": content }).to_string()).unwrap();
    NewDeviceMessage { id: IdGenerator.next(), user_id: person.user_id, device_id: person.device_id, content }
}

pub(crate) async fn send(
    connection: &Connection,
    messages: &[NewDeviceMessage],
    complete_for: Option<UserId>,
) -> Result<(), Box<Refusal>> {
    let id: EntryId = IdGenerator.next();
    let sent = connection.handle().request(id, outgoing::device_message(id, messages, complete_for)).await;
    match sent.unwrap().wait().await {
        Ok(_) => Ok(()),
        Err(RequestError::Refused(refusal)) => Err(refusal),
        Err(error) => panic!("{error}"),
    }
}

pub(crate) async fn acknowledge(connection: &Connection, up_to: u64) {
    let id = IdGenerator.next();
    let sent = connection.handle().request(id, outgoing::device_message_ack(Some(id), up_to)).await;
    sent.unwrap().wait().await.unwrap();
}

pub(crate) async fn next_message(connection: &mut Connection) -> DeviceMessage {
    next(connection, |body| match body {
        Body::DeviceMessage(message) => Some(*message),
        _ => None,
    })
    .await
}

/// The seqs of the next messages.
pub(crate) async fn next_seqs(connection: &mut Connection, count: usize) -> Vec<u64> {
    let mut seqs = Vec::new();
    while seqs.len() < count {
        seqs.push(next_message(connection).await.seq);
    }
    seqs
}

/// Syncs; gives the seqs that came before its end, and the last seq that it names.
async fn sync(connection: &mut Connection) -> (Vec<u64>, u64) {
    let id = IdGenerator.next();
    let _reply = connection.handle().request(id, outgoing::sync(id, &SyncStart::default())).await.unwrap();
    let mut seqs = Vec::new();
    let SyncComplete { device_messages, .. } = next(connection, |body| match body {
        Body::DeviceMessage(message) => {
            seqs.push(message.seq);
            None
        }
        Body::SyncComplete(complete) => Some(complete),
        _ => None,
    })
    .await;
    assert!(!device_messages.has_more);
    (seqs, device_messages.last_seq)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_wait_for_their_device_until_it_acknowledges_them() {
    let system = System::start(&Shape::one_process()).await.unwrap();
    let alice = Person::new(system.gateway(), "alice").await.unwrap();
    let phone = Person::new(system.gateway(), "bob").await.unwrap();
    let laptop = Person::login(system.gateway(), "bob", "laptop").await.unwrap();
    let at_alice = live(&alice).await;

    // Offline: queued for each device alone, over reconnects.
    let first = to(&phone, "1");
    send(&at_alice, &[first.clone(), to(&phone, "2"), to(&laptop, "3")], None).await.unwrap();
    send(&at_alice, &[first], None).await.unwrap();
    for _ in 0..2 {
        let mut at_phone = phone.connect().await.unwrap();
        assert_eq!(sync(&mut at_phone).await, (vec![1, 2], 2));
        assert_eq!(sync(&mut at_phone).await, (vec![], 2), "once on a connection");
        at_phone.close().await;
    }
    let mut at_phone = phone.connect().await.unwrap();
    acknowledge(&at_phone, 1).await;
    assert_eq!(sync(&mut at_phone).await, (vec![2], 2));

    // Live.
    let mut at_laptop = live(&laptop).await;
    let message = next_message(&mut at_laptop).await;
    assert_eq!((message.seq, message.content.get()), (1, r#"{"ciphertext":"3"}"#));
    assert_eq!((message.sender_id, message.sender_device_id), (alice.user_id, alice.device_id));
    for number in 0..20 {
        let messages = [to(&phone, &number.to_string()), to(&laptop, &number.to_string())];
        send(&at_alice, &messages, Some(phone.user_id)).await.unwrap();
    }
    assert_eq!(next_seqs(&mut at_phone, 20).await, (3..=22).collect::<Vec<_>>());
    assert_eq!(next_seqs(&mut at_laptop, 20).await, (2..=21).collect::<Vec<_>>());
    acknowledge(&at_phone, 22).await;
    at_phone.close().await;
    let mut at_phone = phone.connect().await.unwrap();
    send(&at_alice, &[to(&phone, "last")], None).await.unwrap();
    assert_eq!(sync(&mut at_phone).await, (vec![23], 23), "none before the first sync");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_send_that_misses_a_device_or_names_a_removed_one_stores_nothing() {
    let system = System::start(&Shape::one_process()).await.unwrap();
    let alice = Person::new(system.gateway(), "alice").await.unwrap();
    let phone = Person::new(system.gateway(), "bob").await.unwrap();
    let laptop = Person::login(system.gateway(), "bob", "laptop").await.unwrap();
    let (at_alice, mut at_phone) = (live(&alice).await, live(&phone).await);
    let list = |refusal: &Refusal, name: &str| -> Vec<DeviceId> {
        serde_json::from_value(refusal.extra[name].clone()).unwrap()
    };

    let refusal = send(&at_alice, &[to(&phone, "1")], Some(phone.user_id)).await.unwrap_err();
    assert_eq!(refusal.code, "devices_mismatch");
    assert_eq!((list(&refusal, "missing"), list(&refusal, "stale")), (vec![laptop.device_id], vec![]));
    send(&at_phone, &[to(&laptop, "to oneself")], Some(phone.user_id)).await.unwrap();

    phone.api.remove_device(laptop.device_id).await.unwrap();
    let both = [to(&phone, "2"), to(&laptop, "2")];
    let refusal = send(&at_alice, &both, Some(phone.user_id)).await.unwrap_err();
    assert_eq!((list(&refusal, "missing"), list(&refusal, "stale")), (vec![], vec![laptop.device_id]));
    assert_eq!(send(&at_alice, &both, None).await.unwrap_err().code, "not_found");
    let foreign = NewDeviceMessage { user_id: alice.user_id, ..to(&phone, "3") };
    assert_eq!(send(&at_alice, &[foreign], None).await.unwrap_err().code, "not_found");

    let kept = to(&phone, "4");
    send(&at_alice, std::slice::from_ref(&kept), Some(phone.user_id)).await.unwrap();
    let message = next_message(&mut at_phone).await;
    assert_eq!((message.seq, message.id), (1, kept.id), "the first that was stored");
    let other = NewDeviceMessage { content: to(&phone, "5").content, ..kept };
    assert_eq!(send(&at_alice, &[other], None).await.unwrap_err().code, "id_conflict");
}
