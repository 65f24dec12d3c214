//! Scheduled messages of a whole system: told to everybody's connections, and each sent once whatever is killed meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use entrenous_client::{ApiError, Refusal, Reply, api, frame::Body};
use entrenous_model::{Clock, ConversationId, EntryId, IdGenerator, SystemClock, Timestamp};
use entrenous_protocol::{
    rest::Page,
    scheduled::{ScheduledMessage, ScheduledState},
};
use entrenous_system_tests::{Cluster, Person, Shape, System};
use futures::{StreamExt, stream};
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::support::{group, live, next, next_entry, text, until, whole_log};

const MESSAGES: u64 = 400;
/// Until the first time, and between the first and the last one.
const LEAD: Duration = Duration::from_secs(6);
const SPREAD: Duration = Duration::from_secs(8);
/// Before its time each message is on its way to be kept.
const NOTICE: Duration = Duration::from_secs(2);
/// How long the sending may take: late, because a busy machine is no failure.
const LIMIT: Duration = Duration::from_secs(120);
/// How often everything that sends is killed.
const KILLS: u64 = 5;

async fn schedule(person: &Person, room: ConversationId, send_at: Timestamp) -> ScheduledMessage {
    try_schedule(person, room, IdGenerator.next(), send_at).await.unwrap()
}

async fn try_schedule<T: DeserializeOwned>(
    person: &Person,
    room: ConversationId,
    id: EntryId,
    send_at: Timestamp,
) -> Result<T, ApiError> {
    let request = person.api.request(Method::POST, &format!("conversations/{room}/messages"));
    let message = json!({"id": id, "content": {"text": "later"}, "send_at": send_at});
    api::json(request.json(&message)).await
}

