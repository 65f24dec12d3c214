//! The moment when a message was due, inside its id: whoever sees the id knows the latency without a table.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use entrenous_model::EntryId;
use uuid::Uuid;

/// Bits of the id after version and variant that hold microseconds and number.
const NUMBER_BITS: u32 = 20;
const LOW_BITS: u32 = 62;
const VERSION_7: u64 = 0x7000;
const VARIANT: u64 = 1 << 63;

/// Makes and reads ids of one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamps {
    began: Instant,
    began_ms: u64,
    /// Tells the ids of this run from those of others.
    run: u64,
}

impl Stamps {
    #[expect(clippy::cast_possible_truncation, reason = "Unix milliseconds fit 48 bits for 8,000 years")]
    #[expect(clippy::as_conversions, reason = "as above")]
    pub(crate) fn begin() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { began: Instant::now(), began_ms: now.as_millis() as u64, run: rand::random::<u64>() & 0xfff }
    }

    /// The moment, as an id can tell it.
    pub(crate) fn whole_micros(&self, moment: Instant) -> Instant {
        self.began + Duration::from_micros(micros(moment.saturating_duration_since(self.began)))
    }

    /// The id (`UUIDv7`) of a message that is due then. The number tells apart what one sender has due at the same moment.
    pub(crate) fn id(&self, due: Instant, number: u64) -> EntryId {
        let due_us = micros(due.saturating_duration_since(self.began));
        let ms = self.began_ms + due_us / 1_000;
        let low = ((due_us << NUMBER_BITS) | (number & ((1 << NUMBER_BITS) - 1))) & ((1 << LOW_BITS) - 1);
        Uuid::from_u64_pair((ms << 16) | VERSION_7 | self.run, VARIANT | low).into()
    }

    /// When the message was due; none for an id of somebody else's.
    pub(crate) fn due(&self, id: EntryId) -> Option<Instant> {
        let (high, low) = id.as_uuid().as_u64_pair();
        if high & 0xffff != VERSION_7 | self.run {
            return None;
        }
        let due_us = (low & ((1 << LOW_BITS) - 1)) >> NUMBER_BITS;
        Some(self.began + Duration::from_micros(due_us))
    }
}

/// Microseconds, at most what 64 bits hold.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_when_it_was_due() {
        let stamps = Stamps::begin();
        let due = stamps.began + Duration::from_micros(123_456_789);
        let (one, other) = (stamps.id(due, 1), stamps.id(due, 2));
        assert_ne!(one, other);
        assert_eq!((stamps.due(one), stamps.due(other)), (Some(due), Some(due)));
        assert_eq!((one.as_uuid().get_version_num(), one.as_uuid().get_variant()), (7, uuid::Variant::RFC4122));
        assert_eq!(stamps.due(Uuid::nil().into()), None);
    }
}
