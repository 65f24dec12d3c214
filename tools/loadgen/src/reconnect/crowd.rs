//! Clients that break off and come back, with the code that real programs use.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context;
use entrenous_client::{
    OutgoingMessage, Target as To,
    client::{Event, Handle, Options, Stats, Status},
};
use entrenous_model::{IdGenerator, UserId};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::{sync::watch, task::JoinSet};

use crate::{fill::pairs, output::progress, people::Person};

/// Clients that connect, or write, at once while the run is prepared.
const AT_ONCE: usize = 64;
/// How long all of them may take to be prepared.
const PREPARATION_MAX: Duration = Duration::from_secs(300);

/// Everybody.
#[derive(Debug)]
pub(crate) struct Crowd {
    members: Vec<(UserId, Handle)>,
    seen: Arc<Seen>,
    /// Each owns its client.
    _tasks: JoinSet<()>,
}

/// What the clients saw.
#[derive(Debug, Default)]
struct Seen {
    /// When they were synced.
    synced: Mutex<Vec<Instant>>,
    synced_count: watch::Sender<usize>,
    /// Entries, own ones included.
    entries: watch::Sender<usize>,
    ended: watch::Sender<Option<String>>,
}

impl Crowd {
    /// Connects and syncs all.
    pub(crate) async fn gather(people: &[Person], options: &Options) -> anyhow::Result<Self> {
        progress(&format!("starting {} clients", people.len()));
        let seen = Arc::new(Seen::default());
        let mut tasks = JoinSet::new();
        let mut members = Vec::new();
        let mut started = 0;
        for some in people.chunks(AT_ONCE) {
            for person in some {
                let mut client = person.stay(options.clone())?;
                members.push((person.user_id, client.handle().clone()));
                let seen = Arc::clone(&seen);
                tasks.spawn(async move {
                    while let Some(event) = client.next().await {
                        seen.take(event);
                    }
                });
            }
            started += some.len();
            seen.wait(&seen.synced_count, started).await.context("not all clients were synced")?;
        }
        Ok(Self { members, seen, _tasks: tasks })
    }

    /// Everybody gets so many direct conversations, with one message in each.
    pub(crate) async fn meet(&self, conversations: usize, payload: usize) -> anyhow::Result<()> {
        let pairs = pairs(self.members.len(), conversations);
        progress(&format!("making {} conversations", pairs.len()));
        let bytes: Vec<u8> = (0..payload).map(|_| rand::random()).collect();
        let expected = *self.seen.entries.borrow() + pairs.len() * 2;
        let writing = pairs.into_iter().filter_map(|(from, to)| {
            let (_, handle) = self.members.get(from)?;
            let (user_id, _) = self.members.get(to)?;
            let message = OutgoingMessage::sealed(IdGenerator.next(), "load", &bytes);
            Some(async move { handle.send(To::User(*user_id), &message).await.map(drop) })
        });
        stream::iter(writing).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        self.seen.wait(&self.seen.entries, expected).await.context("not all messages arrived")
    }

    /// Breaks all connections off and waits until all are synced again, or the limit has passed. Gives how long each
    /// took, the fastest first.
    pub(crate) async fn break_all(&self, limit: Duration) -> Vec<Duration> {
        self.seen.synced.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.seen.synced_count.send_replace(0);
        let broken = Instant::now();
        for (_, handle) in &self.members {
            // One that has ended is missing in the end.
            handle.reconnect().await.unwrap_or_default();
        }
        let all = self.seen.wait(&self.seen.synced_count, self.members.len());
        match tokio::time::timeout(limit, all).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => progress(&format!("{error:#}")),
            Err(_) => progress("not all are back"),
        }
        let synced = self.seen.synced.lock().unwrap_or_else(PoisonError::into_inner);
        synced.iter().map(|at| at.saturating_duration_since(broken)).collect()
    }

    /// Of all together.
    pub(crate) fn stats(&self) -> Stats {
        self.members.iter().map(|(_, handle)| handle.stats()).fold(Stats::default(), |sum, one| Stats {
            attempts: sum.attempts + one.attempts,
            connections: sum.connections + one.connections,
            syncs: sum.syncs + one.syncs,
            repeats: sum.repeats + one.repeats,
            violations: sum.violations + one.violations,
            digest_mismatches: sum.digest_mismatches + one.digest_mismatches,
            device_seq_mismatches: sum.device_seq_mismatches + one.device_seq_mismatches,
        })
    }
}

impl Seen {
    fn take(&self, event: Event) {
        match event {
            Event::Entry(_) | Event::Acknowledged { in_place: true, .. } => {
                self.entries.send_modify(|count| *count += 1);
            }
            Event::Status(Status::Live) => {
                let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
                synced.push(Instant::now());
                self.synced_count.send_replace(synced.len());
            }
            // One of them is worth a look, whatever else the run shows.
            Event::Violation(violation) => progress(&format!("a client missed something: {violation:?}")),
            Event::Status(Status::Ended(end)) => {
                let end = anyhow::Error::from(end).context("a client ended");
                self.ended.send_replace(Some(format!("{end:#}")));
            }
            _ => {}
        }
    }

    async fn wait(&self, count: &watch::Sender<usize>, wanted: usize) -> anyhow::Result<()> {
        let (mut counted, mut ended) = (count.subscribe(), self.ended.subscribe());
        tokio::select! {
            // The senders are here: they cannot be gone.
            _ = counted.wait_for(|count| *count >= wanted) => Ok(()),
            ended = ended.wait_for(Option::is_some) => {
                anyhow::bail!(ended.ok().and_then(|end| end.clone()).unwrap_or_default())
            }
            () = tokio::time::sleep(PREPARATION_MAX) => {
                anyhow::bail!("{} of {wanted} after {} s", *count.borrow(), PREPARATION_MAX.as_secs())
            }
        }
    }
}
