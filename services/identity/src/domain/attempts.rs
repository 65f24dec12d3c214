//! The limit on wrong passwords.
//!
//! A try is counted before the password is looked at and struck off when it was right: tries at the same moment, on
//! whatever replica, cannot get around the limit together.

use std::time::Duration;

use entrenous_model::Timestamp;

/// A try that is not settled after so long was left behind by a process that died: it counts as wrong.
const UNDER_WAY_MAX: Duration = Duration::from_secs(15);

/// A try that counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt {
    pub(crate) attempted_at: Timestamp,
    /// The password was wrong. Otherwise it is still being looked at.
    pub(crate) is_settled: bool,
}

/// What becomes of the next try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may go ahead, counted.
    Admit,
    /// The limit is reached only if those under way turn out wrong.
    Wait,
    /// The limit is reached.
    Refuse { retry_after: Duration },
}

/// Decides over the next try, from the newest `max` ones within the window, newest first.
pub(crate) fn judge(newest: &[Attempt], max: usize, window: Duration, now: Timestamp) -> Verdict {
    let Some(oldest) = newest.get(max.saturating_sub(1)) else {
        return Verdict::Admit;
    };
    let is_under_way = |attempt: &Attempt| !attempt.is_settled && attempt.attempted_at + UNDER_WAY_MAX > now;
    if newest.iter().any(is_under_way) {
        return Verdict::Wait;
    }
    let left_ms = (oldest.attempted_at + window).unix_millis() - now.unix_millis();
    Verdict::Refuse { retry_after: Duration::from_millis(u64::try_from(left_ms).unwrap_or_default().max(1)) }
}

#[cfg(test)]
mod tests {
    use entrenous_model::{Clock, SystemClock};

    use super::*;

    const WINDOW: Duration = Duration::from_secs(900);

    fn attempts(ages: &[u64], is_settled: bool) -> (Vec<Attempt>, Timestamp) {
        let now = SystemClock.now();
        let attempt = |age: &u64| Attempt { attempted_at: now - Duration::from_secs(*age), is_settled };
        (ages.iter().map(attempt).collect(), now)
    }

    #[test]
    fn the_limit_counts_failures_and_says_when_the_oldest_is_forgotten() {
        let (four, now) = attempts(&[1, 2, 3, 4], true);
        assert_eq!(judge(&four, 5, WINDOW, now), Verdict::Admit);
        let (five, now) = attempts(&[1, 2, 3, 4, 800], true);
        assert_eq!(judge(&five, 5, WINDOW, now), Verdict::Refuse { retry_after: Duration::from_secs(100) });
    }

    #[test]
    fn tries_under_way_are_waited_for_but_not_for_ever() {
        let (fresh, now) = attempts(&[1, 2, 3, 4, 5], false);
        assert_eq!(judge(&fresh, 5, WINDOW, now), Verdict::Wait);
        let (stale, now) = attempts(&[20, 21, 22, 23, 24], false);
        assert!(matches!(judge(&stale, 5, WINDOW, now), Verdict::Refuse { .. }));
    }
}