/// Schedules, again and again until it is answered: then it waits, or was sent.
async fn schedule_surely(person: &Person, room: ConversationId, id: EntryId, send_at: Timestamp) {
    let scheduled = async {
        loop {
            match try_schedule::<Value>(person, room, id, send_at).await {
                Ok(answer) => return answer,
                Err(error) if error.refusal().is_none_or(Refusal::is_outcome_unknown) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    let answer = tokio::time::timeout(LIMIT, scheduled).await.unwrap_or_else(|_| panic!("{id} is not answered"));
    assert_eq!(answer["id"], json!(id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_at_its_time_is_told_to_everybody() {
    let cluster = Cluster::start().await.unwrap();
    let _store = cluster.store(&[]).await.unwrap();
    let (near, far) = tokio::join!(cluster.gateway(&[]), cluster.gateway(&[]));
    let (near, far) = (near.unwrap(), far.unwrap());
    let (alice, bob) =
        (Person::new(&near.url(), "alice").await.unwrap(), Person::new(&far.url(), "bob").await.unwrap());
    let room = group(&alice, &[&bob]).await;
    let (mut at_alice, mut at_bob) = (live(&alice).await, live(&bob).await);
    let before = bob.api.send_message(room, &text("before")).await.unwrap();
    next_entry(&mut at_bob).await;
    let message = schedule(&alice, room, SystemClock.now() + Duration::from_secs(2)).await;
    assert_eq!(message.state, ScheduledState::Waiting);
    // As of every message: who sends has read what was before, and its author learns it.
    let (mut entry, mut read) = (None, None);
    while entry.is_none() || read.is_none() {
        next(&mut at_bob, |body| {
            match body {
                Body::Entry(found) => entry = Some((found.id, found.seq)),
                Body::Read(receipt) => read = Some((receipt.user_id, receipt.seq)),
                _ => return None,
            }
            Some(())
        })
        .await;
    }
    assert_eq!((entry, read), (Some((message.id, 3)), Some((alice.user_id, 3))));
    assert_eq!(bob.api.receipts(room, before.id).await.unwrap().read_count, 1);
    let (mut has_entry, mut is_told) = (false, false);
    while !(has_entry && is_told) {
        next(&mut at_alice, |body| match body {
            Body::Entry(entry) if entry.id == message.id => {
                has_entry = true;
                Some(())
            }
            Body::Notification(note) if note.event == "scheduled_sent" => {
                assert!(note.payload.get().contains(&message.id.to_string()), "{}", note.payload);
                is_told = true;
                Some(())
            }
            _ => None,
        })
        .await;
    }
    let unread = bob.api.unread(room).await.unwrap();
    assert_eq!(unread.seqs, [3]);

    // By WebSocket: kept, or, where its time has passed, sent at once.
    let send = async |send_at: Timestamp| {
        let id: EntryId = IdGenerator.next();
        let payload = json!({"content": {"text": "later"}, "send_at": send_at});
        let frame = json!({"type": "group_message", "id": id, "payload": payload, "meta": {"target_id": room}});
        let pending = at_alice.handle().request(id, frame.to_string()).await.unwrap();
        (id, pending.wait().await.unwrap())
    };
    let (id, reply) = send(SystemClock.now() + Duration::from_secs(3_600)).await;
    assert!(matches!(reply, Reply::Ack(None)), "{reply:?}");
    let waiting: Page<ScheduledMessage> = api::json(alice.api.request(Method::GET, "scheduled")).await.unwrap();
    assert_eq!(waiting.items.iter().map(|message| message.id).collect::<Vec<_>>(), [id]);
    let (_, reply) = send(SystemClock.now()).await;
    assert!(matches!(reply, Reply::Ack(Some(stored)) if stored.seq == 4), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_is_sent_once_whatever_is_killed() {
    let shape = Shape::split().with("SCHEDULED_MESSAGES_MAX", MESSAGES);
    let system = System::start(&shape).await.unwrap();
    let names: Vec<String> = system.processes().unwrap().into_keys().collect();
    let alice = Person::new(system.gateway(), "alice").await.unwrap();
    let rooms = [group(&alice, &[]).await, group(&alice, &[]).await];
    // One after the other; whoever is late, because the machine is slow or everything is dead, gets a later time.
    let begin = SystemClock.now() + LEAD;
    let step = SPREAD / u32::try_from(MESSAGES).unwrap();
    let scheduling = (0..MESSAGES).map(|number| {
        let (alice, room) = (&alice, rooms[usize::try_from(number % 2).unwrap()]);
        async move {
            let send_at = (begin + step * u32::try_from(number).unwrap()).max(SystemClock.now() + NOTICE);
            let id = IdGenerator.next();
            schedule_surely(alice, room, id, send_at).await;
            (id, send_at)
        }
    });
    let scheduling = stream::iter(scheduling).buffer_unordered(8).collect();
    let (times, ()): (BTreeMap<EntryId, Timestamp>, ()) =
        tokio::join!(scheduling, kill_stores(&system, &names, &alice, &rooms));
    until_sent(&alice, &rooms, times.len()).await;
    let mut entries = Vec::new();
    for room in rooms {
        entries.extend(whole_log(&alice.api, room).await.into_iter().skip(1));
    }
    let distinct: BTreeSet<EntryId> = entries.iter().map(|entry| entry.id).collect();
    assert_eq!((entries.len(), distinct.len()), (times.len(), times.len()), "each once");
    for entry in &entries {
        assert!(entry.sent_at >= times[&entry.id], "{} was too early", entry.id);
    }
    until("nothing waits", async || {
        let list: serde_json::Value = api::json(alice.api.request(Method::GET, "scheduled")).await.ok()?;
        list["items"].as_array()?.is_empty().then(|| "nothing waits".to_owned())
    })
    .await;
    system.stop().await;
}

/// Kills everything that sends, again and again while they are sent; the last time the database, too.
async fn kill_stores(system: &System, names: &[String], alice: &Person, rooms: &[ConversationId]) {
    let stores: Vec<&String> = names.iter().filter(|name| name.contains("message-store")).collect();
    assert_eq!(stores.len(), 2, "{names:?}");
    for kill in 1..=KILLS {
        until_sent(alice, rooms, usize::try_from(MESSAGES * kill / (KILLS + 1)).unwrap()).await;
        if kill == KILLS {
            assert!(system.kill_database());
        }
        for store in &stores {
            assert!(system.kill(store).unwrap(), "{store} was not there");
        }
        system.wait_whole(names).await.unwrap();
    }
}

/// Waits until the rooms have so many messages.
async fn until_sent(person: &Person, rooms: &[ConversationId], wanted: usize) {
    let mut last = None;
    let sent = async {
        loop {
            last = sent_so_far(person, rooms).await.or(last);
            if last.is_some_and(|sent| sent >= wanted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let is_sent = tokio::time::timeout(LIMIT, sent).await.is_ok();
    assert!(is_sent, "{wanted} were not sent; last: {last:?}");
}

/// How many of these rooms' messages there are; none while the system does not answer.
async fn sent_so_far(person: &Person, rooms: &[ConversationId]) -> Option<usize> {
    let mut count = 0;
    for room in rooms {
        count += usize::try_from(person.api.conversation(*room).await.ok()?.last_seq).ok()? - 1;
    }
    Some(count)
}
