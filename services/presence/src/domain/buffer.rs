//! What is still to be written: the last moment at which each of some users was seen.

use std::collections::BTreeMap;

use entrenous_model::{Timestamp, UserId};

use super::Seen;

/// Times that wait to be written, one for each user, the latest. Bounded: above it new users are left out, and what the
/// table knows of them stays as it is until they are seen again.
#[derive(Debug)]
pub struct LastSeenBuffer {
    waiting: BTreeMap<UserId, Timestamp>,
    users_max: usize,
}

impl LastSeenBuffer {
    /// An empty buffer for so many users.
    pub fn new(users_max: usize) -> Self {
        Self { waiting: BTreeMap::new(), users_max }
    }

    /// Adds times; tells how many found no place.
    pub fn add(&mut self, seen: Vec<Seen>) -> usize {
        let mut left_out = 0;
        for Seen { user_id, at } in seen {
            if let Some(known) = self.waiting.get_mut(&user_id) {
                *known = at.max(*known);
            } else if self.waiting.len() < self.users_max {
                self.waiting.insert(user_id, at);
            } else {
                left_out += 1;
            }
        }
        left_out
    }

    /// When a user was seen, if that is still to be written.
    pub fn get(&self, user_id: UserId) -> Option<Timestamp> {
        self.waiting.get(&user_id).copied()
    }

    /// The next ones to write, sorted by user; they stay until they are [`Self::written`].
    pub fn batch(&self, rows_max: usize) -> Vec<Seen> {
        self.waiting.iter().take(rows_max).map(|(user_id, at)| Seen { user_id: *user_id, at: *at }).collect()
    }

    /// Forgets what was written, unless the user was seen again since.
    pub fn written(&mut self, batch: &[Seen]) {
        for Seen { user_id, at } in batch {
            if self.waiting.get(user_id) == Some(at) {
                self.waiting.remove(user_id);
            }
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn seen(user: u128, millis: i64) -> Seen {
        let at = chrono::DateTime::from_timestamp_millis(millis).unwrap().into();
        Seen { user_id: Uuid::from_u128(user).into(), at }
    }

    #[test]
    fn the_latest_time_of_each_user_waits() {
        let mut buffer = LastSeenBuffer::new(2);
        assert_eq!(buffer.add(vec![seen(1, 20), seen(1, 10), seen(2, 5), seen(3, 5)]), 1);
        assert_eq!(buffer.batch(10), [seen(1, 20), seen(2, 5)]);
        assert_eq!(buffer.batch(1), [seen(1, 20)]);
    }

    #[test]
    fn what_was_seen_again_while_it_was_written_stays() {
        let mut buffer = LastSeenBuffer::new(2);
        buffer.add(vec![seen(1, 10), seen(2, 10)]);
        let batch = buffer.batch(10);
        buffer.add(vec![seen(1, 11)]);
        buffer.written(&batch);
        assert_eq!(buffer.batch(10), [seen(1, 11)]);
        assert_eq!(buffer.get(seen(1, 0).user_id), Some(seen(1, 11).at));
        assert_eq!(buffer.get(seen(2, 0).user_id), None);
    }
}
