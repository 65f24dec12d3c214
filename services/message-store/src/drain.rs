//! Hands device messages that came with an entry to the delivery tracker, which queues them for their devices. On every
//! replica; they share the work by claiming rows.
//!
//! A row is deleted when the tracker has answered. Whoever dies in between leaves it to others, and they send it again: the
//! tracker knows the ids of 30 days, so that a device gets it once.

use std::time::Duration;

use entrenous_bus::Bus;
use entrenous_db::{Database, DbError};
use entrenous_protocol::{
    Code, RawValue,
    device_message::{DEVICE_MESSAGES_MAX, NewDeviceMessage},
    rpc::tracker::{SendDeviceMessages, SendDeviceMessagesRequest},
};
use entrenous_runtime::Shutdown;
use futures::{StreamExt, stream};
use tokio::time::Instant;

use crate::{
    domain::rounds::halves,
    metrics::Metrics,
    store::pending_device_messages::{self, ClaimedMessage, PendingRow},
};

/// Between two looks where nothing waits.
const INTERVAL: Duration = Duration::from_secs(1);
/// For how long a claimed row is nobody else's. A replica that dies keeps it from others for so long.
const LEASE: Duration = Duration::from_secs(15);
/// How long sending what was claimed may take; less than the lease.
const SEND_MAX: Duration = Duration::from_secs(10);
/// How long the tracker has for one request.
const CALL_MAX: Duration = Duration::from_secs(4);
/// Requests under way at once.
const CALLS_AT_ONCE: usize = 4;
/// How long a message that the tracker does not take is left alone: half of its age, within these.
const WAIT_MIN: Duration = Duration::from_secs(15);
const WAIT_MAX: Duration = Duration::from_secs(3_600);
/// A device message waits no longer than this. Source: docs/protocol.md, section 6.
const AGE_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);
/// Connections to the database that are used at once.
const CONNECTIONS: usize = 1;

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The device's queue has it.
    Queued,
    /// The device is no more.
    Gone,
    /// It never can be queued: another message has its id, or it is no JSON.
    Unusable,
    /// Not now: the device's queue is full.
    Refused,
    /// The tracker is away: not the message's fault.
    Away,
}

/// Hands over until the stop. What is under way then is left to others, once its lease has ended.
pub(crate) async fn run(database: Database, bus: Bus, metrics: Metrics, stop: Shutdown) {
    let drain = Drain { database: database.share(CONNECTIONS), bus, metrics };
    let draining = async {
        loop {
            let has_more = drain.step().await.unwrap_or_else(|error| {
                tracing::debug!(%error, "device messages were not handed over");
                false
            });
            if !has_more {
                tokio::time::sleep(INTERVAL).await;
            }
        }
    };
    tokio::select! {
        () = stop.triggered() => {}
        () = draining => {}
    }
}

struct Drain {
    database: Database,
    bus: Bus,
    metrics: Metrics,
}

impl Drain {
    /// Takes a batch; whether to look for more at once.
    async fn step(&self) -> Result<bool, DbError> {
        let start = Instant::now();
        let claimed = pending_device_messages::claim(&mut *self.database.get().await?, LEASE).await?;
        self.metrics.statement("claim_pending_device_messages", start.elapsed());
        if claimed.is_empty() {
            return Ok(false);
        }
        let ages: Vec<(PendingRow, Duration)> = claimed.iter().map(|message| (message.row, message.age)).collect();
        let sent = tokio::time::timeout(SEND_MAX, self.send_all(claimed)).await.unwrap_or_default();
        let outcome_of = |row: PendingRow| {
            let sent = sent.iter().find(|(sent, _)| *sent == row);
            sent.map_or(Outcome::Away, |(_, outcome)| *outcome)
        };
        let judged: Vec<_> = ages.into_iter().map(|(row, age)| (row, age, outcome_of(row))).collect();
        self.conclude(&judged).await?;
        Ok(judged.iter().all(|(_, _, outcome)| *outcome != Outcome::Away))
    }

