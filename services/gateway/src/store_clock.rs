//! The clock of the store's database, as far as this gateway knows it.
//!
//! What was given up must not be carried out later: by then a repeat may have been answered otherwise. So batches and new
//! connections say until when they may be written, by the clock of the one who writes them. The gateway reads that clock
//! off every answer; machines' own clocks need not agree.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use entrenous_model::Timestamp;
use tokio::time::Instant;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct StoreClock(Mutex<Option<(Instant, Timestamp)>>);

impl StoreClock {
    /// The clock was at least here a moment ago.
    pub(crate) fn note(&self, at: Timestamp) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), at));
    }

    /// The clock was set, or another database answers.
    pub(crate) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What the clock shows that long from now, or a little less; none where nothing was read off it yet.
    pub(crate) fn after(&self, time: Duration) -> Option<Timestamp> {
        let (noted_at, at) = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        let later = chrono::TimeDelta::from_std(noted_at.elapsed() + time).ok()?;
        Some(Timestamp::from(at.as_datetime() + later))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_from_what_was_noted() {
        let clock = StoreClock::default();
        assert_eq!(clock.after(Duration::ZERO), None);
        let noon = Timestamp::from(chrono::DateTime::from_timestamp_millis(1_700_000_000_000).unwrap());
        clock.note(noon);
        tokio::time::advance(Duration::from_secs(2)).await;
        let later = clock.after(Duration::from_secs(3)).unwrap();
        assert_eq!(later.unix_seconds() - noon.unix_seconds(), 5);
        clock.forget();
        assert_eq!(clock.after(Duration::ZERO), None);
    }
}
