//! The sweeper: what was committed and never published is published by whoever is there.

use std::collections::BTreeMap;

use async_nats::jetstream;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use entrenous_bus::{LiveEvent, LiveSubscription, subjects};
use entrenous_model::ConversationId;
use entrenous_protocol::{
    event::{CloudEvent, EntryAppended},
    live::{FLAG_MEMBER, LiveKind, LiveMessage, UserNotice},
    rpc::store::{Append, AppendRequest, AppendResult},
};
use entrenous_test_support::{TestNats, wait_for};
use futures::StreamExt;
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    fixture::{Fixture, connect, into, new_message, sealed, to, user},
    function::count,
};

const ALL: &str = "SELECT count(*) FROM messaging.feed";
const MARKED: &str = "SELECT count(*) FROM messaging.feed WHERE live_done AND event_done";
/// Makes every row so old that it is due.
const AGE: &str =
    "UPDATE messaging.feed SET created_at = created_at - interval '8 seconds' WHERE NOT (live_done AND event_done)";

async fn all_marked(connection: &mut AsyncPgConnection, rows: i64) {
    let is_so = async || {
        let (all, marked) = (count(connection, ALL).await, count(connection, MARKED).await);
        if (all, marked) == (rows, rows) { Ok(()) } else { Err(format!("{marked} of {all}")) }
    };
    wait_for("the marks", is_so).await.unwrap();
}

/// What comes on the live plane, in its order.
struct Heard {
    subscription: LiveSubscription,
    messages: Vec<LiveMessage>,
}

impl Heard {
    async fn from(fixture: &Fixture) -> Self {
        Self { subscription: fixture.gateway.subscribe_live().await.unwrap(), messages: Vec::new() }
    }

    /// Everything until a message that only a later publication brings: what came before it is complete.
    async fn until(&mut self, is_last: impl Fn(&LiveMessage) -> bool) -> Vec<LiveMessage> {
        while !self.messages.iter().any(&is_last) {
            match self.subscription.next().await.unwrap() {
                LiveEvent::Messages(messages) => {
                    self.messages
                        .extend(messages.into_iter().filter(|message| message.preamble.kind != LiveKind::Beat));
                }
                LiveEvent::Interrupted => panic!("interrupted after {:?}", self.messages),
            }
        }
        std::mem::take(&mut self.messages)
    }
}

fn is_entry(message: &LiveMessage, conversation_id: ConversationId, seq: u64) -> bool {
    let preamble = &message.preamble;
    (preamble.kind, preamble.subject, preamble.seq) == (LiveKind::Entry, conversation_id.as_uuid(), seq)
}

async fn stream_of(nats: &TestNats) -> jetstream::Context {
    jetstream::new(async_nats::connect(nats.url()).await.unwrap())
}

