//! What a device may do.

use entrenous_protocol::entry::Role;
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

pub(super) const PEOPLE: usize = 3;
/// A direct conversation of the first two, two groups of all three, and a public one that the third begins alone.
pub(super) const ROOMS: usize = 4;
/// The public one.
pub(super) const PUBLIC: usize = 3;
/// What people react with.
pub(super) const REACTIONS: [&str; 2] = ["👍", "👀"];
/// Latest messages that people do something with: few, so that they meet.
const LATEST: usize = 4;
/// How long a scheduled message waits at most.
const WAIT_MS_MAX: u64 = 1_200;

/// One thing that a device does. Rooms and users by number. Most of it may be refused: who may what at the moment nobody knows
/// who does it.
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
    /// A message that is sent later.
    Schedule {
        room: usize,
        wait_ms: u64,
    },
    /// Takes back what was scheduled last.
    Cancel,
    /// Something with the message that is so many before the last one that the device knows.
    Touch {
        room: usize,
        touch: Touch,
        back: usize,
        by_rest: bool,
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
        role: Option<Role>,
    },
    Remove {
        room: usize,
        user: usize,
    },
    Give {
        room: usize,
        user: usize,
        role: Role,
    },
    Ban {
        room: usize,
        user: usize,
    },
    Unban {
        room: usize,
        user: usize,
    },
    Invite {
        room: usize,
        max_uses: u32,
    },
    /// By the invite that is so many before the last one that anybody made.
    JoinBy {
        back: usize,
    },
    /// Into the public group.
    Join {
        by_rest: bool,
    },
    Leave {
        room: usize,
        by_rest: bool,
    },
    /// Takes what has come.
    Take,
}

/// What is done with a message.
#[derive(Debug, Clone, Copy)]
pub(super) enum Touch {
    /// One's own.
    Edit,
    /// One's own, or another's.
    Erase {
        is_own: bool,
    },
    /// For oneself.
    Hide,
    React {
        with: usize,
    },
    Unreact {
        with: usize,
    },
    Pin,
    Unpin,
}

/// Who is always in, and looks after it where others are not asked to; sees everything and hides nothing there.
pub(super) fn owner_of(room: usize) -> usize {
    [0, 0, 1, 2][room]
}

/// So many of them for a device of this user; a device begins with a connection.
pub(super) fn some(rng: &mut StdRng, user: usize, count: usize) -> Vec<Op> {
    let connected = [Op::Connect, Op::Sync { with_cursors: rng.random(), limit: None }];
    connected.into_iter().chain((0..count).map(|_| one(rng, user))).collect()
}

fn one(rng: &mut StdRng, user: usize) -> Op {
    // The third is not in the direct conversation.
    let room = rng.random_range(usize::from(user == 2)..ROOMS);
    match rng.random_range(0..100) {
        0..4 => Op::Connect,
        4..8 => Op::Disconnect { is_polite: rng.random() },
        8..16 => {
            let limit = rng.random_bool(0.5).then(|| rng.random_range(1..6));
            Op::Sync { with_cursors: rng.random(), limit }
        }
        16..34 => Op::Send { room, by_rest: rng.random_bool(0.3), is_control: rng.random_bool(0.15) },
        34..39 => Op::Schedule { room, wait_ms: rng.random_range(0..WAIT_MS_MAX) },
        39..41 => Op::Cancel,
        41..61 => {
            let touch = touch(rng, owner_of(room) == user);
            Op::Touch { room, touch, back: rng.random_range(0..LATEST), by_rest: rng.random_bool(0.4) }
        }
        61..67 => Op::Delivered { room, less: rng.random_range(0..4) },
        67..74 => Op::Read { room, less: rng.random_range(0..4), by_rest: rng.random_bool(0.4) },
        74..97 => membership(rng, user),
        _ => Op::Take,
    }
}

fn touch(rng: &mut StdRng, is_owner: bool) -> Touch {
    let with = rng.random_range(0..REACTIONS.len());
    match rng.random_range(0..20) {
        0..6 => Touch::Edit,
        6..8 => Touch::Erase { is_own: rng.random() },
        8..10 if !is_owner => Touch::Hide,
        8..13 => Touch::React { with },
        13..16 => Touch::Unreact { with },
        16..18 => Touch::Pin,
        _ => Touch::Unpin,
    }
}

/// Most of the time in the room that is one's own to look after.
fn membership(rng: &mut StdRng, user: usize) -> Op {
    let own = [1, 2, 3].into_iter().find(|room| owner_of(*room) == user).unwrap();
    let room = if rng.random_bool(0.7) { own } else { rng.random_range(1..ROOMS) };
    let other = (user + rng.random_range(1..PEOPLE)) % PEOPLE;
    let elsewhere = [1, 2, 3].into_iter().filter(|room| *room != own).nth(rng.random_range(0..2)).unwrap();
    let role = *[Role::Moderator, Role::Member, Role::Reader].choose(rng).unwrap();
    match rng.random_range(0..23) {
        0..5 => Op::Add { room, user: other, role: rng.random_bool(0.5).then_some(role) },
        5..7 => Op::Remove { room, user: other },
        7..11 => Op::Give { room, user: other, role },
        11..12 => Op::Ban { room, user: other },
        12..14 => Op::Unban { room, user: other },
        14..15 => Op::Invite { room, max_uses: rng.random_range(1..3) },
        15..18 => Op::JoinBy { back: rng.random_range(0..LATEST) },
        18..21 => Op::Join { by_rest: rng.random() },
        _ => Op::Leave { room: elsewhere, by_rest: rng.random() },
    }
}
