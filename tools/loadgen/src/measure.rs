//! What is counted while messages travel.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use entrenous_model::EntryId;

use crate::{
    latencies::{Latencies, Recorder},
    window::Window,
};

/// What went wrong, how often.
pub(crate) type Errors = BTreeMap<String, u64>;

/// Is told what becomes of messages.
pub(crate) trait Observe: Send + Sync {
    /// A message is due.
    fn due(&self, due: Instant);

    /// An answer came for what was due then.
    fn acked(&self, due: Instant);

    /// A receiver got the message that was due then.
    fn received(&self, due: Instant, id: EntryId);

    /// Something went wrong.
    fn failed(&self, why: &str);
}

/// Counts what is due in a window.
#[derive(Debug)]
pub(crate) struct Measure {
    window: Window,
    has_receivers: bool,
    due: AtomicU64,
    /// Within the window, whenever they were due.
    acked_in_time: AtomicU64,
    delivered_in_time: AtomicU64,
    acked: Mutex<Recorder>,
    received: Mutex<Recorder>,
    errors: Mutex<Errors>,
}

/// What a run showed.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    /// Messages that were due.
    pub(crate) due: u64,
    /// From due to the answer.
    pub(crate) ack: Latencies,
    /// From due to the last receiver; none where nobody receives.
    pub(crate) received: Option<Latencies>,
    /// Answers within the window, whenever it was due.
    pub(crate) acked_in_time: u64,
    /// Answers a second.
    pub(crate) acked_per_second: f64,
    /// Live deliveries a second, to all receivers together.
    pub(crate) delivered_per_second: f64,
    pub(crate) errors: Errors,
}

impl Measured {
    /// How many were due and never answered.
    pub(crate) fn unanswered(&self) -> u64 {
        self.due.saturating_sub(self.ack.count)
    }
}

impl Measure {
    /// Counts what is due in the window.
    pub(crate) fn new(window: Window, has_receivers: bool) -> anyhow::Result<Self> {
        Ok(Self {
            window,
            has_receivers,
            due: AtomicU64::new(0),
            acked_in_time: AtomicU64::new(0),
            delivered_in_time: AtomicU64::new(0),
            acked: Mutex::new(Recorder::new()?),
            received: Mutex::new(Recorder::new()?),
            errors: Mutex::default(),
        })
    }

    /// One receiver has a message.
    pub(crate) fn delivered(&self) {
        self.count_in_time(&self.delivered_in_time);
    }

    /// All receivers have a message.
    pub(crate) fn complete(&self, due: Instant) {
        self.record(&self.received, due);
    }

    fn count_in_time(&self, counter: &AtomicU64) {
        if self.window.measures(Instant::now()) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn record(&self, recorder: &Mutex<Recorder>, due: Instant) {
        if self.window.measures(due) {
            lock(recorder).record(Instant::now().saturating_duration_since(due));
        }
    }

    /// Whether nothing is waited for any more.
    pub(crate) fn is_complete(&self) -> bool {
        let answered = lock(&self.acked).count() + lock(&self.errors).values().sum::<u64>();
        answered >= self.due.load(Ordering::Relaxed)
            && (!self.has_receivers || lock(&self.received).count() >= lock(&self.acked).count())
    }

    /// What has been counted.
    pub(crate) fn result(&self) -> Measured {
        let per_second = |counter: &AtomicU64| {
            rate(counter.load(Ordering::Relaxed), self.window.end.saturating_duration_since(self.window.from))
        };
        Measured {
            due: self.due.load(Ordering::Relaxed),
            ack: lock(&self.acked).latencies(),
            received: self.has_receivers.then(|| lock(&self.received).latencies()),
            acked_in_time: self.acked_in_time.load(Ordering::Relaxed),
            acked_per_second: per_second(&self.acked_in_time),
            delivered_per_second: per_second(&self.delivered_in_time),
            errors: lock(&self.errors).clone(),
        }
    }
}

impl Observe for Measure {
    fn due(&self, due: Instant) {
        if self.window.measures(due) {
            self.due.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn acked(&self, due: Instant) {
        self.count_in_time(&self.acked_in_time);
        self.record(&self.acked, due);
    }

    fn received(&self, due: Instant, _: EntryId) {
        self.delivered();
        self.complete(due);
    }

    fn failed(&self, why: &str) {
        count_error(&self.errors, why);
    }
}

fn count_error(errors: &Mutex<Errors>, why: &str) {
    *lock(errors).entry(why.to_owned()).or_default() += 1;
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything that was received, for phases whose bounds are known only afterwards.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    /// When it was due, and when it was received.
    received: Mutex<Vec<(Instant, Instant)>>,
    errors: Mutex<Errors>,
}

impl Samples {
    /// What was due then, and received then.
    pub(crate) fn add(&self, due: Instant, at: Instant) {
        lock(&self.received).push((due, at));
    }

    /// Latencies of what was due between two moments.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> anyhow::Result<Latencies> {
        let mut recorder = Recorder::new()?;
        for (due, at) in lock(&self.received).iter().filter(|(due, _)| (from..to).contains(due)) {
            recorder.record(at.saturating_duration_since(*due));
        }
        Ok(recorder.latencies())
    }

    /// What went wrong, how often.
    pub(crate) fn errors(&self) -> Errors {
        lock(&self.errors).clone()
    }
}

impl Observe for Samples {
    fn due(&self, _: Instant) {}

    fn acked(&self, _: Instant) {}

    fn received(&self, due: Instant, _: EntryId) {
        self.add(due, Instant::now());
    }

    fn failed(&self, why: &str) {
        count_error(&self.errors, why);
    }
}

/// So many in so long, each second.
#[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "exact up to 2^53")]
pub(crate) fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ago(now: Instant, ms: u64) -> Instant {
        now.checked_sub(Duration::from_millis(ms)).unwrap()
    }

    #[test]
    fn only_what_was_due_in_time_counts_and_from_when_it_was_due() {
        let now = Instant::now();
        let window = Window { begin: ago(now, 3_000), from: ago(now, 1_000), end: now + Duration::from_secs(9) };
        let measure = Measure::new(window, true).unwrap();
        for due in [ago(now, 2_000), ago(now, 500)] {
            measure.due(due);
            measure.acked(due);
        }
        assert!(!measure.is_complete(), "nobody received it");
        measure.received(ago(now, 500), uuid::Uuid::nil().into());
        assert!(measure.is_complete());
        let result = measure.result();
        assert_eq!((result.due, result.ack.count, result.received.map(|received| received.count)), (1, 1, Some(1)));
        assert!((499_000..600_000).contains(&result.ack.p50_us), "{:?}", result.ack);
        assert!((result.acked_per_second - 0.2).abs() < 0.001, "{}", result.acked_per_second);
    }

    #[test]
    fn samples_belong_to_the_phase_in_which_they_were_due() {
        let now = Instant::now();
        let samples = Samples::default();
        for ms in [3_000, 1_000] {
            samples.received(ago(now, ms), uuid::Uuid::nil().into());
        }
        let (middle, after) = (ago(now, 2_000), now);
        let before = samples.between(ago(now, 4_000), middle).unwrap();
        let after = samples.between(middle, after).unwrap();
        assert_eq!((before.count, after.count), (1, 1));
        assert!(before.max_us >= 2_990_000 && after.max_us < before.max_us, "{before:?} {after:?}");
    }
}