/// How often each batch is in the stream.
async fn batches(context: &jetstream::Context) -> BTreeMap<Uuid, usize> {
    let mut stream = context.get_stream(subjects::EVENTS_STREAM).await.unwrap();
    let wanted = stream.info().await.unwrap().state.messages;
    let consumer = jetstream::consumer::pull::Config::default();
    let consumer = stream.create_consumer(consumer).await.unwrap();
    let mut messages = consumer.messages().await.unwrap();
    let mut found = BTreeMap::new();
    for _ in 0..wanted {
        let message = messages.next().await.unwrap().unwrap();
        let events: Vec<CloudEvent<EntryAppended>> = serde_json::from_slice(&message.payload).unwrap();
        *found.entry(events[0].data.batch_id).or_default() += 1;
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_publishes_what_one_took_with_it() {
    let fixture = Fixture::open().await;
    fixture.serve_identity().await;
    let mut live = Heard::from(&fixture).await;
    let mut events =
        fixture.gateway.hear::<Vec<CloudEvent<EntryAppended>>>(subjects::EVENTS_ENTRY_APPENDED).await.unwrap();
    let dying = fixture.dying_replica().await;
    let group = fixture.group(&[1, 2]).await.id;
    fixture.add(1, group, 3, None).await.unwrap();
    fixture.append(vec![into(group, 1, sealed("a")), into(group, 2, sealed("b")), to(2, 1, sealed("c"))]).await;
    let direct = ConversationId::direct(user(1), user(2));
    dying.stop().await;
    let mut connection = connect(&fixture.postgres).await;
    assert_eq!(count(&mut connection, "SELECT count(*) FROM messaging.feed WHERE live_done OR event_done").await, 0);
    connection.batch_execute(AGE).await.unwrap();

    let replica = fixture.replica().await;
    all_marked(&mut connection, 3).await;
    // Later than everything that is swept.
    fixture.send(into(group, 1, sealed("last"))).await;
    let heard = live.until(|message| is_entry(message, group, 5)).await;
    let entries: Vec<_> = heard.iter().filter(|message| message.preamble.kind == LiveKind::Entry).collect();
    let shape: Vec<_> = entries.iter().map(|message| (message.preamble.flags, message.preamble.seq)).collect();
    assert_eq!(shape.len(), 6, "each once: {shape:?}");
    for (conversation_id, seqs) in [(group, 1..=4), (direct, 1..=1)] {
        let stored = fixture.log(Some(1), conversation_id).await;
        for seq in seqs {
            let frame = entries.iter().find(|message| is_entry(message, conversation_id, seq)).unwrap();
            let entry = &stored.entries[usize::try_from(seq).unwrap() - 1];
            assert_eq!(frame.body, entry.frame.get().as_bytes(), "the bytes that would have been published");
            let is_member = conversation_id == group && seq <= 2;
            assert_eq!(frame.preamble.flags, if is_member { FLAG_MEMBER } else { 0 });
            assert!(frame.preamble.origin == 0 && frame.preamble.incarnation > 0);
        }
    }
    let told: Vec<_> = heard
        .iter()
        .filter(|message| message.preamble.kind == LiveKind::UserNotice)
        .map(|message| (message.preamble.subject, serde_json::from_slice::<UserNotice>(&message.body).unwrap()))
        .map(|(user, notice)| match notice {
            UserNotice::ConversationJoined { conversation_id, joined_seq, .. } => (user, conversation_id, joined_seq),
            other => panic!("{other:?}"),
        })
        .collect();
    let joined = |number, seq| (user(number).as_uuid(), group, seq);
    assert_eq!(told, [joined(1, 1), joined(2, 1), joined(3, 2)], "who became a member, before the entry");

    let mut seen = BTreeMap::new();
    while seen.len() < 4 {
        let batch = events.next().await.unwrap();
        assert!(!serde_json::to_string(&batch).unwrap().contains("ciphertext"));
        let ids: Vec<_> = batch.iter().map(|event| (event.data.conversation_id, event.data.seq)).collect();
        assert!(seen.insert(batch[0].data.batch_id, ids).is_none(), "twice: {seen:?}");
    }
    assert_eq!(seen.values().map(Vec::len).sum::<usize>(), 6);
    let stream = batches(&stream_of(&fixture.nats).await).await;
    assert!(stream.values().all(|count| *count == 1) && stream.len() == 4, "{stream:?}");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sweepers_share_the_work() {
    let fixture = Fixture::open().await;
    fixture.serve_identity().await;
    let mut live = Heard::from(&fixture).await;
    let dying = fixture.dying_replica().await;
    let group = fixture.group(&[1, 2]).await.id;
    for _ in 0..400 {
        fixture.send(into(group, 1, sealed("a"))).await;
    }
    dying.stop().await;
    let mut connection = connect(&fixture.postgres).await;
    connection.batch_execute(AGE).await.unwrap();
    let (one, two) = tokio::join!(fixture.replica(), fixture.replica());
    all_marked(&mut connection, 401).await;
    fixture.send(into(group, 1, sealed("last"))).await;
    let heard = live.until(|message| is_entry(message, group, 402)).await;
    let mut times: BTreeMap<u64, usize> = BTreeMap::new();
    let mut publishers = BTreeMap::<u64, usize>::new();
    for message in heard.iter().filter(|message| message.preamble.kind == LiveKind::Entry) {
        *times.entry(message.preamble.seq).or_default() += 1;
        *publishers.entry(message.preamble.publisher).or_default() += 1;
    }
    assert_eq!(times.len(), 402);
    assert!(times.values().all(|times| *times == 1), "{times:?} by {publishers:?}");
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_comes_back_that_was_erased_or_archived_and_poison_stays_alone() {
    let fixture = Fixture::open().await;
    fixture.serve_identity().await;
    let mut live = Heard::from(&fixture).await;
    let dying = fixture.dying_replica().await;
    let groups = [fixture.group(&[1]).await.id, fixture.group(&[1]).await.id, fixture.group(&[1]).await.id];
    let [erased, archived, poisoned] = groups;
    let mentions = format!(r#"{{"content":{{"scheme":"x","ciphertext":"aGk="}},"mentions":["{}"]}}"#, user(1));
    for id in groups {
        fixture.send(into(id, 1, new_message(&mentions))).await;
    }
    dying.stop().await;
    let mut connection = connect(&fixture.postgres).await;
    let change = format!(
        "{AGE}; UPDATE messaging.log SET content = NULL, request_digest = NULL, deleted = true \
         WHERE conversation_id = '{erased}' AND seq = 2; DELETE FROM messaging.log WHERE conversation_id = '{archived}'; \
         UPDATE messaging.log SET kind = 'what no build knows' WHERE conversation_id = '{poisoned}' AND seq = 2"
    );
    connection.batch_execute(&change).await.unwrap();
    let replica = fixture.replica().await;
    let is_so = async || match count(&mut connection, MARKED).await {
        5 => Ok(()),
        marked => Err(marked.to_string()),
    };
    wait_for("all marks but the poisoned row's", is_so).await.unwrap();
    fixture.send(into(erased, 1, sealed("last"))).await;
    let heard = live.until(|message| is_entry(message, erased, 3)).await;
    let frame = heard.iter().find(|message| is_entry(message, erased, 2)).unwrap();
    let text = String::from_utf8(frame.body.to_vec()).unwrap();
    assert!(text.contains(r#""deleted":true"#) && !text.contains("aGk="), "{text}");
    assert!(!text.contains(r#""mentions":[""#), "{text}");
    let about =
        |id: ConversationId| heard.iter().filter(move |message| message.preamble.subject == id.as_uuid()).count();
    assert_eq!((about(archived), about(poisoned)), (0, 1));
    let poisoned_rows = "SELECT count(*) FROM messaging.feed WHERE NOT live_done AND NOT event_done AND next_try_at > clock_timestamp()";
    assert_eq!(count(&mut connection, poisoned_rows).await, 1);
    replica.stop().await;
}

/// Sends until told to stop; what was acknowledged.
async fn keep_sending(fixture: &Fixture, group: ConversationId, stop: watch::Receiver<bool>) -> i64 {
    let mut sent = 0;
    while !*stop.borrow() {
        let request = AppendRequest { messages: vec![into(group, 1, sealed("a"))], not_after: None };
        // While NATS is away there is no answer; whether it was stored is for the feed to say.
        match fixture.gateway.call::<Append>(&request, crate::fixture::ANSWER_MAX).await {
            Ok(answer) => sent += i64::from(matches!(answer.results[0], AppendResult::Stored(_))),
            Err(_) => tokio::task::yield_now().await,
        }
    }
    sent
}

/// Every row has its marks, and the stream every batch that was committed after it was made again.
async fn repaired(fixture: &Fixture, since: &str) {
    let mut connection = connect(&fixture.postgres).await;
    let rows = count(&mut connection, ALL).await;
    all_marked(&mut connection, rows).await;
    let wanted = count(&mut connection, &format!("{ALL} WHERE created_at > '{since}'")).await;
    let stream = batches(&stream_of(&fixture.nats).await).await;
    let missing = format!(
        "{ALL} WHERE created_at > '{since}' AND batch_id <> ALL ('{{{}}}')",
        stream.keys().map(Uuid::to_string).collect::<Vec<_>>().join(",")
    );
    assert!(wanted > 0, "nothing was committed since");
    assert_eq!(count(&mut connection, &missing).await, 0, "of {wanted} batches");
}

async fn database_time(fixture: &Fixture) -> String {
    let mut connection = connect(&fixture.postgres).await;
    let micros = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS count";
    let micros = count(&mut connection, micros).await;
    chrono::DateTime::from_timestamp_micros(micros).unwrap().to_rfc3339()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_deleted_is_made_again() {
    let (fixture, replica) = Fixture::start_open().await;
    let group = fixture.group(&[1, 2]).await.id;
    let (stop, stopped) = watch::channel(false);
    let deleting = async {
        let context = stream_of(&fixture.nats).await;
        context.delete_stream(subjects::EVENTS_STREAM).await.unwrap();
        let since = database_time(&fixture).await;
        let is_back = async || context.get_stream(subjects::EVENTS_STREAM).await.map(drop);
        wait_for("the stream", is_back).await.unwrap();
        fixture.send(into(group, 2, sealed("b"))).await;
        stop.send_replace(true);
        since
    };
    let (sent, since) = tokio::join!(keep_sending(&fixture, group, stopped), deleting);
    assert!(sent > 0);
    repaired(&fixture, &since).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_server_that_lost_everything_gets_its_stream_again() {
    let (mut fixture, replica) = Fixture::start_open().await;
    let group = fixture.group(&[1, 2]).await.id;
    fixture.send(into(group, 1, sealed("a"))).await;
    // The second time everybody knows the stream from before.
    for _ in 0..2 {
        fixture.nats.kill().await;
        let since = database_time(&fixture).await;
        // Committed while nothing can be published.
        let mut connection = connect(&fixture.postgres).await;
        let commit = format!(
            "SELECT messaging.append_entry(gen_random_uuid(), '{group}', gen_random_uuid(), 'member', '{}', NULL, '{{}}')",
            user(1)
        );
        connection.batch_execute(&commit).await.unwrap();
        fixture.nats.restart_empty().await.unwrap();
        let again = async || {
            let request = AppendRequest { messages: vec![into(group, 1, sealed("b"))], not_after: None };
            fixture.gateway.call::<Append>(&request, crate::fixture::ANSWER_MAX).await
        };
        wait_for("an answer", again).await.unwrap();
        repaired(&fixture, &since).await;
    }
    replica.stop().await;
}
