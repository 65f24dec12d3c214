//! Scheduled messages: kept, changed, deleted, and each sent once at its time, whoever does what meanwhile.

use std::{collections::BTreeSet, time::Duration};

use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use entrenous_bus::{LiveEvent, LiveSubscription};
use entrenous_model::{Clock, ConversationId, EntryId, SystemClock, Timestamp};
use entrenous_protocol::{
    Code, Failure, Limits, NewMessage,
    entry::Role,
    live::{LiveKind, UserNotice},
    rest::Page,
    rpc::store::{
        AppendMessage, CancelScheduled, CancelScheduledRequest, ChangeScheduled, ChangeScheduledRequest, ListScheduled,
        ListScheduledRequest, Privacy, Schedule, ScheduleRequest, ScheduleResponse, TakePrivacy,
    },
    scheduled::{SchedulePatch, ScheduledEvent, ScheduledMessage, ScheduledState},
};
use entrenous_test_support::wait_for;
use futures::future::join_all;
use serde_json::json;

use crate::{
    fixture::{Fixture, connect, device, ids, into, new_message, payload, sealed, seqs, to, user},
    function::count,
};

const HOUR: Duration = Duration::from_secs(3_600);
const ROWS: &str = "SELECT count(*) FROM messaging.scheduled";

fn from_now(wait: Duration) -> Timestamp {
    SystemClock.now() + wait
}

/// Late enough to be kept also by a busy machine.
fn soon() -> Timestamp {
    from_now(Duration::from_secs(2))
}

/// Everything that waits is due now.
async fn make_due(connection: &mut AsyncPgConnection) {
    let now = "UPDATE messaging.scheduled SET send_at = now(), due_at = now() WHERE leased_until IS NULL";
    connection.batch_execute(now).await.unwrap();
}

/// A ciphertext of an epoch.
fn of_epoch(epoch: u64) -> NewMessage {
    new_message(&json!({"content": {"scheme": "mls", "ciphertext": "aGk=", "epoch": epoch}}).to_string())
}

async fn schedule(fixture: &Fixture, message: &AppendMessage, send_at: Timestamp) -> Result<ScheduleResponse, Failure> {
    fixture.call::<Schedule>(&ScheduleRequest { message: message.clone(), send_at }).await
}

/// Schedules what is kept.
async fn keep(fixture: &Fixture, message: &AppendMessage, send_at: Timestamp) -> ScheduledMessage {
    kept(schedule(fixture, message, send_at).await.unwrap())
}

fn kept(response: ScheduleResponse) -> ScheduledMessage {
    match response {
        ScheduleResponse::Kept(message) => *message,
        other => panic!("{other:?}"),
    }
}

fn sent(response: ScheduleResponse) -> entrenous_protocol::Entry {
    match response {
        ScheduleResponse::Sent { stored, message } => {
            let entry: entrenous_protocol::Entry = serde_json::from_str(message.get()).unwrap();
            assert_eq!((entry.seq, entry.sent_at), (stored.seq, stored.sent_at));
            entry
        }
        other => panic!("{other:?}"),
    }
}

async fn page(fixture: &Fixture, caller: u128, limit: u32, cursor: Option<String>) -> Page<ScheduledMessage> {
    fixture.call::<ListScheduled>(&ListScheduledRequest { caller: user(caller), cursor, limit }).await.unwrap()
}

async fn list(fixture: &Fixture, caller: u128) -> Vec<ScheduledMessage> {
    page(fixture, caller, 100, None).await.items
}

async fn change(
    fixture: &Fixture,
    caller: u128,
    message_id: EntryId,
    patch: serde_json::Value,
) -> Result<ScheduleResponse, Failure> {
    let patch: SchedulePatch = serde_json::from_value(patch).unwrap();
    let change = patch.check(message_id, &Limits::default()).unwrap();
    fixture.call::<ChangeScheduled>(&ChangeScheduledRequest { caller: user(caller), message_id, change }).await
}

async fn cancel(fixture: &Fixture, caller: u128, message_id: EntryId) -> Result<(), Failure> {
    fixture.call::<CancelScheduled>(&CancelScheduledRequest { caller: user(caller), message_id }).await.map(drop)
}

fn code<T: std::fmt::Debug>(result: Result<T, Failure>) -> Code {
    result.unwrap_err().code
}

