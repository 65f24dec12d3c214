//! What a store died before publishing is published by the others. The state is made, not waited for: batches are
//! committed by the function itself, and nobody publishes them.

use std::collections::BTreeMap;

use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use entrenous_bus::{LiveEvent, LiveSubscription, subjects::EVENTS_ENTRY_APPENDED};
use entrenous_model::ConversationId;
use entrenous_protocol::{
    event::{CloudEvent, EntryAppended},
    live::{LiveKind, LiveMessage},
    rpc::store::{ChangedSince, ChangedSinceRequest, ChangedSinceResponse},
};
use entrenous_test_support::wait_for;
use futures::StreamExt;

use crate::{
    fixture::{ANSWER_MAX, Fixture, connect, into, sealed},
    function::{call, count, line},
};

const UNMARKED: &str = "SELECT count(*) FROM messaging.feed WHERE NOT (live_done AND event_done)";

/// Commits batches of two messages each, which nobody publishes.
async fn commit(connection: &mut AsyncPgConnection, group: ConversationId, batches: u128) {
    for batch in 0..batches {
        let id = rand::random::<u64>();
        let message = |at: u128| line(group.as_uuid().as_u128(), u128::from(id) << 8 | batch << 4 | at, 1);
        call(connection, &[message(1), message(2)]).await.unwrap();
    }
}

/// The next entries' frames.
async fn frames(live: &mut LiveSubscription, wanted: usize) -> Vec<LiveMessage> {
    let mut heard = Vec::new();
    while heard.len() < wanted {
        match tokio::time::timeout(ANSWER_MAX, live.next()).await.unwrap().unwrap() {
            LiveEvent::Messages(messages) => {
                heard.extend(messages.into_iter().filter(|message| message.preamble.kind == LiveKind::Entry));
            }
            LiveEvent::Interrupted => panic!("interrupted"),
        }
    }
    heard
}

