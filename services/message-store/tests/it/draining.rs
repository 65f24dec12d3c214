//! Device messages that came with an entry get to the delivery tracker, whoever dies in between.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use entrenous_bus::{Bus, ServeOptions};
use entrenous_local_servers::permissions::Service as NatsService;
use entrenous_model::{DeviceId, EntryId};
use entrenous_protocol::{
    Code, Failure,
    rpc::{
        Done,
        tracker::{SendDeviceMessages, SendDeviceMessagesRequest},
    },
};
use entrenous_runtime::{Shutdown, Tasks};
use entrenous_test_support::wait_for;
use uuid::Uuid;

use crate::{
    fixture::{Fixture, connect, credential, device},
    function::count,
};

const LEFT: &str = "SELECT count(*) FROM messaging.pending_device_messages";
/// Ends every lease and wait.
const AGE: &str = "UPDATE messaging.pending_device_messages SET due_at = now() - interval '1 second'";
/// Devices of which the tracker knows something.
const REMOVED: u128 = 900;
const FULL: u128 = 901;
const CONFLICT: u128 = 902;

/// A tracker that takes everything or nothing, as the real one does.
#[derive(Clone, Default)]
struct Tracker {
    queued: Arc<Mutex<Vec<(DeviceId, EntryId)>>>,
    /// Queues, and never answers.
    is_mute: Arc<AtomicBool>,
    has_room: Arc<AtomicBool>,
}

impl Tracker {
    async fn serve(&self, fixture: &Fixture) -> (Bus, Shutdown) {
        let credential = credential(&fixture.nats, NatsService::DeliveryTracker);
        let bus = Bus::connect(&credential, "delivery-tracker").await.unwrap();
        let (tracker, stop) = (self.clone(), Shutdown::new());
        let handler = move |request, _| {
            let tracker = tracker.clone();
            async move { tracker.take(request).await }
        };
        let (tasks, options) = (Tasks::new(), ServeOptions::default());
        bus.serve::<SendDeviceMessages, _, _>(&tasks, &stop, options, handler).await.unwrap();
        (bus, stop)
    }

    async fn take(&self, request: SendDeviceMessagesRequest) -> Result<Done, Failure> {
        for message in &request.messages {
            let is = |number| message.device_id == device(number);
            if is(REMOVED) {
                return Err(Failure::new(Code::NotFound, "device"));
            } else if is(FULL) && !self.has_room.load(SeqCst) {
                return Err(Failure::new(Code::TooLarge, "full"));
            } else if is(CONFLICT) {
                return Err(Failure::new(Code::IdConflict, "another"));
            }
        }
        self.queued.lock().unwrap().extend(request.messages.iter().map(|message| (message.device_id, message.id)));
        if self.is_mute.load(SeqCst) {
            std::future::pending::<()>().await;
        }
        Ok(Done {})
    }

    fn queued(&self) -> Vec<(DeviceId, EntryId)> {
        self.queued.lock().unwrap().clone()
    }
}

/// A message of a sender for a device, so many seconds old.
fn row(sender: u128, to: u128, id: u128, age: u64, content: &str) -> String {
    let (sender, to_device) = (device(sender), device(to));
    let [id, user] = [id, to].map(Uuid::from_u128);
    format!(
        "INSERT INTO messaging.pending_device_messages
             (device_id, id, user_id, sender_id, sender_device_id, conversation_id, content, created_at, due_at)
         VALUES ('{to_device}', '{id}', '{user}', '{sender}', '{sender}', '{user}', '{content}',
                 now() - {age} * interval '1 second', now() - {age} * interval '1 second');"
    )
}

async fn insert(connection: &mut AsyncPgConnection, rows: impl Iterator<Item = String>) {
    connection.batch_execute(&rows.collect::<String>()).await.unwrap();
}

