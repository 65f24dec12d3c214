//! Sends scheduled messages at their time. On every replica; they share the work by taking rows with a lease.
//!
//! A message is appended as any other, before the end of the lease by the database's clock, and its row deleted afterwards.
//! Whoever dies in between leaves it to others, whose append is then a repeat. See docs/adr/0021.

use std::time::Duration;

use chrono::{DateTime, Utc};
use entrenous_bus::Deadline;
use entrenous_db::{Database, DbError};
use entrenous_model::{EntryId, UserId};
use entrenous_protocol::{
    Failure,
    entry::MessageType,
    live::UserNotice,
    rpc::{
        store::{AppendRequest, AppendResult},
        tracker::{AdvanceCursors, AdvanceCursorsRequest, CursorAdvance},
    },
    scheduled::ScheduledEvent,
};
use entrenous_runtime::Shutdown;
use tokio::time::Instant;

use crate::{
    domain::scheduling::Verdict,
    publish::Publication,
    rpc::{Context, append},
    store::scheduled::{self, Claimed, Expired, Key},
};

/// Between two looks at most: others may have taken what is due sooner.
const INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks where others are taking what is due.
const PAUSE: Duration = Duration::from_millis(50);
/// For how long a row is nobody else's. A replica that dies keeps it from others for so long.
pub(crate) const LEASE: Duration = Duration::from_secs(10);
/// How long sending what was taken may take; less than the lease.
const SEND_MAX: Duration = Duration::from_secs(7);
/// How long the delivery tracker has to hear of what was sent.
const NOTE_MAX: Duration = Duration::from_secs(4);
/// Connections to the database that are used at once, beside those of the appends.
const CONNECTIONS: usize = 1;

/// Sends until the stop; what is under way then is finished.
pub(crate) async fn run(context: Context, stop: Shutdown) {
    let database = context.database.share(CONNECTIONS);
    while !stop.is_triggered() {
        let wait = step(&context, &database).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "scheduled messages were not looked for");
            INTERVAL
        });
        tokio::select! {
            () = stop.triggered() => {}
            () = context.due_sooner.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Sends what is due; gives how long to wait for the next.
async fn step(context: &Context, database: &Database) -> Result<Duration, DbError> {
    let mut connection = database.get().await?;
    match scheduled::next_due(&mut connection).await? {
        Some(wait) if wait.is_zero() => {}
        next => return Ok(next.map_or(INTERVAL, |wait| wait.min(INTERVAL))),
    }
    let start = Instant::now();
    let claimed = scheduled::claim(&mut connection, LEASE).await?;
    context.metrics.statement("claim_scheduled", start.elapsed());
    drop(connection);
    let Some((claimed, leased_until)) = claimed else { return Ok(PAUSE) };
    deliver(context, claimed, leased_until, Deadline::after(SEND_MAX)).await;
    Ok(Duration::ZERO)
}

/// Sends rows that are the caller's until the end of the lease, and tells what became of each.
pub(crate) async fn deliver(
    context: &Context,
    claimed: Vec<Claimed>,
    leased_until: DateTime<Utc>,
    deadline: Deadline,
) -> Vec<Verdict> {
    let verdicts = judge(context, &claimed, leased_until, deadline).await;
    let rows: Vec<(Key, Verdict)> = claimed.iter().map(|one| one.row.key()).zip(verdicts.iter().cloned()).collect();
    match settle(context, &rows, leased_until).await {
        Ok(told) => {
            context.publisher.publish_unswept(publication(&told)).await;
            count(context, &claimed, &rows, &told);
            note_sent(context, &claimed, &verdicts);
        }
        // The rows are taken again once the lease has ended, and what was sent is then found in the log.
        Err(error) => tracing::debug!(%error, "what became of scheduled messages was not noted"),
    }
    verdicts
}

/// Appends what is not stale; one verdict each.
async fn judge(
    context: &Context,
    claimed: &[Claimed],
    leased_until: DateTime<Utc>,
    deadline: Deadline,
) -> Vec<Verdict> {
    let mut verdicts = Vec::with_capacity(claimed.len());
    let (mut messages, mut places) = (Vec::new(), Vec::new());
    for (place, one) in claimed.iter().enumerate() {
        verdicts.push(if one.is_stale { Verdict::Stale } else { Verdict::Unknown });
        match one.row.append_message() {
            Ok(message) if !one.is_stale => {
                messages.push(message);
                places.push(place);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "a scheduled message cannot be read");
                if let Some(verdict) = verdicts.last_mut() {
                    *verdict = Verdict::Failed(Failure::internal());
                }
            }
        }
    }
    for (place, result) in places.into_iter().zip(append_all(context, messages, leased_until, deadline).await) {
        if let Some(verdict) = verdicts.get_mut(place) {
            *verdict = Verdict::of(result);
        }
    }
    verdicts
}

