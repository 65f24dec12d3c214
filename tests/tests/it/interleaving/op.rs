//! What a device may do.

use rand::{Rng, rngs::StdRng};

pub(super) const PEOPLE: usize = 3;
/// A direct conversation of the first two, and two groups of all three.
pub(super) const ROOMS: usize = 3;

/// One thing that a device does. Rooms and users by number.
#[derive(Debug, Clone, Copy)]
pub(super) enum Op {
    Connect,
    /// The connection is dropped as it stands, or with a goodbye.
    Disconnect {
        is_polite: bool,
    },
    /// With the cursors that the device has, or by what it has acknowledged.
    Sync {
        with_cursors: bool,
        limit: Option<u32>,
    },
    /// A message, or one of the encryption protocol's own, which is not for reading.
    Send {
        room: usize,
        by_rest: bool,
        is_control: bool,
    },
    /// Up to so many entries before the last that the device has.
    Delivered {
        room: usize,
        less: u64,
    },
    Read {
        room: usize,
        less: u64,
        by_rest: bool,
    },
    Add {
        room: usize,
        user: usize,
    },
    Remove {
        room: usize,
        user: usize,
    },
    Leave {
        room: usize,
    },
    /// Takes what has come.
    Take,
}

/// Who may add and remove members there; is always in.
pub(super) fn owner_of(room: usize) -> usize {
    usize::from(room == 2)
}

/// So many of them for a device of this user; a device begins with a connection.
pub(super) fn some(rng: &mut StdRng, user: usize, count: usize) -> Vec<Op> {
    let connected = [Op::Connect, Op::Sync { with_cursors: rng.random(), limit: None }];
    connected.into_iter().chain((0..count).map(|_| one(rng, user))).collect()
}

fn one(rng: &mut StdRng, user: usize) -> Op {
    // The third is not in the direct conversation.
    let room = rng.random_range(usize::from(user == 2)..ROOMS);
    let own = [1, 2].into_iter().find(|room| owner_of(*room) == user);
    match rng.random_range(0..100) {
        0..6 => Op::Connect,
        6..11 => Op::Disconnect { is_polite: rng.random() },
        11..23 => {
            let limit = rng.random_bool(0.5).then(|| rng.random_range(1..6));
            Op::Sync { with_cursors: rng.random(), limit }
        }
        23..53 => Op::Send { room, by_rest: rng.random_bool(0.3), is_control: rng.random_bool(0.15) },
        53..65 => Op::Delivered { room, less: rng.random_range(0..4) },
        65..80 => Op::Read { room, less: rng.random_range(0..4), by_rest: rng.random_bool(0.4) },
        80..92 => match own {
            Some(room) => {
                let other = (user + rng.random_range(1..PEOPLE)) % PEOPLE;
                if rng.random() { Op::Add { room, user: other } } else { Op::Remove { room, user: other } }
            }
            None => Op::Leave { room },
        },
        _ => Op::Take,
    }
}