    async fn conclude(&self, judged: &[(PendingRow, Duration, Outcome)]) -> Result<(), DbError> {
        let (mut done, mut waiting) = (Vec::new(), Vec::new());
        for (row, age, outcome) in judged {
            self.metrics.device_message_handed_over(outcome.name());
            match outcome {
                Outcome::Queued | Outcome::Gone | Outcome::Unusable => done.push(*row),
                Outcome::Refused if *age >= AGE_MAX => done.push(*row),
                Outcome::Refused => waiting.push((*row, (*age / 2).clamp(WAIT_MIN, WAIT_MAX))),
                Outcome::Away => waiting.push((*row, INTERVAL)),
            }
        }
        let start = Instant::now();
        let mut connection = self.database.get().await?;
        if !done.is_empty() {
            pending_device_messages::delete(&mut connection, &done).await?;
        }
        if !waiting.is_empty() {
            pending_device_messages::defer(&mut connection, &waiting).await?;
        }
        self.metrics.statement("settle_pending_device_messages", start.elapsed());
        Ok(())
    }

    /// What was sent together stays together; different senders do not wait for each other.
    async fn send_all(&self, claimed: Vec<ClaimedMessage>) -> Vec<(PendingRow, Outcome)> {
        let mut batches: Vec<Vec<ClaimedMessage>> = Vec::new();
        for message in claimed {
            let sender = |message: &ClaimedMessage| (message.sender_id, message.sender_device_id);
            let batch = batches
                .iter_mut()
                .find(|batch| batch.len() < DEVICE_MESSAGES_MAX && batch.first().map(sender) == Some(sender(&message)));
            match batch {
                Some(batch) => batch.push(message),
                None => batches.push(vec![message]),
            }
        }
        let sending = stream::iter(batches).map(|batch| self.send_batch(batch)).buffer_unordered(CALLS_AT_ONCE);
        sending.concat().await
    }

    /// Sends messages of one sender. The tracker takes all or none: one that it refuses is found by halving, and stands alone.
    async fn send_batch(&self, batch: Vec<ClaimedMessage>) -> Vec<(PendingRow, Outcome)> {
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut parts = vec![batch];
        while let Some(part) = parts.pop() {
            let rows: Vec<PendingRow> = part.iter().map(|message| message.row).collect();
            let outcome = self.send(&part).await;
            let is_refusal = !matches!(outcome, Outcome::Queued | Outcome::Away);
            match if is_refusal { halves(part) } else { None } {
                Some((first, second)) => parts.extend([second, first]),
                None => outcomes.extend(rows.into_iter().map(|row| (row, outcome))),
            }
        }
        outcomes
    }

    async fn send(&self, part: &[ClaimedMessage]) -> Outcome {
        let Some(first) = part.first() else { return Outcome::Queued };
        let Some(messages) = part.iter().map(new_message).collect() else { return Outcome::Unusable };
        let request = SendDeviceMessagesRequest {
            sender_id: first.sender_id.into(),
            sender_device_id: first.sender_device_id.into(),
            messages,
        };
        let Err(failure) = self.bus.call::<SendDeviceMessages>(&request, CALL_MAX).await else {
            return Outcome::Queued;
        };
        match failure.code {
            Code::NotFound => Outcome::Gone,
            Code::IdConflict => Outcome::Unusable,
            Code::Unavailable => Outcome::Away,
            _ => Outcome::Refused,
        }
    }
}

fn new_message(message: &ClaimedMessage) -> Option<NewDeviceMessage> {
    let content = RawValue::from_string(String::from_utf8(message.content.clone()).ok()?).ok()?;
    let PendingRow { device_id, id } = message.row;
    Some(NewDeviceMessage { id: id.into(), user_id: message.user_id.into(), device_id: device_id.into(), content })
}

impl Outcome {
    /// Its name in metrics.
    fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Gone => "gone",
            Self::Unusable => "unusable",
            Self::Refused => "refused",
            Self::Away => "away",
        }
    }
}
