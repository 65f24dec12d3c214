//! Publishes what the feed says was never published: after a crash between commit and publication, a full queue, or while
//! NATS or JetStream was away. One sweeper for each plane, on every replica; they share the work by claiming rows.
//!
//! Everything is rebuilt from the log, so that nothing comes back that was erased meanwhile. What is published twice harms
//! nobody: a gateway drops frames that it has, and JetStream an event whose id it knows.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use diesel_async::AsyncPgConnection;
use entrenous_bus::{Bus, BusError, EventPublisher, LivePublisher};
use entrenous_db::{Database, DbError};
use entrenous_model::Clock;
use entrenous_protocol::{event::EntryAppended, live::UserNotice};
use entrenous_runtime::Shutdown;
use futures::{FutureExt, future::BoxFuture};
use tokio::{sync::mpsc, time::Instant};
use uuid::Uuid;

use super::{Incarnation, Publication, events, live};
use crate::{
    domain::{
        rounds::halves,
        sweep::{Outcome, Pass, Step, Sweep},
    },
    error::is_away,
    metrics::Metrics,
    store::{
        devices,
        feed::{self, ClaimedRow, FeedRow, Mark, Plane},
        feed_entries::{self, FedEntry, OfRow},
    },
};

/// Age at which a row without a mark is swept: longer than its own publication takes (a round trip, an ack, the interval
/// between two statements of marks), unless that has failed.
const SETTLED: Duration = Duration::from_secs(5);
/// For how long a claimed row is nobody else's, at least. A sweeper that dies keeps it from others for so long.
const LEASE: Duration = Duration::from_secs(15);
/// For how long a row that cannot be published is left alone, at most.
const WAIT_MAX: Duration = Duration::from_secs(120);
/// How long publishing what was claimed may take; less than the lease.
const PUBLISH_MAX: Duration = Duration::from_secs(10);
/// Rows whose entries are read at once, with their content: at most about 4 MiB each.
const READ_ROWS: usize = 16;
/// What the database's clock may differ from ours.
const SKEW_MAX: Duration = Duration::from_secs(60);

type Outcomes = Vec<(FeedRow, Outcome)>;

/// What the sweepers of both planes need. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Means {
    pub(super) bus: Bus,
    pub(super) database: Database,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) incarnation: Incarnation,
    pub(super) marks: mpsc::Sender<Mark>,
    pub(super) metrics: Metrics,
    /// How long after its time a row may become visible, at most.
    pub(super) late_max: Duration,
}

/// Where rows go; made when it is first needed. Frames have a connection of their own, so that sweeping much never delays
/// those that are published now.
enum Target {
    Live(Option<LivePublisher>),
    Event(Option<EventPublisher>),
}

/// Sweeps one plane.
pub(super) struct Sweeper {
    means: Means,
    plane: Plane,
    target: Target,
    sweep: Sweep<FeedRow>,
}

impl Sweeper {
    pub(super) fn new(means: Means, plane: Plane) -> Self {
        let late = means.clock.now().as_datetime() - means.late_max - SKEW_MAX;
        let target = match plane {
            Plane::Live => Target::Live(None),
            Plane::Event => Target::Event(None),
        };
        let late = FeedRow { created_at: late, batch_id: Uuid::nil() };
        Self { means, plane, target, sweep: Sweep::new(Instant::now(), late) }
    }

    /// Until the stop. What is under way then is left to others, once its lease has ended.
    pub(super) async fn run(mut self, stop: Shutdown) {
        let sweeping = async {
            loop {
                self.step().await;
                self.report();
            }
        };
        tokio::select! {
            () = stop.triggered() => {}
            () = sweeping => {}
        }
    }

    async fn step(&mut self) {
        let done = match self.sweep.next(Instant::now()) {
            Step::Sleep(until) => {
                tokio::time::sleep_until(until).await;
                return;
            }
            Step::Scan(pass, after) => self.scan(pass, after).await,
            Step::Claim(rows) => self.claim(rows).await,
        };
        if let Err(error) = done {
            tracing::debug!(%error, plane = self.plane.name(), "the feed was not swept");
            self.sweep.database_failed(Instant::now());
        }
    }

    async fn scan(&mut self, pass: Pass, after: Option<FeedRow>) -> Result<(), DbError> {
        let age = match pass {
            Pass::Early => SETTLED,
            Pass::Late => SETTLED.max(self.means.late_max),
        };
        let start = Instant::now();
        let mut connection = self.means.database.get().await?;
        let scanned = feed::scan(&mut connection, self.plane, after, age).await?;
        self.means.metrics.statement("scan_feed", start.elapsed());
        self.sweep.scanned(pass, scanned, Instant::now());
        Ok(())
    }

