//! When the key that signs access tokens gets a successor.

use std::time::Duration;

use entrenous_model::Timestamp;

/// What tokens may live longer than they say: clocks differ, and a replica may hear late of a new key.
const SLACK: Duration = Duration::from_secs(600);

/// The rules in force.
#[derive(Debug, Clone)]
pub(crate) struct Rotation {
    /// Age at which a key gets a successor.
    pub(crate) every: Duration,
    /// How long a key is published before it signs.
    pub(crate) publish_ahead: Duration,
    /// Life of an access token.
    pub(crate) access_token: Duration,
}

impl Rotation {
    /// From when on a new key is to sign, if it is time to make one. The very first signs at once: there is nobody yet
    /// who would have to hear of it before.
    pub(crate) fn due(&self, newest_created_at: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        match newest_created_at {
            None => Some(now),
            Some(created_at) if created_at + self.every <= now => Some(now + self.publish_ahead),
            Some(_) => None,
        }
    }

    /// Until when tokens signed by a key may live whose successor signs from then on.
    pub(crate) fn not_after(&self, successor_signs_from: Timestamp) -> Timestamp {
        successor_signs_from + self.access_token + SLACK
    }
}

/// Which key signs at a moment: the newest that is already to sign; before all of them (clocks differ), the oldest.
pub(crate) fn signing_at<K>(keys: &[K], signs_from: impl Fn(&K) -> Timestamp, now: Timestamp) -> Option<&K> {
    let begun = keys.iter().filter(|key| signs_from(key) <= now).max_by_key(|key| signs_from(key));
    begun.or_else(|| keys.iter().min_by_key(|key| signs_from(key)))
}

#[cfg(test)]
mod tests {
    use entrenous_model::{Clock, SystemClock};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn the_first_key_signs_at_once_and_later_ones_are_announced() {
        let rotation = Rotation { every: 24 * HOUR, publish_ahead: HOUR, access_token: HOUR };
        let now = SystemClock.now();
        assert_eq!(rotation.due(None, now), Some(now));
        assert_eq!(rotation.due(Some(now - 23 * HOUR), now), None);
        assert_eq!(rotation.due(Some(now - 24 * HOUR), now), Some(now + HOUR));
        assert!(rotation.not_after(now) > now + HOUR);
    }

    #[test]
    fn a_key_signs_from_its_time_on() {
        let now = SystemClock.now();
        let keys = [now - 2 * HOUR, now - HOUR, now + HOUR];
        let at = |moment| signing_at(&keys, |key| *key, moment).copied();
        assert_eq!(at(now), Some(keys[1]));
        assert_eq!(at(now + HOUR), Some(keys[2]));
        assert_eq!(at(now - 3 * HOUR), Some(keys[0]));
        assert_eq!(signing_at::<Timestamp>(&[], |key| *key, now), None);
    }
}
