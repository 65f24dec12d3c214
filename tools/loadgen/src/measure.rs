//! What is counted while messages travel.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::stamp::micros;

/// Latencies above this count as this.
const LATENCY_MAX_US: u64 = 120_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

/// Is told what becomes of messages.
pub(crate) trait Observe: Send + Sync {
    /// An `ack` came for what was due then.
    fn acked(&self, due: Instant);

    /// The receiver got what was due then.
    fn received(&self, due: Instant);

    /// Something went wrong.
    fn failed(&self, why: &str);
}

/// Counts what was due between two moments.
#[derive(Debug)]
pub(crate) struct Measure {
    from: Instant,
    to: Instant,
    acked: Mutex<Series>,
    received: Mutex<Series>,
    errors: Mutex<BTreeMap<String, u64>>,
}

/// Latencies, and when they were seen.
#[derive(Debug)]
struct Series {
    latencies: Histogram<u64>,
    /// Answers that came within the time that is measured, whenever they were due.
    in_time: u64,
}

/// Latencies in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Latencies {
    pub(crate) count: u64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    pub(crate) max_us: u64,
}

impl Measure {
    /// Counts what is due from one moment to the other.
    pub(crate) fn between(from: Instant, to: Instant) -> anyhow::Result<Self> {
        Ok(Self {
            from,
            to,
            acked: Mutex::new(Series::new()?),
            received: Mutex::new(Series::new()?),
            errors: Mutex::default(),
        })
    }

    fn count(&self, series: &Mutex<Series>, due: Instant) {
        let now = Instant::now();
        let mut series = series.lock().unwrap_or_else(PoisonError::into_inner);
        if (self.from..self.to).contains(&now) {
            series.in_time += 1;
        }
        if (self.from..self.to).contains(&due) {
            series.latencies.saturating_record(micros(now.saturating_duration_since(due)));
        }
    }

    /// What has been counted.
    pub(crate) fn result(&self) -> Measured {
        let read = |series: &Mutex<Series>| {
            let series = series.lock().unwrap_or_else(PoisonError::into_inner);
            (series.latencies(), series.in_time)
        };
        let ((ack, acked), (received, _)) = (read(&self.acked), read(&self.received));
        let errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Measured { ack, received, acked_per_second: rate(acked, self.to - self.from), errors }
    }
}

impl Observe for Measure {
    fn acked(&self, due: Instant) {
        self.count(&self.acked, due);
    }

    fn received(&self, due: Instant) {
        self.count(&self.received, due);
    }

    fn failed(&self, why: &str) {
        count_error(&self.errors, why);
    }
}

fn count_error(errors: &Mutex<BTreeMap<String, u64>>, why: &str) {
    let mut errors = errors.lock().unwrap_or_else(PoisonError::into_inner);
    *errors.entry(why.to_owned()).or_default() += 1;
}

/// Every message received, for phases whose bounds are known only afterwards.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    /// When it was due, and when it was received.
    received: Mutex<Vec<(Instant, Instant)>>,
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Samples {
    /// What was due then, and received then.
    pub(crate) fn add(&self, due: Instant, at: Instant) {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).push((due, at));
    }

    /// Latencies of what was due between two moments.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> anyhow::Result<Latencies> {
        let mut series = Series::new()?;
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        for (due, at) in received.iter().filter(|(due, _)| (from..to).contains(due)) {
            series.latencies.saturating_record(micros(at.saturating_duration_since(*due)));
        }
        Ok(series.latencies())
    }

    /// What went wrong, how often.
    pub(crate) fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Observe for Samples {
    fn acked(&self, _: Instant) {}

    fn received(&self, due: Instant) {
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

/// What a run showed.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Measured {
    /// From due to `ack`.
    pub(crate) ack: Latencies,
    /// From due to the receiver.
    pub(crate) received: Latencies,
    /// Acks a second.
    pub(crate) acked_per_second: f64,
    /// What went wrong, how often.
    pub(crate) errors: BTreeMap<String, u64>,
}

impl Series {
    fn new() -> anyhow::Result<Self> {
        let latencies = Histogram::new_with_bounds(1, LATENCY_MAX_US, SIGNIFICANT_DIGITS)?;
        Ok(Self { latencies, in_time: 0 })
    }

    fn latencies(&self) -> Latencies {
        let at = |quantile| self.latencies.value_at_quantile(quantile);
        Latencies {
            count: self.latencies.len(),
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.latencies.max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_due_in_time_counts_and_from_when_it_was_due() {
        let now = Instant::now();
        let ago = |ms| now.checked_sub(Duration::from_millis(ms)).unwrap();
        let measure = Measure::between(ago(1_000), now + Duration::from_secs(9)).unwrap();
        measure.acked(ago(2_000));
        measure.acked(ago(500));
        measure.received(ago(250));
        let result = measure.result();
        assert_eq!((result.ack.count, result.received.count), (1, 1));
        assert!((499_000..600_000).contains(&result.ack.p50_us), "{result:?}");
        assert!((result.acked_per_second - 0.2).abs() < 0.001, "{result:?}");
    }

    #[test]
    fn samples_belong_to_the_phase_in_which_they_were_due() {
        let now = Instant::now();
        let ago = |ms| now.checked_sub(Duration::from_millis(ms)).unwrap();
        let samples = Samples::default();
        samples.received(ago(3_000));
        samples.received(ago(1_000));
        let (before, after) = (samples.between(ago(4_000), ago(2_000)), samples.between(ago(2_000), now));
        let (before, after) = (before.unwrap(), after.unwrap());
        assert_eq!((before.count, after.count), (1, 1));
        assert!(before.max_us >= 2_990_000 && after.max_us < before.max_us, "{before:?} {after:?}");
    }
}
