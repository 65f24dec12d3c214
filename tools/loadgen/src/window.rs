//! When messages are sent, and which of them are measured.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::stamp::Stamps;

/// Between everything being prepared and the first message.
const PREPARATION: Duration = Duration::from_millis(500);

/// How long.
#[derive(Debug, Clone, Copy, clap::Args, Serialize)]
pub(crate) struct Span {
    /// Seconds that are measured.
    #[arg(long, default_value_t = 30)]
    pub(crate) duration: u64,
    /// Seconds before that.
    #[arg(long, default_value_t = 5)]
    warm_up: u64,
}

/// The moments of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// The first message is due.
    pub(crate) begin: Instant,
    /// What is due from here on is measured.
    pub(crate) from: Instant,
    /// Nothing is due any more.
    pub(crate) end: Instant,
}

impl Window {
    /// A window that begins soon. Its moments are whole microseconds of the stamps, which cut off what is smaller: what
    /// is due exactly when measuring begins must not seem to have been due before.
    pub(crate) fn soon(stamps: &Stamps, span: Span) -> Self {
        let begin = stamps.whole_micros(Instant::now() + PREPARATION);
        let from = begin + Duration::from_secs(span.warm_up);
        Self { begin, from, end: from + Duration::from_secs(span.duration) }
    }

    /// Whether the moment is measured.
    pub(crate) fn measures(&self, moment: Instant) -> bool {
        (self.from..self.end).contains(&moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_first_and_last_in_the_measured_time_is_measured() {
        let stamps = Stamps::begin();
        let window = Window::soon(&stamps, Span { duration: 1, warm_up: 1 });
        let last = window.end.checked_sub(Duration::from_nanos(1)).unwrap();
        for (due, is_measured) in [(window.from, true), (last, true), (window.end, false)] {
            let seen = stamps.due(stamps.id(due, 1)).unwrap();
            assert_eq!(window.measures(seen), is_measured, "{:?}", seen - window.begin);
        }
        let before = window.from.checked_sub(Duration::from_nanos(1)).unwrap();
        assert!(!window.measures(stamps.due(stamps.id(before, 1)).unwrap()));
    }
}
