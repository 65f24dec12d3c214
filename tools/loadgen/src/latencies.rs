//! Latencies of one kind: a histogram, and what is told of it.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::stamp::micros;

/// Latencies above this count as this.
const LATENCY_MAX_US: u64 = 120_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;
/// Points of the distribution each time what is left of the messages halves.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// Latencies in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latencies {
    pub(crate) count: u64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    pub(crate) max_us: u64,
    /// Quantiles, and the latency of each.
    pub(crate) distribution: Vec<(f64, u64)>,
}

/// Counts latencies.
#[derive(Debug)]
pub(crate) struct Recorder(Histogram<u64>);

impl Recorder {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, LATENCY_MAX_US, SIGNIFICANT_DIGITS)?))
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(micros(latency));
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    pub(crate) fn latencies(&self) -> Latencies {
        let at = |quantile| self.0.value_at_quantile(quantile);
        let points = self.0.iter_quantiles(TICKS_PER_HALF_DISTANCE);
        Latencies {
            count: self.0.len(),
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.0.max(),
            distribution: points.map(|point| (point.quantile_iterated_to(), point.value_iterated_to())).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_rises_from_the_fastest_to_the_slowest() {
        let mut recorder = Recorder::new().unwrap();
        (1..=1_000).for_each(|ms| recorder.record(Duration::from_millis(ms)));
        let latencies = recorder.latencies();
        let near = |us: u64, ms: u64| us.abs_diff(ms * 1_000) <= us / 500;
        assert!(near(latencies.p50_us, 500) && near(latencies.p99_us, 990), "{latencies:?}");
        assert!(latencies.distribution.is_sorted_by(|one, next| one.0 <= next.0 && one.1 <= next.1), "{latencies:?}");
        assert!(latencies.distribution.last().is_some_and(|last| near(last.1, 1_000)), "{latencies:?}");
        recorder.record(Duration::MAX);
        assert!(recorder.latencies().max_us >= LATENCY_MAX_US);
    }
}
