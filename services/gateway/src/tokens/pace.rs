//! How often keys are asked for: tokens that name unknown keys must not become requests to their issuer.

use std::time::Duration;

use entrenous_protocol::Failure;
use tokio::time::Instant;

/// After keys came.
const AFTER_SUCCESS: Duration = Duration::from_secs(5);
/// After none came.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// When it was asked last, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Pace(Option<(Instant, Result<(), Failure>)>);

impl Pace {
    /// What came of it last, while it is too early to ask again.
    pub(super) fn last(&self, now: Instant) -> Option<Result<(), Failure>> {
        let (asked_at, outcome) = self.0.as_ref()?;
        let wait = if outcome.is_ok() { AFTER_SUCCESS } else { AFTER_FAILURE };
        (now.duration_since(*asked_at) < wait).then(|| outcome.clone())
    }

    /// It was asked.
    pub(super) fn note(&mut self, now: Instant, outcome: Result<(), Failure>) {
        self.0 = Some((now, outcome));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_last_holds_for_a_while() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert_eq!(pace.last(start), None);
        pace.note(start, Ok(()));
        assert_eq!(pace.last(start + AFTER_SUCCESS - Duration::from_millis(1)), Some(Ok(())));
        assert_eq!(pace.last(start + AFTER_SUCCESS), None);
        let away = Failure::unavailable("away");
        pace.note(start, Err(away.clone()));
        assert_eq!(pace.last(start + AFTER_FAILURE - Duration::from_millis(1)), Some(Err(away)));
        assert_eq!(pace.last(start + AFTER_FAILURE), None);
    }
}
