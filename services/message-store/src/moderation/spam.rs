//! Spam: what somebody sends too often. Judged from the sender's last entries in the conversation's log, so that replicas
//! share nothing.

use std::num::NonZeroU32;

use entrenous_protocol::{Code, Failure};

use super::FIELD;

#[derive(Debug, Clone, Copy)]
pub(super) struct SpamLimits {
    pub(super) repeats_max: Option<NonZeroU32>,
    pub(super) repeats_seconds: u32,
    pub(super) flood_max: Option<NonZeroU32>,
    pub(super) flood_seconds: u32,
}

/// What somebody has lately sent into a conversation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Recent {
    /// Entries within the window of floods.
    pub(crate) entries: u64,
    /// Milliseconds until the oldest of them leaves the window.
    pub(crate) oldest_leaves_ms: u64,
    /// The same text within the window of repeats.
    pub(crate) same: u64,
}

impl SpamLimits {
    pub(super) fn is_any(&self) -> bool {
        self.repeats_max.is_some() || self.flood_max.is_some()
    }

    pub(super) fn judge(&self, recent: Recent) -> Result<(), Failure> {
        let is_over = |max: Option<NonZeroU32>, count: u64| max.is_some_and(|max| count >= u64::from(max.get()));
        if is_over(self.flood_max, recent.entries) {
            let failure = Failure::new(Code::RateLimited, "too many messages in a short time");
            return Err(failure.with_retry_after_ms(recent.oldest_leaves_ms.max(1)));
        }
        if is_over(self.repeats_max, recent.same) {
            return Err(Failure::invalid(FIELD, "is the same text again"));
        }
        Ok(())
    }
}
