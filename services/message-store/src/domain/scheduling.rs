//! What comes of a scheduled message at its time.

use std::time::Duration;

use entrenous_protocol::{
    Code, Failure,
    rpc::store::{AppendResult, Stored},
};

/// How long a message waits whose conversation was locked.
const BUSY_WAIT: Duration = Duration::from_millis(250);
/// And one that came too soon after another, where nobody says how long.
const SLOW_WAIT: Duration = Duration::from_secs(1);

/// What is to be done with it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// It is in the log.
    Sent(Stored),
    /// It never will be, as things are.
    Failed(Failure),
    /// Its epoch is over.
    Stale,
    /// It is not, and is tried again.
    Later(Duration),
    /// It may be: it is tried again once the lease has ended.
    Unknown,
}

impl Verdict {
    /// From what the append said.
    pub(crate) fn of(result: AppendResult) -> Self {
        match result {
            AppendResult::Stored(stored) => Self::Sent(stored),
            AppendResult::Busy => Self::Later(BUSY_WAIT),
            // An act's, never a message's.
            AppendResult::Done => Self::Failed(Failure::internal()),
            AppendResult::Refused(failure) => match failure.code {
                Code::Unavailable => Self::Unknown,
                Code::RateLimited => Self::Later(failure.retry_after_ms.map_or(SLOW_WAIT, Duration::from_millis)),
                _ => Self::Failed(failure),
            },
        }
    }

    /// Its name in metrics.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Sent(_) => "sent",
            Self::Failed(_) => "failed",
            Self::Stale => "stale",
            Self::Later(_) => "later",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_verdict_of_the_store_is_final() {
        let refused = |code| Verdict::of(AppendResult::Refused(Failure::new(code, "")));
        for code in [Code::NotFound, Code::Forbidden, Code::Invalid, Code::IdConflict, Code::Internal] {
            assert!(matches!(refused(code), Verdict::Failed(_)), "{code:?}");
        }
        assert_eq!(refused(Code::Unavailable), Verdict::Unknown);
        assert_eq!(refused(Code::RateLimited), Verdict::Later(SLOW_WAIT));
        let told = Failure::new(Code::RateLimited, "").with_retry_after_ms(7_000);
        assert_eq!(Verdict::of(AppendResult::Refused(told)), Verdict::Later(Duration::from_secs(7)));
        assert_eq!(Verdict::of(AppendResult::Busy), Verdict::Later(BUSY_WAIT));
    }
}
