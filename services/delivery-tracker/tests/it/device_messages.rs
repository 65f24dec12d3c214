//! The queues of device messages.

use std::time::Duration;

use diesel::{QueryableByName, sql_query, sql_types::BigInt};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use entrenous_bus::{Bus, LiveEvent};
use entrenous_model::EntryId;
use entrenous_protocol::{
    Code, Failure, RawValue,
    device_message::NewDeviceMessage,
    live::{LiveKind, UserNotice},
    rpc::tracker::{
        AckDeviceMessages, AckDeviceMessagesRequest, DeviceMessages, DeviceQueue, QUEUE_BYTES_MAX, QUEUE_MESSAGES_MAX,
        ReadDeviceMessages, ReadDeviceMessagesRequest, ReadDeviceQueues, ReadDeviceQueuesRequest, RemoveDeviceQueue,
        RemoveDeviceQueueRequest, SendDeviceMessages, SendDeviceMessagesRequest,
    },
};
use entrenous_test_support::wait_for;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::fixture::{Fixture, device, user};

const ANSWER_MAX: Duration = Duration::from_secs(10);
/// The device that sends, unless said otherwise.
const SENDER: u128 = 900;

/// For a device of user 1.
fn to(device_number: u128, id: u128, text: &str) -> NewDeviceMessage {
    let content = RawValue::from_string(serde_json::json!({ "text": text }).to_string()).unwrap();
    NewDeviceMessage { id: Uuid::from_u128(id).into(), user_id: user(1), device_id: device(device_number), content }
}

async fn send_from(bus: &Bus, sender: u128, messages: Vec<NewDeviceMessage>) -> Result<(), Failure> {
    let request =
        SendDeviceMessagesRequest { sender_id: user(sender + 1_000), sender_device_id: device(sender), messages };
    bus.call::<SendDeviceMessages>(&request, ANSWER_MAX).await.map(drop)
}

impl Fixture {
    async fn send(&self, messages: Vec<NewDeviceMessage>) -> Result<(), Failure> {
        send_from(&self.gateway, SENDER, messages).await
    }

    async fn page(&self, number: u128, after: u64, bytes_max: usize) -> DeviceMessages {
        let request = ReadDeviceMessagesRequest { device_id: device(number), after, bytes_max };
        self.gateway.call::<ReadDeviceMessages>(&request, ANSWER_MAX).await.unwrap()
    }

    /// Seq, id and content of all that waits, in pages.
    async fn waiting(&self, number: u128) -> Vec<(u64, EntryId, String)> {
        let mut all: Vec<(u64, EntryId, String)> = Vec::new();
        loop {
            let page = self.page(number, all.last().map_or(0, |last| last.0), 10_000).await;
            assert!(!page.messages.is_empty() || !page.has_more);
            all.extend(page.messages.into_iter().map(|one| (one.seq, one.id, one.content.get().to_owned())));
            if !page.has_more {
                return all;
            }
        }
    }

    async fn seqs(&self, number: u128) -> Vec<u64> {
        self.waiting(number).await.into_iter().map(|one| one.0).collect()
    }

    async fn acknowledge(&self, number: u128, up_to: u64) {
        let request = AckDeviceMessagesRequest { device_id: device(number), up_to };
        self.gateway.call::<AckDeviceMessages>(&request, ANSWER_MAX).await.unwrap();
    }

    async fn queues(&self, numbers: &[u128]) -> Vec<DeviceQueue> {
        let request = ReadDeviceQueuesRequest { device_ids: numbers.iter().copied().map(device).collect() };
        self.gateway.call::<ReadDeviceQueues>(&request, ANSWER_MAX).await.unwrap()
    }

    async fn sql(&self) -> AsyncPgConnection {
        AsyncPgConnection::establish(&self.postgres.url()).await.unwrap()
    }

    /// Queues whose counters are not those of what waits.
    async fn miscounted(&self) -> i64 {
        #[derive(QueryableByName)]
        struct Count {
            #[diesel(sql_type = BigInt)]
            count: i64,
        }
        let query = "SELECT count(*) AS count FROM delivery.device_queues q, LATERAL (
                         SELECT count(*) AS count, coalesce(sum(octet_length(m.content)), 0) AS bytes
                         FROM delivery.device_messages m WHERE m.device_id = q.device_id) m
                     WHERE q.waiting_count <> m.count OR q.waiting_bytes <> m.bytes";
        sql_query(query).get_result::<Count>(&mut self.sql().await).await.unwrap().count
    }
}