    async fn claim(&mut self, rows: Vec<FeedRow>) -> Result<(), DbError> {
        let start = Instant::now();
        let mut connection = self.means.database.get().await?;
        let (found, claimed) = feed::claim(&mut connection, self.plane, &rows, LEASE, WAIT_MAX).await?;
        self.means.metrics.statement("claim_feed", start.elapsed());
        self.sweep.looked_at(&rows, &found, Instant::now());
        if claimed.is_empty() {
            return Ok(());
        }
        // Not held while a plane is waited for: others need it.
        drop(connection);
        let publishing = self.publish(claimed.clone());
        let outcomes = match tokio::time::timeout(PUBLISH_MAX, publishing).await {
            Ok(outcomes) => outcomes?,
            Err(_) => all(&claimed, Outcome::PlaneAway),
        };
        self.conclude(outcomes).await
    }

    async fn conclude(&mut self, outcomes: Outcomes) -> Result<(), DbError> {
        self.sweep.published(&outcomes, Instant::now());
        let of = |wanted: Outcome| {
            let rows = outcomes.iter().filter(move |(_, outcome)| *outcome == wanted);
            rows.map(|(row, _)| *row).collect::<Vec<_>>()
        };
        let (published, untaken) = (of(Outcome::Published), of(Outcome::PlaneAway));
        let metrics = self.means.metrics;
        metrics.rows_swept(self.plane.name(), "published", published.len());
        metrics.rows_swept(self.plane.name(), "failed", outcomes.len() - published.len());
        let is_event = self.plane == Plane::Event;
        for row in published {
            // Ends after us.
            let _ = self.means.marks.send(Mark { row, live: !is_event, event: is_event }).await;
        }
        // It was not their fault: the plane is left alone, not they.
        if !untaken.is_empty() {
            feed::release(&mut *self.means.database.get().await?, &untaken).await?;
        }
        Ok(())
    }

    async fn publish(&mut self, rows: Vec<ClaimedRow>) -> Result<Outcomes, DbError> {
        let now = self.means.clock.now().as_datetime();
        let database = &self.means.database;
        match &mut self.target {
            Target::Live(target) => {
                if self.means.incarnation.get() == 0 {
                    self.means.incarnation.set(devices::read_incarnation(&mut *database.get().await?).await?);
                }
                let publisher = match target {
                    Some(publisher) => publisher,
                    None => match self.means.bus.live_publisher().await {
                        Ok(publisher) => target.insert(publisher),
                        Err(error) => return Ok(untaken(&rows, &error)),
                    },
                };
                publish_live(database, publisher, self.means.incarnation.get(), rows, now).await
            }
            Target::Event(target) => {
                let publisher = match target {
                    Some(publisher) => publisher,
                    None => match self.means.bus.event_publisher().await {
                        Ok(publisher) => target.insert(publisher),
                        Err(error) => return Ok(untaken(&rows, &error)),
                    },
                };
                publish_events(database, publisher, rows, now).await
            }
        }
    }

    fn report(&self) {
        let (oldest, rows) = self.sweep.waiting();
        let age = oldest.and_then(|row| (self.means.clock.now().as_datetime() - row.created_at).to_std().ok());
        self.means.metrics.rows_waiting(self.plane.name(), rows, age.unwrap_or_default());
    }
}

fn all(rows: &[ClaimedRow], outcome: Outcome) -> Outcomes {
    rows.iter().map(|row| (row.row, outcome)).collect()
}

fn untaken(rows: &[ClaimedRow], error: &BusError) -> Outcomes {
    tracing::debug!(%error, "a plane is away");
    all(rows, Outcome::PlaneAway)
}

/// Reads what rows name, as of now.
type Read<T> = for<'a> fn(
    &'a mut AsyncPgConnection,
    &'a [ClaimedRow],
    DateTime<Utc>,
) -> BoxFuture<'a, diesel::QueryResult<Vec<OfRow<T>>>>;