async fn are_left(connection: &mut AsyncPgConnection, wanted: i64) {
    let is_so = async || match count(connection, LEFT).await {
        left if left == wanted => Ok(()),
        left => Err(format!("{left} are left")),
    };
    wait_for("the rows", is_so).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_wait_for_the_tracker_and_leave_oldest_first() {
    let (fixture, replica) = Fixture::start().await;
    let mut connection = connect(&fixture.postgres).await;
    insert(&mut connection, (1..=250).map(|id| row(1, 10 + id % 7, id, 1_000 - u64::try_from(id).unwrap(), "{}")))
        .await;
    // Looked at, and kept.
    let is_claimed = async || match count(&mut connection, &format!("{LEFT} WHERE due_at > now()")).await {
        0 => Err("nobody has tried"),
        _ => Ok(()),
    };
    wait_for("a claim", is_claimed).await.unwrap();
    assert_eq!(count(&mut connection, LEFT).await, 250);
    let tracker = Tracker::default();
    let _serving = tracker.serve(&fixture).await;
    are_left(&mut connection, 0).await;
    let queued = tracker.queued();
    let ids: BTreeSet<_> = queued.iter().map(|(_, id)| *id).collect();
    assert_eq!((queued.len(), ids.len()), (250, 250), "each once");
    // Where none had to wait.
    insert(&mut connection, (501..=600).map(|id| row(1, 10 + id % 7, id, 1_000 - u64::try_from(id).unwrap(), "{}")))
        .await;
    are_left(&mut connection, 0).await;
    let later: Vec<_> = tracker.queued().split_off(250).into_iter().map(|(_, id)| id).collect();
    assert!(later.is_sorted(), "oldest first: {later:?}");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_dies_between_the_answer_and_the_deletion_leaves_it_to_another() {
    let (fixture, replica) = Fixture::start().await;
    let mut connection = connect(&fixture.postgres).await;
    let tracker = Tracker::default();
    tracker.is_mute.store(true, SeqCst);
    let (_mute, stop) = tracker.serve(&fixture).await;
    insert(&mut connection, (1..=20).map(|id| row(1, 10, id, 5, "{}"))).await;
    let has_some = async || if tracker.queued().is_empty() { Err("nothing has come") } else { Ok(()) };
    wait_for("a request", has_some).await.unwrap();
    replica.stop().await;
    stop.trigger();
    assert_eq!(count(&mut connection, LEFT).await, 20, "not known to be queued");
    tracker.is_mute.store(false, SeqCst);
    let _serving = tracker.serve(&fixture).await;
    let replica = fixture.replica().await;
    connection.batch_execute(AGE).await.unwrap();
    are_left(&mut connection, 0).await;
    let queued = tracker.queued();
    let ids: BTreeSet<_> = queued.iter().copied().collect();
    assert!(ids.len() == 20 && queued.len() > 20, "{} of {}: with the same ids again", ids.len(), queued.len());
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_be_queued_holds_up_nobody() {
    let (fixture, first) = Fixture::start().await;
    let second = fixture.replica().await;
    let mut connection = connect(&fixture.postgres).await;
    let tracker = Tracker::default();
    let _serving = tracker.serve(&fixture).await;
    let bad = [(REMOVED, "{}"), (FULL, "{}"), (CONFLICT, "{}"), (10, "no JSON")];
    let bad = bad.into_iter().enumerate().map(|(number, (to, content))| {
        row(1 + u128::try_from(number % 2).unwrap(), to, 1_000 + u128::try_from(number).unwrap(), 2_000, content)
    });
    let month = row(1, FULL, 2_000, 31 * 24 * 3_600, "{}");
    let good = (1..=150).map(|id| row(1 + id % 3, 10 + id % 7, id, 1_000, "{}"));
    insert(&mut connection, bad.chain([month]).chain(good)).await;
    are_left(&mut connection, 1).await;
    let queued = tracker.queued();
    let ids: BTreeSet<_> = queued.iter().map(|(_, id)| id.as_uuid().as_u128()).collect();
    assert_eq!((queued.len(), ids), (150, (1..=150).collect()), "each good one once");
    assert_eq!(count(&mut connection, &format!("{LEFT} WHERE due_at > now() + interval '10 minutes'")).await, 1);
    // What the device has made room for follows; after 30 days nobody waits for that any more.
    tracker.has_room.store(true, SeqCst);
    connection.batch_execute(AGE).await.unwrap();
    are_left(&mut connection, 0).await;
    assert_eq!(tracker.queued().last().map(|(device_id, _)| *device_id), Some(device(FULL)));
    first.stop().await;
    second.stop().await;
}
