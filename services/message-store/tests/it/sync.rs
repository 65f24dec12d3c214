//! Methods `memberships`, `attach` and `add_device`.

use entrenous_model::{DeviceId, IdGenerator};
use entrenous_protocol::rpc::store::{
    AddDevice, AddDeviceRequest, Attach, AttachRequest, Attaching, Memberships, ReadMemberships, ReadMembershipsRequest,
};

use crate::fixture::{Fixture, into, new_message, sealed, to, user};

async fn memberships(fixture: &Fixture, number: u128, device_id: DeviceId) -> Memberships {
    let request = ReadMembershipsRequest { devices: vec![attaching(number, device_id)] };
    fixture.call::<ReadMemberships>(&request).await.unwrap().remove(0)
}

/// Times are in milliseconds: a device of another one than everything before it.
fn later_device() -> DeviceId {
    let moment = |device: DeviceId| device.as_uuid().get_timestamp().unwrap().to_unix();
    let now = moment(IdGenerator.next());
    loop {
        let device = IdGenerator.next();
        if moment(device) > now {
            return device;
        }
    }
}

fn attaching(number: u128, device_id: DeviceId) -> Attaching {
    Attaching { user_id: user(number), device_id }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_begins_where_the_head_was_when_it_was_added() {
    let (fixture, replica) = Fixture::start().await;
    let old = fixture.group(&[1, 2]).await.id;
    for _ in 0..5 {
        fixture.send(into(old, 1, sealed("a"))).await;
    }
    let quiet = to(2, 1, sealed("a"));
    fixture.send(quiet.clone()).await;
    let device = later_device();
    let add = AddDeviceRequest { user_id: user(2), device_id: device };
    fixture.call::<AddDevice>(&add).await.unwrap();
    fixture.call::<AddDevice>(&add).await.unwrap();
    later_device();
    for _ in 0..4 {
        fixture.send(into(old, 1, sealed("b"))).await;
    }
    let young = fixture.group(&[1, 2]).await.id;
    fixture.send(into(young, 1, sealed("c"))).await;

    let known = memberships(&fixture, 2, device).await;
    let start = |id| {
        let found = known.conversations.iter().find(|membership| membership.conversation_id == id).unwrap();
        (found.device_start_seq, found.last_seq, found.readable_from)
    };
    assert_eq!(start(old), (6, 10, 1));
    assert_eq!(start(quiet.conversation_id), (1, 1, 1));
    assert_eq!(start(young), (0, 2, 1));
    assert_eq!(known.membership_version, 3);
    // The device that nobody has told of: the moment in its id, which is now.
    let unknown = memberships(&fixture, 2, later_device()).await;
    assert!(unknown.conversations.iter().all(|membership| membership.device_start_seq == membership.last_seq));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removals_and_mentions_are_told() {
    let (fixture, replica) = Fixture::start().await;
    let (left, stays) = (fixture.group(&[1, 2]).await.id, fixture.group(&[1, 2]).await.id);
    let device = IdGenerator.next::<DeviceId>();
    fixture.call::<AddDevice>(&AddDeviceRequest { user_id: user(2), device_id: device }).await.unwrap();
    later_device();
    fixture.remove(1, left, 2).await.unwrap();
    let before = memberships(&fixture, 2, device).await;
    assert_eq!(before.left, [(left, 2)]);
    assert_eq!(before.conversations.len(), 1);
    assert!(!before.conversations[0].has_mention);
    let json = format!(r#"{{"content":{{"scheme":"x","ciphertext":"aGk="}},"mentions":["{0}","{0}"]}}"#, user(2));
    let message = into(stays, 1, new_message(&json));
    fixture.send(message.clone()).await;
    fixture.send(message).await;
    assert!(memberships(&fixture, 2, device).await.conversations[0].has_mention);
    assert!(!memberships(&fixture, 1, device).await.conversations.iter().any(|membership| membership.has_mention));
    assert!(memberships(&fixture, 9, device).await.conversations.is_empty());
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_counted_by_device() {
    let (fixture, replica) = Fixture::start().await;
    let (one, two) = (IdGenerator.next::<DeviceId>(), IdGenerator.next::<DeviceId>());
    let attach =
        async |connections: Vec<Attaching>| fixture.call::<Attach>(&AttachRequest { connections }).await.unwrap();
    let first = attach(vec![attaching(1, one), attaching(2, two), attaching(1, one)]).await;
    assert_eq!(first.connection_nos, [1, 1, 2]);
    let second = attach(vec![attaching(2, two), attaching(1, one)]).await;
    assert_eq!(second.connection_nos, [2, 3]);
    assert!(first.incarnation > 0 && first.incarnation == second.incarnation);
    assert!(attach(Vec::new()).await.connection_nos.is_empty());
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_bounded_and_gives_one_user_at_least() {
    let (fixture, replica) = Fixture::start().await;
    let mut connection = crate::fixture::connect(&fixture.postgres).await;
    // Users 1 and 2 have six thousand conversations each, user 3 has none.
    let many = "INSERT INTO messaging.conversations (id, kind, max_members, member_count, created_by)
                SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'group', 10, 2,
                       '00000000-0000-0000-0000-000000000001' FROM generate_series(1, 6000) n;
                INSERT INTO messaging.heads (conversation_id) SELECT id FROM messaging.conversations;
                INSERT INTO messaging.members (conversation_id, user_id, role, joined_seq, joined_at)
                SELECT c.id, ('00000000-0000-0000-0000-00000000000' || u)::uuid, 'member', 1, now()
                FROM messaging.conversations c, generate_series(1, 2) u";
    diesel_async::SimpleAsyncConnection::batch_execute(&mut connection, many).await.unwrap();
    let devices = [1, 2, 3].map(|number| attaching(number, IdGenerator.next())).to_vec();
    let ask = async |devices: &[Attaching]| {
        let request = ReadMembershipsRequest { devices: devices.to_vec() };
        let read = fixture.call::<ReadMemberships>(&request).await.unwrap();
        read.iter().map(|memberships| memberships.conversations.len()).collect::<Vec<_>>()
    };
    assert_eq!(ask(&devices).await, [6_000], "the others are asked for again");
    assert_eq!(ask(&devices[1..]).await, [6_000, 0]);
    replica.stop().await;
}