/// Reads what rows name; a row at which the database chokes is found by halving, and given none.
async fn read<T>(
    database: &Database,
    rows: Vec<ClaimedRow>,
    now: DateTime<Utc>,
    read: Read<T>,
) -> Result<Vec<(FeedRow, Option<Vec<T>>)>, DbError> {
    let mut done = Vec::with_capacity(rows.len());
    let mut parts = vec![rows];
    let mut connection = database.get().await?;
    while let Some(part) = parts.pop() {
        match read(&mut connection, &part, now).await.map_err(DbError::Query) {
            Ok(read) => done.extend(part.iter().map(|row| row.row).zip(read.into_iter().map(readable))),
            Err(error) if is_away(&error) => return Err(error),
            Err(error) => {
                let row = part.first().map(|row| row.row);
                match (halves(part), row) {
                    (Some((first, second)), _) => parts.extend([second, first]),
                    (None, Some(row)) => {
                        unreadable(&error);
                        done.push((row, None));
                    }
                    (None, None) => {}
                }
            }
        }
    }
    Ok(done)
}

fn readable<T>(of_row: OfRow<T>) -> Option<Vec<T>> {
    of_row.inspect_err(|error| unreadable(error)).ok()
}

fn unreadable(error: &dyn std::error::Error) {
    tracing::error!(%error, "entries that the feed names cannot be read: not published");
}

/// Frames, a few rows at a time, each time proven by a round trip.
async fn publish_live(
    database: &Database,
    publisher: &LivePublisher,
    incarnation: u64,
    mut rows: Vec<ClaimedRow>,
    now: DateTime<Utc>,
) -> Result<Outcomes, DbError> {
    let mut outcomes = Outcomes::with_capacity(rows.len());
    while !rows.is_empty() {
        let later = rows.split_off(rows.len().min(READ_ROWS));
        let portion = std::mem::replace(&mut rows, later);
        let entries = read(database, portion, now, |connection, rows, now| {
            feed_entries::read_entries(connection, rows, now).boxed()
        });
        let mut sent = Outcomes::new();
        for (row, entries) in entries.await? {
            let outcome = match entries {
                Some(entries) => send(publisher, incarnation, row, entries).await,
                None => Outcome::Unpublishable,
            };
            sent.push((row, outcome));
        }
        let is_proven =
            publisher.fence().await.inspect_err(|error| tracing::debug!(%error, "frames are not known to have left"));
        if is_proven.is_err() {
            sent.iter_mut()
                .filter(|(_, outcome)| *outcome == Outcome::Published)
                .for_each(|(_, outcome)| *outcome = Outcome::PlaneAway);
        }
        outcomes.extend(sent);
        if is_proven.is_err() {
            outcomes.extend(all(&rows, Outcome::PlaneAway));
            break;
        }
    }
    Ok(outcomes)
}

async fn send(publisher: &LivePublisher, incarnation: u64, row: FeedRow, entries: Vec<FedEntry>) -> Outcome {
    let mut publication = Publication::of_row(row);
    for fed in entries {
        let (conversation_id, kind) = (fed.setting.conversation_id, fed.setting.kind);
        for user_id in fed.joined {
            let notice = UserNotice::ConversationJoined { conversation_id, kind, joined_seq: fed.entry.seq };
            publication.notice(user_id.into(), notice);
        }
        // No connection waits for it as its own any more.
        publication.entry(&fed.setting, &fed.entry, 0, fed.countable_no, fed.leaves);
    }
    outcome(live::send(publisher, incarnation, &publication).await)
}

/// Events, all at once: each awaits its own ack.
async fn publish_events(
    database: &Database,
    publisher: &EventPublisher,
    rows: Vec<ClaimedRow>,
    now: DateTime<Utc>,
) -> Result<Outcomes, DbError> {
    let summaries =
        read(database, rows, now, |connection, rows, _| feed_entries::read_summaries(connection, rows).boxed());
    let publishing = summaries.await?.into_iter().map(|(row, summaries)| publish_event(publisher, row, summaries));
    Ok(futures::future::join_all(publishing).await)
}

async fn publish_event(
    publisher: &EventPublisher,
    row: FeedRow,
    summaries: Option<Vec<(EntryAppended, DateTime<Utc>)>>,
) -> (FeedRow, Outcome) {
    let outcome = match summaries {
        // Archived since: nothing is left to be told.
        Some(summaries) if summaries.is_empty() => Outcome::Published,
        Some(summaries) => {
            let events = summaries.into_iter().map(|(data, sent_at)| (data, sent_at.into())).collect();
            outcome(events::publish(publisher, events::Events { row, events }).await)
        }
        None => Outcome::Unpublishable,
    };
    (row, outcome)
}

fn outcome(published: Result<(), BusError>) -> Outcome {
    match published {
        Ok(()) => Outcome::Published,
        Err(error @ BusError::Encode(_)) => {
            unreadable(&error);
            Outcome::Unpublishable
        }
        Err(error) => {
            tracing::debug!(%error, "what was swept was not taken");
            Outcome::PlaneAway
        }
    }
}
