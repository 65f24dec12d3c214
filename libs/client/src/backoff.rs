//! Whether and when to come back after a connection ended. Pure: no clock, no I/O.

use std::time::Duration;

use entrenous_protocol::CloseCode;

/// What the end of a connection asks of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Come back, with back-off and jitter.
    ComeBack,
    /// Come back with a new access token.
    RenewToken,
    /// Do not come back until something changed.
    StayAway,
}

impl Verdict {
    /// The verdict of a close code; a connection that broke off without one may come back.
    pub fn of(code: Option<u16>) -> Self {
        match code {
            Some(code) if code == CloseCode::TokenExpired.number() => Self::RenewToken,
            Some(code) if !CloseCode::invites_back(code) => Self::StayAway,
            Some(_) | None => Self::ComeBack,
        }
    }
}

/// Full jitter: each wait is drawn evenly between nothing and a ceiling that doubles.
///
/// Source: <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    ceiling: Duration,
    attempts: u32,
}

/// Doubling more often than this changes nothing: the ceiling is reached long before.
const DOUBLINGS_MAX: u32 = 16;

impl Backoff {
    /// Waits up to `base` at first, and never longer than `ceiling`.
    pub fn new(base: Duration, ceiling: Duration) -> Self {
        Self { base, ceiling, attempts: 0 }
    }

    /// The next wait.
    pub fn next_delay(&mut self) -> Duration {
        self.next_delay_at(rand::random())
    }

    /// The next wait at this point (0 to 1) of its range.
    pub fn next_delay_at(&mut self, point: f64) -> Duration {
        let range = self.base.saturating_mul(1 << self.attempts.min(DOUBLINGS_MAX)).min(self.ceiling);
        self.attempts = self.attempts.saturating_add(1);
        range.mul_f64(point.clamp(0.0, 1.0))
    }

    /// Attempts since the last success.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The connection came about and lasted: begin anew.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_millis(500), Duration::from_secs(30))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_close_code_has_its_verdict() {
        for code in [None, Some(1001), Some(1006), Some(1012), Some(4400), Some(4408), Some(4413)] {
            assert_eq!(Verdict::of(code), Verdict::ComeBack, "{code:?}");
        }
        assert_eq!(Verdict::of(Some(4401)), Verdict::RenewToken);
        for code in [1003, 1007, 1008, 1009, 4500, 4501, 4503, 4509] {
            assert_eq!(Verdict::of(Some(code)), Verdict::StayAway, "{code}");
        }
    }

    #[test]
    fn waits_double_up_to_the_ceiling_and_begin_anew() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        let waits: Vec<_> = (0..5).map(|_| backoff.next_delay_at(1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 5, 5]);
        backoff.reset();
        assert_eq!(backoff.next_delay_at(0.5), Duration::from_millis(500));
        assert_eq!(backoff.next_delay_at(0.0), Duration::ZERO);
    }

    #[test]
    fn many_attempts_do_not_overflow() {
        let mut backoff = Backoff::default();
        for _ in 0..1_000 {
            assert!(backoff.next_delay() <= Duration::from_secs(30));
        }
    }
}