fn queue(last_seq: u64, has_waiting: bool) -> DeviceQueue {
    DeviceQueue { last_seq, has_waiting, expired_up_to: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_wait_in_order_until_they_are_acknowledged() {
    let fixture = Fixture::start().await;
    let replica = fixture.replica().await;
    fixture.send(vec![to(1, 1, "a"), to(2, 2, "b"), to(1, 3, "c")]).await.unwrap();
    fixture.send(vec![to(1, 4, "d")]).await.unwrap();
    let texts: Vec<_> = fixture.waiting(1).await.into_iter().map(|one| (one.0, one.2)).collect();
    let expected = [(1, "a"), (2, "c"), (3, "d")].map(|(seq, text)| (seq, format!("{{\"text\":\"{text}\"}}")));
    assert_eq!(texts, expected);
    let message = &fixture.page(2, 0, 1).await.messages[0];
    assert_eq!((message.sender_id, message.sender_device_id), (user(SENDER + 1_000), device(SENDER)));
    assert_eq!(fixture.queues(&[3, 2, 1]).await, [queue(0, false), queue(1, true), queue(3, true)]);

    fixture.acknowledge(1, 2).await;
    fixture.acknowledge(1, 1).await;
    assert_eq!(fixture.seqs(1).await, [3]);
    fixture.acknowledge(1, u64::MAX).await;
    fixture.acknowledge(3, 5).await;
    assert_eq!(fixture.seqs(1).await, [0; 0]);
    assert_eq!(fixture.queues(&[3, 2, 1]).await, [queue(0, false), queue(1, true), queue(3, false)]);
    fixture.send(vec![to(1, 5, "e"), to(3, 5, "e")]).await.unwrap();
    assert_eq!(fixture.seqs(1).await, [4], "no seq is given twice");
    assert_eq!(fixture.seqs(3).await, [1]);
    assert_eq!(fixture.miscounted().await, 0);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_bounded_and_hold_one_message_at_least() {
    let fixture = Fixture::start().await;
    let replica = fixture.replica().await;
    let text = "x".repeat(1_000);
    for batch in 0..5_u128 {
        fixture.send((0..50).map(|number| to(1, batch * 50 + number, &text)).collect()).await.unwrap();
    }
    let page = fixture.page(1, 0, 10).await;
    assert_eq!((page.messages.len(), page.has_more, page.last_seq), (1, true, 250));
    let page = fixture.page(1, 1, 3_100).await;
    assert_eq!(page.messages.iter().map(|one| one.seq).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(fixture.page(1, 0, usize::MAX).await.messages.len(), 200);
    let page = fixture.page(1, 50, usize::MAX).await;
    assert_eq!((page.messages.len(), page.has_more), (200, false));
    assert!(fixture.page(1, 250, 1).await.messages.is_empty());
    assert_eq!(fixture.seqs(1).await, (1..=250).collect::<Vec<_>>());
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_stored_once_also_after_it_was_acknowledged() {
    let fixture = Fixture::start().await;
    let replica = fixture.replica().await;
    fixture.send(vec![to(1, 1, "a")]).await.unwrap();
    fixture.send(vec![to(1, 1, "a"), to(1, 2, "b"), to(2, 1, "another device")]).await.unwrap();
    assert_eq!(fixture.seqs(1).await, [1, 2]);
    fixture.acknowledge(1, 2).await;
    fixture.send(vec![to(1, 1, "a")]).await.unwrap();
    assert_eq!(fixture.seqs(1).await, [0; 0]);

    let fault = fixture.send(vec![to(2, 9, "new"), to(1, 1, "other")]).await.unwrap_err();
    assert_eq!(fault.code, Code::IdConflict);
    let fault = send_from(&fixture.gateway, 901, vec![to(2, 9, "new"), to(1, 1, "a")]).await.unwrap_err();
    assert_eq!(fault.code, Code::IdConflict);
    let twice = vec![to(2, 9, "new"), to(2, 9, "new")];
    assert_eq!(fixture.send(twice).await.unwrap_err().code, Code::Invalid);
    assert_eq!(fixture.seqs(2).await, [1], "all or nothing");
    assert_eq!(fixture.miscounted().await, 0);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_takes_nothing_and_stops_the_whole_send() {
    let fixture = Fixture::start().await;
    let replica = fixture.replica().await;
    let max = u128::from(QUEUE_MESSAGES_MAX);
    for start in (0..max).step_by(100) {
        fixture.send((start..start + 100).map(|id| to(1, id, "x")).collect()).await.unwrap();
    }
    fixture.send(vec![to(1, 5, "x")]).await.unwrap();
    let fault = fixture.send(vec![to(2, 1, "y"), to(1, max, "x")]).await.unwrap_err();
    assert_eq!((fault.code, &fault.extra["device_id"]), (Code::TooLarge, &serde_json::json!(device(1))));
    assert_eq!(fixture.seqs(2).await, [0; 0]);
    fixture.acknowledge(1, 1).await;
    fixture.send(vec![to(1, max, "x")]).await.unwrap();

    let half = "x".repeat(QUEUE_BYTES_MAX / 4);
    for id in 0..3 {
        fixture.send(vec![to(2, id, &half)]).await.unwrap();
    }
    assert_eq!(fixture.send(vec![to(2, 3, &half)]).await.unwrap_err().code, Code::TooLarge);
    assert_eq!(fixture.miscounted().await, 0);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_fill_one_queue_without_a_hole() {
    let fixture = Fixture::start().await;
    let replicas = [fixture.replica().await, fixture.replica().await];
    let mut sends: JoinSet<Result<(), Failure>> = JoinSet::new();
    for number in 0..60_u128 {
        let gateway = fixture.gateway.clone();
        // The order of the devices differs, and each send is made twice.
        let devices = if number % 2 == 0 { [1, 2, 3] } else { [3, 1, 2] };
        let messages: Vec<_> =
            devices.iter().flat_map(|target| (0..4).map(|id| to(*target, number * 4 + id, "x"))).collect();
        sends.spawn(async move {
            let (one, other) = tokio::join!(
                send_from(&gateway, SENDER, messages.clone()),
                send_from(&gateway, SENDER, messages.clone())
            );
            one.and(other)
        });
        if sends.len() == 16 {
            sends.join_next().await.unwrap().unwrap().unwrap();
        }
        if number % 10 == 0 {
            fixture.acknowledge(3, 1).await;
        }
    }
    for answer in sends.join_all().await {
        answer.unwrap();
    }
    fixture.acknowledge(3, 1).await;
    assert_eq!(fixture.seqs(1).await, (1..=240).collect::<Vec<_>>());
    assert_eq!(fixture.seqs(2).await, (1..=240).collect::<Vec<_>>());
    assert_eq!(fixture.seqs(3).await, (2..=240).collect::<Vec<_>>());
    assert_eq!(fixture.miscounted().await, 0);
    for replica in replicas {
        replica.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_waited_for_too_long_is_not_read_and_is_deleted() {
    let fixture = Fixture::start().await;
    let replica = fixture.replica().await;
    fixture.send(vec![to(1, 1, "a"), to(1, 2, "b"), to(2, 1, "c")]).await.unwrap();
    fixture.send(vec![to(1, 3, "d")]).await.unwrap();
    for table in ["device_messages", "device_message_ids"] {
        let age = format!(
            "UPDATE delivery.{table} SET expires_at = now(){} \
             WHERE id <> '00000000-0000-0000-0000-000000000003'",
            if table == "device_messages" { ", sent_at = now() - interval '30 days'" } else { "" }
        );
        sql_query(age).execute(&mut fixture.sql().await).await.unwrap();
    }
    assert_eq!(fixture.seqs(1).await, [3]);
    // It looks when it starts.
    let other = fixture.replica().await;
    let is_deleted = async || match fixture.queues(&[2]).await[..] {
        [queue] if !queue.has_waiting => Ok(()),
        ref queues => Err(format!("{queues:?}")),
    };
    wait_for("the deletion", is_deleted).await.unwrap();
    let told = |up_to, queue| DeviceQueue { expired_up_to: Some(up_to), ..queue };
    assert_eq!(fixture.queues(&[1, 2]).await, [told(2, queue(3, true)), told(1, queue(1, false))]);
    fixture.acknowledge(1, 1).await;
    assert_eq!(fixture.queues(&[1]).await, [told(2, queue(3, true))], "until that one is acknowledged");
    fixture.acknowledge(1, 2).await;
    fixture.acknowledge(2, 1).await;
    assert_eq!(fixture.queues(&[1, 2]).await, [queue(3, true), queue(1, false)]);
    assert_eq!(fixture.miscounted().await, 0);
    fixture.send(vec![to(2, 1, "c")]).await.unwrap();
    assert_eq!(fixture.seqs(2).await, [2], "forgotten, and so it is a new one");
    replica.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_waits_for_a_removed_device() {
    let fixture = Fixture::start().await;
    let replica = fixture.replica().await;
    fixture.send(vec![to(1, 1, "a"), to(2, 1, "a")]).await.unwrap();
    for number in [1, 1, 3] {
        let request = RemoveDeviceQueueRequest { device_id: device(number) };
        fixture.gateway.call::<RemoveDeviceQueue>(&request, ANSWER_MAX).await.unwrap();
    }
    assert_eq!(fixture.seqs(1).await, [0; 0]);
    for number in [1, 3] {
        let fault = fixture.send(vec![to(2, 2, "b"), to(number, 2, "b")]).await.unwrap_err();
        assert_eq!(fault.code, Code::NotFound);
    }
    assert_eq!(fixture.seqs(2).await, [1]);
    assert_eq!(fixture.miscounted().await, 0);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_told_how_far_their_queue_is() {
    let fixture = Fixture::start().await;
    let replica = fixture.replica().await;
    let mut live = fixture.gateway.subscribe_live().await.unwrap();
    fixture.send(vec![to(1, 1, "a"), to(1, 2, "b")]).await.unwrap();
    fixture.send(vec![to(1, 2, "b")]).await.unwrap();
    let mut told = Vec::new();
    while told.len() < 2 {
        let LiveEvent::Messages(messages) = live.next().await.unwrap() else { panic!("interrupted") };
        for message in messages.into_iter().filter(|message| message.preamble.kind == LiveKind::UserNotice) {
            assert_eq!(message.preamble.subject, user(1).as_uuid());
            told.push(serde_json::from_slice::<UserNotice>(&message.body).unwrap());
        }
    }
    let notice = UserNotice::DeviceMessages { device_id: device(1), last_seq: 2 };
    assert_eq!(told, [notice.clone(), notice], "a repeat tells again");
    replica.stop().await;
}
