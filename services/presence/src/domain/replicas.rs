//! Which replicas there are, and which of them tells of which user.

use std::time::Duration;

use ahash::{HashMap, HashMapExt};
use entrenous_model::UserId;
use entrenous_protocol::rpc::presence::ReplicaBeat;
use uuid::Uuid;

/// How long a silent replica is believed to be there: four beats.
const SILENCE_MAX: Duration = Duration::from_secs(4);

/// This replica and the others. Every replica knows every user; of each user the one tells that comes first in a rendezvous
/// hash of both ids, so that a replica which comes or goes moves no more users than its share.
///
/// Source: D. Thaler and C. Ravishankar, "Using name-based mappings to increase hit rates" (1998).
#[derive(Debug)]
pub struct Replicas {
    own_id: Uuid,
    is_ready: bool,
    others: HashMap<Uuid, Other>,
}

#[derive(Debug, Clone, Copy)]
struct Other {
    heard_at: Duration,
    number: u64,
    is_ready: bool,
}

/// What a beat brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Noted {
    /// Other users than before are ours.
    pub has_moved: bool,
    /// A beat was missed, and what users chose with it.
    pub has_gap: bool,
}

impl Replicas {
    /// Alone, and not ready.
    pub fn new(own_id: Uuid) -> Self {
        Self { own_id, is_ready: false, others: HashMap::new() }
    }

    /// This replica's id.
    pub fn own_id(&self) -> Uuid {
        self.own_id
    }

    /// Whether this replica tells of anybody.
    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// This replica knows enough to tell, or stops.
    pub fn set_ready(&mut self, is_ready: bool) {
        self.is_ready = is_ready;
    }

    /// Takes a beat; the own ones are passed over.
    pub fn note(&mut self, beat: &ReplicaBeat, now: Duration) -> Noted {
        if beat.replica_id == self.own_id {
            return Noted::default();
        }
        let heard = Other { heard_at: now, number: beat.number, is_ready: beat.is_ready };
        let before = self.others.insert(beat.replica_id, heard);
        Noted {
            has_moved: before.is_some_and(|before| before.is_ready) != beat.is_ready,
            has_gap: before.map_or(beat.number > 1, |before| before.number + 1 != beat.number),
        }
    }

    /// Gives up replicas that are silent; true where other users are ours now.
    pub fn advance(&mut self, now: Duration) -> bool {
        let mut has_moved = false;
        self.others.retain(|_, other| {
            let is_there = now.saturating_sub(other.heard_at) < SILENCE_MAX;
            has_moved |= !is_there && other.is_ready;
            is_there
        });
        has_moved
    }

    /// Whether this replica tells of a user.
    pub fn is_ours(&self, user_id: UserId) -> bool {
        let weight = |replica_id: Uuid| (mix_pair(replica_id, user_id.as_uuid()), replica_id);
        let own = weight(self.own_id);
        self.is_ready && self.others.iter().filter(|(_, other)| other.is_ready).all(|(id, _)| weight(*id) < own)
    }

    /// Replicas that tell, this one included.
    pub fn ready_count(&self) -> usize {
        self.others.values().filter(|other| other.is_ready).count() + usize::from(self.is_ready)
    }
}

/// A number that looks random, and is the same in every process.
fn mix_pair(one: Uuid, other: Uuid) -> u64 {
    let (high, low) = Uuid::from_u128(one.as_u128() ^ other.as_u128()).as_u64_pair();
    mix(mix(high) ^ low)
}

/// The finalizer of `SplitMix64`. Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(replica_id: Uuid, number: u64, is_ready: bool) -> ReplicaBeat {
        ReplicaBeat { replica_id, number, is_ready, chosen: Vec::new() }
    }

    fn users() -> impl Iterator<Item = UserId> {
        (0..3_000_u128).map(|number| Uuid::from_u128(number).into())
    }

    fn three() -> Vec<Replicas> {
        let ids: Vec<Uuid> = (0..3).map(Uuid::from_u128).collect();
        let knows_all = |own: &Uuid| {
            let mut replicas = Replicas::new(*own);
            replicas.set_ready(true);
            for id in &ids {
                replicas.note(&beat(*id, 1, true), Duration::ZERO);
            }
            replicas
        };
        ids.iter().map(knows_all).collect()
    }

    #[test]
    fn each_user_is_told_of_by_one_replica_and_the_shares_are_alike() {
        let replicas = three();
        let mut counts = [0; 3];
        for user_id in users() {
            let owners: Vec<usize> = (0..3).filter(|index| replicas[*index].is_ours(user_id)).collect();
            assert_eq!(owners.len(), 1);
            counts[owners[0]] += 1;
        }
        assert!(counts.iter().all(|count| (700..1_300).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_silent_replica_leaves_its_users_to_the_others() {
        let mut replicas = three();
        replicas.pop();
        let still = Duration::from_secs(3);
        let (first, second) = (replicas[0].own_id(), replicas[1].own_id());
        assert!(!replicas[0].note(&beat(second, 2, true), still).has_moved);
        replicas[1].note(&beat(first, 2, true), still);
        assert!(!replicas[0].advance(Duration::from_millis(3_999)));
        for replica in &mut replicas {
            assert!(replica.advance(Duration::from_secs(4)));
            assert_eq!(replica.ready_count(), 2);
        }
        for user_id in users() {
            let owners = replicas.iter().filter(|replica| replica.is_ours(user_id)).count();
            assert_eq!(owners, 1);
        }
    }

    #[test]
    fn who_is_not_ready_tells_of_nobody_and_what_was_missed_shows() {
        let (own, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut replicas = Replicas::new(own);
        assert!(users().all(|user_id| !replicas.is_ours(user_id)));
        replicas.set_ready(true);
        let noted = replicas.note(&beat(other, 5, false), Duration::ZERO);
        assert_eq!(noted, Noted { has_moved: false, has_gap: true });
        assert!(users().all(|user_id| replicas.is_ours(user_id)));
        assert_eq!(replicas.note(&beat(other, 6, true), Duration::ZERO), Noted { has_moved: true, has_gap: false });
        assert!(!users().all(|user_id| replicas.is_ours(user_id)));
        assert_eq!(replicas.note(&beat(other, 8, true), Duration::ZERO), Noted { has_moved: false, has_gap: true });
        assert_eq!(replicas.note(&beat(other, 9, false), Duration::ZERO), Noted { has_moved: true, has_gap: false });
        assert_eq!(replicas.note(&beat(own, 1, true), Duration::ZERO), Noted::default());
        assert!(users().all(|user_id| replicas.is_ours(user_id)));
    }
}
