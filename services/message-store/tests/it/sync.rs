//! Methods `memberships`, `attach` and `add_device`.

use diesel_async::SimpleAsyncConnection;
use entrenous_model::{DeviceId, IdGenerator};
use entrenous_protocol::rpc::store::{
    AddDevice, AddDeviceRequest, Attach, AttachRequest, Attaching, MEMBERSHIPS_MAX, Memberships, ReadMemberships,
    ReadMembershipsRequest, SyncingDevice,
};

use crate::fixture::{Fixture, connect, device, into, new_message, sealed, to, user};

async fn memberships(fixture: &Fixture, number: u128, device_id: DeviceId) -> Memberships {
    let request = ReadMembershipsRequest { devices: vec![syncing(number, device_id, false)] };
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

fn syncing(number: u128, device_id: DeviceId, has_cursors: bool) -> SyncingDevice {
    SyncingDevice { user_id: user(number), device_id, has_cursors }
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
    // Without a search: the least that it can be, and where none is needed the same.
    let request = ReadMembershipsRequest { devices: vec![syncing(2, device, true)] };
    let quick = fixture.call::<ReadMemberships>(&request).await.unwrap().remove(0);
    for (one, quick) in known.conversations.iter().zip(&quick.conversations) {
        let start = if one.conversation_id == old { 0 } else { one.device_start_seq };
        assert_eq!((quick.conversation_id, quick.device_start_seq), (one.conversation_id, start));
    }
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
    let attach = async |connections: Vec<Attaching>| {
        fixture.call::<Attach>(&AttachRequest { connections, not_after: None }).await.unwrap()
    };
    let first = attach(vec![attaching(1, one), attaching(2, two), attaching(1, one)]).await;
    assert_eq!(first.connection_nos, [1, 1, 2]);
    let second = attach(vec![attaching(2, two), attaching(1, one)]).await;
    assert_eq!(second.connection_nos, [2, 3]);
    assert!(first.incarnation > 0 && first.incarnation == second.incarnation);
    assert!(attach(Vec::new()).await.connection_nos.is_empty());
    // What comes too late, by the clock that the store told, counts nothing.
    let late = AttachRequest { connections: vec![attaching(1, one)], not_after: second.at };
    let late = fixture.call::<Attach>(&late).await.unwrap();
    assert_eq!((late.connection_nos, late.at), (Vec::new(), None));
    assert_eq!(attach(vec![attaching(1, one)]).await.connection_nos, [4]);
    replica.stop().await;
}

/// Many users at once; one with so many conversations that the answer ends there.
#[tokio::test(flavor = "multi_thread")]
async fn many_users_are_read_at_once_as_far_as_they_fit() {
    let (fixture, replica) = Fixture::start().await;
    let shared = fixture.group(&[1, 2]).await.id;
    fixture.send(into(shared, 1, sealed("a"))).await;
    let mut connection = connect(&fixture.postgres).await;
    connection.batch_execute(BIG).await.unwrap();
    let read = async |numbers: &[u128]| {
        let devices = numbers.iter().map(|number| syncing(*number, device(*number), false)).collect();
        fixture.call::<ReadMemberships>(&ReadMembershipsRequest { devices }).await
    };
    let shape = |all: &[Memberships]| {
        all.iter().map(|one| (one.membership_version, one.conversations.len())).collect::<Vec<_>>()
    };
    let (small, big, none) = ((1, 1), (3_000, 3_000), (0, 0));
    let all = read(&[1, 9, 100, 2, 1]).await.unwrap();
    assert_eq!(shape(&all), [small, none, big, small, small]);
    assert!(all[2].conversations.is_sorted_by_key(|one| one.conversation_id));
    // Three of 3,000 do not fit beside each other, and one answer is below the bound of 2 MiB.
    let all = read(&[1, 100, 2, 100, 2, 100, 1]).await.unwrap();
    assert_eq!(shape(&all), [small, big, small, big, small]);
    assert!(serde_json::to_vec(&all).unwrap().len() < 2 << 20);
    // The first is given however many it has.
    let huge = read(&[101, 1]).await.unwrap();
    assert_eq!(shape(&huge), [(1, 12_000)]);
    let one_by_one = read(&[2]).await.unwrap();
    assert_eq!(one_by_one[0].conversations, read(&[1, 2]).await.unwrap()[1].conversations);
    assert!(read(&[]).await.unwrap().is_empty());
    assert_eq!(read(&[9; MEMBERSHIPS_MAX]).await.unwrap().len(), MEMBERSHIPS_MAX);
    read(&[9; MEMBERSHIPS_MAX + 1]).await.unwrap_err();
    replica.stop().await;
}

/// User 100 has 3,000 conversations, user 101 has 12,000.
const BIG: &str = "
    INSERT INTO messaging.conversations (id, kind, max_members, member_count, created_by)
    SELECT md5('big' || n)::uuid, 'group', 10, 2, gen_random_uuid() FROM generate_series(1, 12000) n;
    INSERT INTO messaging.heads (conversation_id, last_seq, last_entry_at)
    SELECT md5('big' || n)::uuid, 9007199254740991, now() - interval '1 year' FROM generate_series(1, 12000) n;
    INSERT INTO messaging.members (conversation_id, user_id, role, joined_seq, joined_at)
    SELECT md5('big' || n)::uuid, lpad(to_hex(u), 32, '0')::uuid, 'member', 9007199254740900, now() - interval '1 year'
    FROM generate_series(1, 12000) n, generate_series(100, 101) u WHERE u = 101 OR n <= 3000;
    INSERT INTO messaging.user_versions VALUES ('00000000-0000-0000-0000-000000000064', 3000),
        ('00000000-0000-0000-0000-000000000065', 1);
";