/// Waits until the log has this many entries.
async fn has_entries(fixture: &Fixture, conversation: ConversationId, wanted: usize) {
    wait_for("the entries", async || match fixture.log(None, conversation).await.entries.len() {
        found if found == wanted => Ok(()),
        found => Err(found.to_string()),
    })
    .await
    .unwrap();
}

async fn is_in_state(fixture: &Fixture, caller: u128, id: EntryId, state: ScheduledState) {
    wait_for("the state", async || {
        let found = list(fixture, caller).await;
        match found.iter().find(|message| message.id == id) {
            Some(message) if message.state == state => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
}

async fn nothing_is_left(connection: &mut AsyncPgConnection) {
    wait_for("the rows", async || match count(connection, ROWS).await {
        0 => Ok(()),
        left => Err(left.to_string()),
    })
    .await
    .unwrap();
}

async fn next_notice(live: &mut LiveSubscription) -> (u128, EntryId, ScheduledEvent) {
    next_notices(live, 1).await[0]
}

/// The next ones, so many at least; those that come together are read together.
async fn next_notices(live: &mut LiveSubscription, count: usize) -> Vec<(u128, EntryId, ScheduledEvent)> {
    let mut notices = Vec::new();
    while notices.len() < count {
        let LiveEvent::Messages(messages) = live.next().await.unwrap() else { panic!("interrupted") };
        for message in messages.into_iter().filter(|message| message.preamble.kind == LiveKind::UserNotice) {
            if let UserNotice::Scheduled { message_id, event } = serde_json::from_slice(&message.body).unwrap() {
                notices.push((message.preamble.subject.as_u128(), message_id, event));
            }
        }
    }
    notices
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_sent_once_at_its_time() {
    let (fixture, replica) = Fixture::start().await;
    let second = fixture.replica().await;
    let group = fixture.group(&[1, 2]).await.id;
    let mut live = fixture.gateway.subscribe_live().await.unwrap();
    let message = into(group, 1, sealed("later"));
    let (id, send_at) = (message.message.id, soon());
    let waiting = keep(&fixture, &message, send_at).await;
    assert_eq!((waiting.id, waiting.send_at, waiting.state), (id, send_at, ScheduledState::Waiting));
    assert_eq!(waiting.content.get(), message.message.content.get());
    assert_eq!(seqs(&fixture.log(None, group).await), [1], "nothing is sent yet");
    let again = keep(&fixture, &message, send_at).await;
    assert_eq!(serde_json::to_value(&again).unwrap(), serde_json::to_value(&waiting).unwrap());

    has_entries(&fixture, group, 2).await;
    let log = fixture.log(None, group).await;
    let entry = payload(&log.entries[1].frame);
    assert_eq!((entry.id, entry.sender_id, entry.sender_device_id), (id, user(1), Some(device(1))));
    assert!(entry.sent_at >= send_at, "{} is before {send_at}", entry.sent_at);
    assert_eq!(next_notice(&mut live).await, (1, id, ScheduledEvent::Sent));
    assert!(list(&fixture, 1).await.is_empty());
    // As any message: the same again is the first one's answer.
    let repeat = fixture.append_one(message.clone()).await;
    assert!(matches!(repeat, entrenous_protocol::rpc::store::AppendResult::Stored(stored) if stored.is_repeat));
    assert!(matches!(schedule(&fixture, &message, send_at).await.unwrap(), ScheduleResponse::Due));
    let found = sent(schedule(&fixture, &message, from_now(HOUR)).await.unwrap());
    assert_eq!((found.id, found.seq, found.sent_at), (id, 2, entry.sent_at));
    assert_eq!(code(change(&fixture, 1, id, json!({"metadata": {}})).await), Code::NotFound);
    assert_eq!(code(cancel(&fixture, 1, id).await), Code::NotFound);
    replica.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_is_the_same_message() {
    let (fixture, replica) = Fixture::start().await;
    let [group, other] = [fixture.group(&[1, 2]).await.id, fixture.group(&[1, 2]).await.id];
    let message = into(group, 1, sealed("a"));
    keep(&fixture, &message, from_now(HOUR)).await;
    let with_id =
        |message: AppendMessage, id| AppendMessage { message: NewMessage { id, ..message.message }, ..message };
    let id = message.message.id;
    let second_device = AppendMessage { sender_device_id: device(7), ..message.clone() };
    for conflicting in
        [with_id(into(group, 1, sealed("b")), id), with_id(into(other, 1, sealed("a")), id), second_device]
    {
        assert_eq!(code(schedule(&fixture, &conflicting, from_now(HOUR)).await), Code::IdConflict);
    }
    // Another person's is another message, until one of them has been sent.
    let theirs = with_id(into(group, 2, sealed("c")), id);
    keep(&fixture, &theirs, from_now(HOUR)).await;
    fixture.send(message).await;
    assert_eq!(
        code(schedule(&fixture, &with_id(into(group, 2, sealed("d")), id), from_now(HOUR)).await),
        Code::IdConflict
    );
    change(&fixture, 2, id, json!({"send_at": "2020-01-01T00:00:00Z"})).await.unwrap_err();
    is_in_state(&fixture, 2, id, ScheduledState::Failed).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_sent_is_not_kept() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    fixture.add(1, group, 3, Some(Role::Reader)).await.unwrap();
    let before = seqs(&fixture.log(None, group).await);
    let clear = || new_message(r#"{"content":{"text":"a"}}"#);
    for (message, send_at, expected) in [
        (into(group, 9, sealed("a")), from_now(HOUR), Code::NotFound),
        (into(user(9).as_uuid().into(), 1, sealed("a")), from_now(HOUR), Code::NotFound),
        (into(group, 3, sealed("a")), from_now(HOUR), Code::Forbidden),
        (into(group, 1, clear()), from_now(HOUR), Code::Invalid),
        (into(group, 1, sealed("a")), from_now(HOUR * 24 * 367), Code::Invalid),
        (to(1, 1, sealed("a")), from_now(HOUR), Code::Invalid),
        (to(crate::fixture::stranger(), 1, sealed("a")), from_now(HOUR), Code::NotFound),
    ] {
        assert_eq!(code(schedule(&fixture, &message, send_at).await), expected, "{message:?}");
    }
    let privacy = Privacy {
        user_id: user(5),
        version: 1,
        presence_visible_to: entrenous_protocol::rest::VisibleTo::default(),
        messages_from: entrenous_protocol::rest::MessagesFrom::default(),
        blocked: vec![user(1)],
    };
    fixture.call::<TakePrivacy>(&privacy).await.unwrap();
    assert_eq!(code(schedule(&fixture, &to(5, 1, sealed("a")), from_now(HOUR)).await), Code::Forbidden);
    assert_eq!(seqs(&fixture.log(None, group).await), before, "looking whether it could be sent leaves nothing");
    assert!(list(&fixture, 1).await.is_empty());

    // A direct conversation is made at need.
    let message = to(4, 1, sealed("a"));
    keep(&fixture, &message, from_now(HOUR)).await;
    make_due(&mut connect(&fixture.postgres).await).await;
    has_entries(&fixture, message.conversation_id, 1).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_keeps_more_than_the_limit() {
    let (fixture, replica) = Fixture::start().await;
    let second = fixture.replica().await;
    let group = fixture.group(&[1, 2]).await.id;
    let messages: Vec<_> = (0..20).map(|_| into(group, 1, sealed("a"))).collect();
    let answers = join_all(messages.iter().map(|message| schedule(&fixture, message, from_now(HOUR)))).await;
    let (kept, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((kept.len(), refused.len()), (8, 12));
    for refusal in refused {
        let failure = refusal.unwrap_err();
        assert!(failure.code == Code::TooLarge && failure.detail.contains("scheduled_messages"), "{failure}");
    }
    keep(&fixture, &into(group, 2, sealed("a")), from_now(HOUR)).await;
    let first = list(&fixture, 1).await[0].id;
    cancel(&fixture, 1, first).await.unwrap();
    keep(&fixture, &into(group, 1, sealed("a")), from_now(HOUR)).await;
    replica.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_in_pages_soonest_first() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let base = from_now(HOUR);
    let mut expected = BTreeSet::new();
    for place in [3_u64, 1, 4, 0, 2] {
        let send_at = base + Duration::from_millis(place / 2);
        let message = keep(&fixture, &into(group, 1, sealed("a")), send_at).await;
        expected.insert((send_at, message.id));
    }
    keep(&fixture, &into(group, 2, sealed("a")), base).await;
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = page(&fixture, 1, 2, cursor).await;
        assert_eq!(page.has_more, page.next.is_some());
        found.extend(page.items.iter().map(|message| (message.send_at, message.id)));
        cursor = page.next;
        if !page.has_more {
            break;
        }
    }
    assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
    let bad = ListScheduledRequest { caller: user(1), cursor: Some("x".to_owned()), limit: 2 };
    assert_eq!(code(fixture.call::<ListScheduled>(&bad).await), Code::Invalid);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_can_be_changed_and_deleted() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let [first, second] = [into(group, 1, sealed("a")), into(group, 1, sealed("b"))];
    for message in [&first, &second] {
        keep(&fixture, message, from_now(HOUR)).await;
    }
    let id = first.message.id;
    let other = json!({"scheme": "mls", "ciphertext": "bmV3"});
    let changed = kept(change(&fixture, 1, id, json!({"content": other, "metadata": {"a": 1}})).await.unwrap());
    assert_eq!(serde_json::from_str::<serde_json::Value>(changed.content.get()).unwrap(), other);
    assert_eq!(changed.metadata.get(), r#"{"a":1}"#);
    let sooner = from_now(HOUR / 2);
    let moved = kept(change(&fixture, 1, id, json!({"send_at": sooner})).await.unwrap());
    assert_eq!((moved.send_at, moved.content.get()), (sooner, changed.content.get()));
    assert_eq!(list(&fixture, 1).await[0].send_at, sooner);

    assert_eq!(code(change(&fixture, 2, id, json!({"send_at": sooner})).await), Code::NotFound);
    assert_eq!(code(cancel(&fixture, 2, id).await), Code::NotFound);
    assert_eq!(code(change(&fixture, 1, id, json!({"content": {"text": "clear"}})).await), Code::Invalid);
    assert_eq!(code(change(&fixture, 1, id, json!({"send_at": from_now(HOUR * 24 * 400)})).await), Code::Invalid);

    cancel(&fixture, 1, second.message.id).await.unwrap();
    assert_eq!(code(cancel(&fixture, 1, second.message.id).await), Code::NotFound);
    let entry = sent(change(&fixture, 1, id, json!({"send_at": "2020-01-01T00:00:00Z"})).await.unwrap());
    assert_eq!((entry.id, entry.seq, entry.metadata.get()), (id, 2, r#"{"a":1}"#));
    let log = fixture.log(None, group).await;
    assert_eq!(ids(&log)[1..], [id]);
    assert!(list(&fixture, 1).await.is_empty());
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_of_an_epoch_that_is_over_waits_for_new_content() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let mut live = fixture.gateway.subscribe_live().await.unwrap();
    let mut connection = connect(&fixture.postgres).await;
    connection.batch_execute("UPDATE messaging.heads SET epoch = 4").await.unwrap();
    let [stale, good] = [into(group, 1, of_epoch(3)), into(group, 1, of_epoch(4))];
    let id = stale.message.id;
    for message in [&stale, &good] {
        keep(&fixture, message, from_now(HOUR)).await;
    }
    make_due(&mut connection).await;
    let told = next_notices(&mut live, 2).await;
    let wanted = [(1, id, ScheduledEvent::Stale), (1, good.message.id, ScheduledEvent::Sent)];
    assert!(wanted.iter().all(|wanted| told.contains(wanted)), "{told:?}");
    has_entries(&fixture, group, 2).await;
    assert_eq!(ids(&fixture.log(None, group).await)[1], good.message.id);
    is_in_state(&fixture, 1, id, ScheduledState::Stale).await;
    // Another time alone does not help.
    let moved = kept(change(&fixture, 1, id, json!({"send_at": "2020-01-01T00:00:00Z"})).await.unwrap());
    assert_eq!(moved.state, ScheduledState::Stale);
    let content = |epoch| json!({"content": {"scheme": "mls", "ciphertext": "aGk=", "epoch": epoch}});
    let still = kept(change(&fixture, 1, id, content(2)).await.unwrap());
    assert_eq!(still.state, ScheduledState::Stale);
    assert_eq!(sent(change(&fixture, 1, id, content(4)).await.unwrap()).seq, 3);
    nothing_is_left(&mut connection).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_its_author_may_not_send_any_more_fails() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let mut live = fixture.gateway.subscribe_live().await.unwrap();
    let message = into(group, 2, sealed("a"));
    let id = message.message.id;
    keep(&fixture, &message, from_now(HOUR)).await;
    fixture.remove(1, group, 2).await.unwrap();
    make_due(&mut connect(&fixture.postgres).await).await;
    assert_eq!(next_notice(&mut live).await, (2, id, ScheduledEvent::Failed));
    is_in_state(&fixture, 2, id, ScheduledState::Failed).await;
    let content = json!({"content": {"scheme": "mls", "ciphertext": "aGk="}});
    assert_eq!(code(change(&fixture, 2, id, content).await), Code::NotFound, "refused, and left as it is");
    let again = json!({"send_at": "2020-01-01T00:00:00Z"});
    assert_eq!(code(change(&fixture, 2, id, again.clone()).await), Code::NotFound);
    assert_eq!(next_notice(&mut live).await, (2, id, ScheduledEvent::Failed));
    fixture.add(1, group, 2, None).await.unwrap();
    assert_eq!(sent(change(&fixture, 2, id, again).await.unwrap()).id, id);
    assert_eq!(next_notice(&mut live).await, (2, id, ScheduledEvent::Sent));
    replica.stop().await;
}

/// What could not be sent is forgotten after a while, from when that was found; what waits is not, however old.
#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_sent_is_not_kept_for_ever() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let mut connection = connect(&fixture.postgres).await;
    connection.batch_execute("UPDATE messaging.heads SET epoch = 4").await.unwrap();
    let [failed, recent] = [into(group, 2, sealed("a")), into(group, 2, sealed("b"))];
    let [stale, moved] = [into(group, 1, of_epoch(3)), into(group, 1, of_epoch(3))];
    let waiting = into(group, 1, sealed("c"));
    for message in [&failed, &recent, &stale, &moved] {
        keep(&fixture, message, from_now(HOUR)).await;
    }
    fixture.remove(1, group, 2).await.unwrap();
    make_due(&mut connection).await;
    for (message, state) in [
        (&failed, ScheduledState::Failed),
        (&recent, ScheduledState::Failed),
        (&stale, ScheduledState::Stale),
        (&moved, ScheduledState::Stale),
    ] {
        is_in_state(&fixture, message.sender_id.as_uuid().as_u128(), message.message.id, state).await;
    }
    keep(&fixture, &waiting, from_now(HOUR)).await;
    replica.stop().await;
    for (message, days) in [(&failed, 8), (&recent, 6), (&stale, 8), (&moved, 8), (&waiting, -8)] {
        let age = format!(
            "UPDATE messaging.scheduled SET created_at = now() - interval '90 days',
                 due_at = now() - {days} * interval '1 day' WHERE id = '{}'",
            message.message.id
        );
        connection.batch_execute(&age).await.unwrap();
    }
    // What its author has touched since is not old, whatever time they gave it.
    let past = format!(
        "SELECT messaging.change_scheduled('{}', id, revision, message, epoch, '2020-01-01', 'stale', 0)
         FROM messaging.scheduled WHERE id = '{}'",
        user(1),
        moved.message.id
    );
    connection.batch_execute(&past).await.unwrap();
    let replica = fixture.replica_with(&[("SCHEDULED_MESSAGES_KEPT_DAYS", "7")]).await;
    wait_for("two of them to be forgotten", async || match count(&mut connection, ROWS).await {
        3 => Ok(()),
        left => Err(left.to_string()),
    })
    .await
    .unwrap();
    let left = async |caller| list(&fixture, caller).await.iter().map(|message| message.id).collect::<BTreeSet<_>>();
    assert_eq!(left(1).await, BTreeSet::from([moved.message.id, waiting.message.id]));
    assert_eq!(left(2).await, BTreeSet::from([recent.message.id]));
    assert_eq!(code(cancel(&fixture, 2, failed.message.id).await), Code::NotFound);
    replica.stop().await;
}

/// A row that somebody took, until so many milliseconds from now.
fn taken(id: EntryId, milliseconds: i32) -> String {
    format!(
        "UPDATE messaging.scheduled SET due_at = clock_timestamp() + {milliseconds} * interval '1 millisecond' \
         WHERE id = '{id}'; \
         UPDATE messaging.scheduled SET leased_until = due_at WHERE id = '{id}';"
    )
}

/// A row whose lease has ended, and that nobody has taken since.
fn left(id: EntryId) -> String {
    format!("UPDATE messaging.scheduled SET leased_until = clock_timestamp() - interval '1 second' WHERE id = '{id}'")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_under_way_is_neither_changed_nor_deleted() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let mut connection = connect(&fixture.postgres).await;
    let message = into(group, 1, sealed("a"));
    let id = message.message.id;
    keep(&fixture, &message, from_now(HOUR)).await;
    connection.batch_execute(&taken(id, 60_000)).await.unwrap();
    let cancelling = CancelScheduledRequest { caller: user(1), message_id: id };
    let patch = SchedulePatch { send_at: Some(from_now(HOUR)), ..SchedulePatch::default() };
    let change_it = patch.check(id, &Limits::default()).unwrap();
    let changing = ChangeScheduledRequest { caller: user(1), message_id: id, change: change_it };
    let (cancelled, changed) = tokio::join!(
        fixture.gateway.call_once::<CancelScheduled>(&cancelling, Duration::from_secs(1)),
        fixture.gateway.call_once::<ChangeScheduled>(&changing, Duration::from_secs(1)),
    );
    assert_eq!((code(cancelled), code(changed)), (Code::Unavailable, Code::Unavailable));
    assert_eq!(list(&fixture, 1).await.iter().map(|message| message.id).collect::<Vec<_>>(), [id]);

    // Whoever took it is gone, and stored nothing: its author has it again.
    let message = into(group, 1, sealed("b"));
    keep(&fixture, &message, from_now(HOUR)).await;
    connection.batch_execute(&left(message.message.id)).await.unwrap();
    cancel(&fixture, 1, message.message.id).await.unwrap();
    assert_eq!(seqs(&fixture.log(None, group).await), [1]);

    // What they did store is not deleted, nor can be changed.
    let message = into(group, 1, sealed("c"));
    keep(&fixture, &message, from_now(HOUR)).await;
    fixture.send(message.clone()).await;
    connection.batch_execute(&left(message.message.id)).await.unwrap();
    assert_eq!(code(cancel(&fixture, 1, message.message.id).await), Code::NotFound);
    let other = json!({"content": {"scheme": "mls", "ciphertext": "bmV3"}});
    assert_eq!(code(change(&fixture, 1, message.message.id, other).await), Code::NotFound);
    replica.stop().await;
}

/// The append of a lease may commit a moment after the lease has ended: its author waits for the head, and sees it.
#[tokio::test(flavor = "multi_thread")]
async fn who_deletes_waits_for_what_is_being_committed() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let [mut connection, mut other] = [connect(&fixture.postgres).await, connect(&fixture.postgres).await];
    let message = into(group, 1, sealed("a"));
    let id = message.message.id;
    keep(&fixture, &message, from_now(HOUR)).await;
    let storing = format!(
        "BEGIN; SELECT FROM messaging.heads WHERE conversation_id = '{group}' FOR NO KEY UPDATE;
         UPDATE messaging.heads SET last_seq = 2 WHERE conversation_id = '{group}';
         INSERT INTO messaging.log (conversation_id, seq, id, kind, sender_id, countable_no, sent_at)
         VALUES ('{group}', 2, '{id}', 'message', '{}', 1, now());",
        user(1)
    );
    connection.batch_execute(&storing).await.unwrap();
    other.batch_execute(&left(id)).await.unwrap();
    let waits =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%change_scheduled%'";
    let commit = async {
        wait_for("the wait", async || if count(&mut other, waits).await > 0 { Ok(()) } else { Err("nobody waits") })
            .await
            .unwrap();
        connection.batch_execute("COMMIT").await.unwrap();
    };
    let (cancelled, ()) = tokio::join!(cancel(&fixture, 1, id), commit);
    assert_eq!(code(cancelled), Code::NotFound);
    assert_eq!(ids(&fixture.log(None, group).await)[1..], [id]);
    replica.stop().await;
}

/// What an author did to a message until it was sent, or deleted.
#[derive(Debug)]
struct Fate {
    message: AppendMessage,
    /// The metadata of the last change that was acknowledged.
    last: u64,
    /// A change whose outcome was not told.
    unknown: Option<u64>,
    was_cancelled: bool,
}

/// Changes a message again and again until it is gone, or deletes it after so many changes.
async fn harass(fixture: &Fixture, sender: u128, message: AppendMessage, cancel_after: Option<u64>) -> Fate {
    let id = message.message.id;
    let mut fate = Fate { message, last: 0, unknown: None, was_cancelled: false };
    for number in 1.. {
        if cancel_after == Some(number) {
            match cancel(fixture, sender, id).await {
                Ok(()) => fate.was_cancelled = true,
                Err(failure) => assert_eq!(failure.code, Code::NotFound, "{failure}"),
            }
            return fate;
        }
        match change(fixture, sender, id, json!({"metadata": {"n": number}})).await {
            Ok(ScheduleResponse::Kept(_)) => (fate.last, fate.unknown) = (number, None),
            Ok(response @ ScheduleResponse::Sent { .. }) => {
                assert_eq!(sent(response).metadata.get(), format!("{{\"n\":{number}}}"));
                (fate.last, fate.unknown) = (number, None);
                return fate;
            }
            Ok(ScheduleResponse::Due) => panic!("due"),
            Err(failure) if failure.code == Code::Unavailable => fate.unknown = Some(number),
            Err(failure) => {
                assert_eq!(failure.code, Code::NotFound, "{failure}");
                return fate;
            }
        }
    }
    unreachable!("numbers do not end")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_last_is_sent_and_what_was_deleted_is_not() {
    let (fixture, first) = Fixture::start().await;
    let second = fixture.replica().await;
    let mut connection = connect(&fixture.postgres).await;
    let mut fates = Vec::new();
    for round in 0..4 {
        let send_at = soon();
        let scheduling = (0..16_u128).map(|number| {
            let (fixture, sender) = (&fixture, 100 + round * 100 + number);
            let message = to(sender + 50, sender, sealed("a"));
            let cancel_after = (number % 2 == 1).then(|| 2 + 4 * u64::try_from(number).unwrap());
            async move {
                keep(fixture, &message, send_at).await;
                harass(fixture, sender, message, cancel_after).await
            }
        });
        fates.extend(join_all(scheduling).await);
    }
    nothing_is_left(&mut connection).await;
    let cancelled = fates.iter().filter(|fate| fate.was_cancelled).count();
    assert!(cancelled > 0 && cancelled < fates.len(), "{cancelled} of {}", fates.len());
    for fate in fates {
        let log = fixture.log(None, fate.message.conversation_id).await;
        let metadata: Vec<_> =
            log.entries.iter().map(|entry| payload(&entry.frame).metadata.get().to_owned()).collect();
        if fate.was_cancelled {
            assert!(metadata.is_empty(), "{fate:?}: {metadata:?}");
            continue;
        }
        let text = |number: u64| if number == 0 { "{}".to_owned() } else { format!("{{\"n\":{number}}}") };
        let unknown = fate.unknown.map(text);
        assert!(metadata == [text(fate.last)] || metadata.first() == unknown.as_ref(), "{fate:?}: {metadata:?}");
        assert_eq!(metadata.len(), 1);
    }
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_what_is_due_and_what_one_leaves_behind_another_sends() {
    let (fixture, first) = Fixture::start().await;
    let second = fixture.replica().await;
    let mut connection = connect(&fixture.postgres).await;
    let messages: Vec<_> =
        (0..240_u128).map(|number| to(600 + number % 7, 500 + number / 8, sealed(&number.to_string()))).collect();
    join_all(messages.iter().map(|message| keep(&fixture, message, from_now(HOUR)))).await;
    // Some were taken by somebody who died: before they stored them, and after.
    let mut left = String::new();
    for (number, message) in messages.iter().enumerate().take(60) {
        if number % 2 == 0 {
            fixture.send(message.clone()).await;
        }
        left.push_str(&taken(message.message.id, 500));
    }
    connection.batch_execute(&left).await.unwrap();
    make_due(&mut connection).await;
    nothing_is_left(&mut connection).await;
    let log = "SELECT count(*) FROM messaging.log WHERE kind = 'message'";
    assert_eq!(count(&mut connection, log).await, 240);
    let distinct = "SELECT count(DISTINCT id) FROM messaging.log WHERE kind = 'message'";
    assert_eq!(count(&mut connection, distinct).await, 240);
    first.stop().await;
    second.stop().await;
}