async fn append_all(
    context: &Context,
    messages: Vec<entrenous_protocol::rpc::store::AppendMessage>,
    leased_until: DateTime<Utc>,
    deadline: Deadline,
) -> Vec<AppendResult> {
    if messages.is_empty() {
        return Vec::new();
    }
    let request = AppendRequest { messages, not_after: Some(leased_until.into()) };
    match append::handle(context.clone(), request, deadline).await {
        Ok(response) => response.results,
        Err(error) => {
            context.metrics.request_failed("send_scheduled", &error);
            Vec::new()
        }
    }
}

/// Notes what became of rows; gives what their authors are to be told.
async fn settle(
    context: &Context,
    rows: &[(Key, Verdict)],
    leased_until: DateTime<Utc>,
) -> Result<Vec<(Key, ScheduledEvent)>, DbError> {
    let keys = |is: fn(&Verdict) -> bool| -> Vec<Key> {
        rows.iter().filter(|(_, verdict)| is(verdict)).map(|(key, _)| *key).collect()
    };
    let start = Instant::now();
    let mut connection = context.database.get().await?;
    let mut told = Vec::new();
    let sent = keys(|verdict| matches!(verdict, Verdict::Sent(_)));
    if !sent.is_empty() {
        let gone = scheduled::conclude(&mut connection, &sent, leased_until).await?;
        told.extend(gone.into_iter().map(|key| (key, ScheduledEvent::Sent)));
    }
    let failed = keys(|verdict| matches!(verdict, Verdict::Failed(_)));
    if !failed.is_empty() {
        let failed = scheduled::fail(&mut connection, &failed, leased_until).await?;
        told.extend(failed.into_iter().map(|key| (key, ScheduledEvent::Failed)));
    }
    for (key, verdict) in rows {
        match verdict {
            Verdict::Later(wait) => scheduled::defer(&mut connection, *key, leased_until, *wait).await?,
            Verdict::Stale => match scheduled::expire(&mut connection, *key, leased_until).await? {
                Expired::Stale => told.push((*key, ScheduledEvent::Stale)),
                Expired::Sent => told.push((*key, ScheduledEvent::Sent)),
                Expired::Gone => {}
            },
            Verdict::Sent(_) | Verdict::Failed(_) | Verdict::Unknown => {}
        }
    }
    context.metrics.statement("settle_scheduled", start.elapsed());
    Ok(told)
}

fn publication(told: &[(Key, ScheduledEvent)]) -> Publication {
    let mut publication = Publication::default();
    for ((sender_id, id), event) in told {
        let notice = UserNotice::Scheduled { message_id: EntryId::from(*id), event: *event };
        publication.notice(UserId::from(*sender_id), notice);
    }
    publication
}

/// Tells the delivery tracker what gateways tell it of other messages: who sends has read what was there before. Nobody
/// waits for it: where it is lost, the authors of that learn it with the next receipt.
fn note_sent(context: &Context, claimed: &[Claimed], verdicts: &[Verdict]) {
    let cursors: Vec<_> = claimed.iter().zip(verdicts).filter_map(|(one, verdict)| sent_cursor(one, verdict)).collect();
    if cursors.is_empty() {
        return;
    }
    let bus = context.bus.clone();
    context.tasks.spawn(async move {
        let noted = bus.call::<AdvanceCursors>(&AdvanceCursorsRequest { cursors }, NOTE_MAX).await;
        let _ = noted.inspect_err(|error| tracing::debug!(%error, "the tracker was not told of scheduled messages"));
    });
}

fn sent_cursor(claimed: &Claimed, verdict: &Verdict) -> Option<CursorAdvance> {
    let Verdict::Sent(stored) = verdict else { return None };
    let message = claimed.row.append_message().ok()?;
    (message.message.message_type != MessageType::Control).then_some(CursorAdvance {
        user_id: message.sender_id,
        device_id: message.sender_device_id,
        conversation_id: message.conversation_id,
        delivered_seq: 0,
        read_seq: 0,
        sent_seq: stored.seq,
    })
}

fn count(context: &Context, claimed: &[Claimed], rows: &[(Key, Verdict)], told: &[(Key, ScheduledEvent)]) {
    for (one, (key, verdict)) in claimed.iter().zip(rows) {
        let is_done = told.iter().any(|(done, _)| done == key);
        match verdict {
            Verdict::Sent(stored) if is_done => {
                let lag = stored.sent_at.as_datetime() - one.row.send_at;
                context.metrics.scheduled_sent(lag.to_std().unwrap_or_default());
            }
            Verdict::Sent(_) => {}
            other => context.metrics.scheduled_message(other.name()),
        }
    }
}