async fn until_marked(connection: &mut AsyncPgConnection) {
    wait_for("the marks", async || match count(connection, UNMARKED).await {
        0 => Ok(()),
        left => Err(format!("{left} are not marked")),
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_and_not_published_is_published_once_by_one_of_many() {
    let (fixture, first) = Fixture::start_open().await;
    let second = fixture.replica().await;
    let group = fixture.group(&[1, 2]).await.id;
    let mut connection = connect(&fixture.postgres).await;
    until_marked(&mut connection).await;
    let mut live = fixture.gateway.subscribe_live().await.unwrap();
    let mut events = fixture.gateway.hear::<Vec<CloudEvent<EntryAppended>>>(EVENTS_ENTRY_APPENDED).await.unwrap();
    commit(&mut connection, group, 20).await;

    let mut bodies: BTreeMap<u64, Vec<LiveMessage>> = BTreeMap::new();
    for message in frames(&mut live, 40).await {
        bodies.entry(message.preamble.seq).or_default().push(message);
    }
    let log = fixture.log(Some(1), group).await;
    for entry in &log.entries[1..] {
        let [message] = bodies[&entry.seq].as_slice() else { panic!("{} came {bodies:?}", entry.seq) };
        assert_eq!(message.body, entry.frame.get().as_bytes(), "made again as it would have been");
        assert_eq!((message.preamble.origin, message.preamble.flags), (0, 0));
    }
    let mut seen = Vec::new();
    while seen.len() < 40 {
        seen.extend(tokio::time::timeout(ANSWER_MAX, events.next()).await.unwrap().unwrap());
    }
    seen.sort_by_key(|event| event.data.seq);
    let numbers: Vec<_> = seen.iter().map(|event| (event.data.seq, event.data.countable_no)).collect();
    assert_eq!(numbers, (2..42).map(|seq| (seq, seq - 1)).collect::<Vec<_>>(), "each once, with its number");
    until_marked(&mut connection).await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_plane_that_is_missing_is_published_and_nothing_erased_comes_back() {
    let (fixture, replica) = Fixture::start_open().await;
    let group = fixture.group(&[1, 2]).await.id;
    let mut connection = connect(&fixture.postgres).await;
    until_marked(&mut connection).await;
    let mut live = fixture.gateway.subscribe_live().await.unwrap();
    let mut events = fixture.gateway.hear::<Vec<CloudEvent<EntryAppended>>>(EVENTS_ENTRY_APPENDED).await.unwrap();
    let half = "INSERT INTO messaging.feed (created_at, batch_id, conversation_ids, first_seqs, last_seqs, live_done)
                SELECT created_at + interval '1 microsecond', gen_random_uuid(), conversation_ids, first_seqs, last_seqs, true
                FROM messaging.feed";
    connection.batch_execute(half).await.unwrap();
    commit(&mut connection, group, 1).await;
    let erased = "UPDATE messaging.log SET deleted = true, content = NULL, request_digest = NULL WHERE seq = 3";
    connection.batch_execute(erased).await.unwrap();

    let heard = frames(&mut live, 2).await;
    let seqs: Vec<_> = heard.iter().map(|message| message.preamble.seq).collect();
    assert_eq!(seqs, [2, 3], "the first entry's frame had been published");
    let frame: serde_json::Value = serde_json::from_slice(&heard[1].body).unwrap();
    assert_eq!((&frame["payload"]["content"], &frame["payload"]["deleted"]), (&().into(), &true.into()));
    let mut told = Vec::new();
    while told.len() < 3 {
        let batch = tokio::time::timeout(ANSWER_MAX, events.next()).await.unwrap().unwrap();
        told.extend(batch.into_iter().map(|event| event.data.seq));
    }
    told.sort_unstable();
    assert_eq!(told, [1, 2, 3]);
    until_marked(&mut connection).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_jetstream_could_not_take_follow_when_it_is_back_without_its_streams() {
    let (mut fixture, replica) = Fixture::start_open().await;
    let group = fixture.group(&[1, 2]).await.id;
    let mut connection = connect(&fixture.postgres).await;
    until_marked(&mut connection).await;
    fixture.nats.kill().await;
    commit(&mut connection, group, 3).await;
    fixture.nats.restart_empty().await.unwrap();
    until_marked(&mut connection).await;
    let message = into(group, 2, sealed("after"));
    wait_for("the store", async || {
        let request =
            entrenous_protocol::rpc::store::AppendRequest { messages: vec![message.clone()], not_after: None };
        let sent = fixture.gateway.call::<entrenous_protocol::rpc::store::Append>(&request, ANSWER_MAX).await;
        sent.map_err(|failure| failure.to_string())
    })
    .await
    .unwrap();
    until_marked(&mut connection).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_dropped_when_they_are_old_and_done_with() {
    let (fixture, replica) = Fixture::start().await;
    let mut connection = connect(&fixture.postgres).await;
    let old = |name: &str, hours: i32, is_done: bool| {
        format!(
            "DO $$ DECLARE starts timestamptz := date_bin('10 minutes', now() - interval '{hours} hours', 'epoch'); BEGIN
                 EXECUTE format('CREATE TABLE messaging.{name} PARTITION OF messaging.feed FOR VALUES FROM (%L) TO (%L)',
                     starts, starts + interval '10 minutes');
                 INSERT INTO messaging.feed (created_at, batch_id, conversation_ids, first_seqs, last_seqs, live_done, event_done)
                 VALUES (starts, gen_random_uuid(), '{{}}', '{{}}', '{{}}', {is_done}, {is_done});
             END $$"
        )
    };
    // Its sweeper would mark what is not.
    replica.stop().await;
    for (name, hours, is_done) in [("feed_a", 5, true), ("feed_b", 4, false), ("feed_c", 3, true)] {
        connection.batch_execute(&old(name, hours, is_done)).await.unwrap();
    }
    let drop = "SELECT count(*) FROM messaging.drop_feed_partition('1 hour') AS d (name) WHERE name IS NOT NULL";
    for dropped in [1, 1, 0] {
        assert_eq!(count(&mut connection, drop).await, dropped);
    }
    let left = "SELECT count(*) FROM pg_class WHERE relname IN ('feed_a', 'feed_b', 'feed_c') AND relkind = 'r'";
    assert_eq!(count(&mut connection, left).await, 1, "the one with a row that is not done with stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_lately_is_told_and_what_nobody_knows_is_not() {
    let (fixture, replica) = Fixture::start().await;
    let (one, other) = (fixture.group(&[1, 2]).await.id, fixture.group(&[1]).await.id);
    fixture.append(vec![into(one, 1, sealed("a")), into(one, 2, sealed("b"))]).await;
    let ask = async |age_ms| fixture.call::<ChangedSince>(&ChangedSinceRequest { age_ms }).await.unwrap();
    let ChangedSinceResponse::Heads(heads) = ask(1_000).await else { panic!("unknown") };
    let heads: BTreeMap<_, _> = heads.into_iter().map(|head| (head.conversation_id, head.last_seq)).collect();
    assert_eq!(heads, [(one, 3), (other, 1)].into_iter().collect());
    assert_eq!(ask(2 * 3_600_000).await, ChangedSinceResponse::Unknown);
    replica.stop().await;
}
