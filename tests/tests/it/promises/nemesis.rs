//! Kills and pauses processes, wipes the streams and breaks connections, at random.

use std::{collections::BTreeMap, time::Duration};

use entrenous_checker::What;
use entrenous_system_tests::System;
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use tokio::time::Instant;

use super::{between, world::World};

/// Everything that is killed and paused.
pub(super) const ALL: [&str; 11] = [
    "gateway-1",
    "gateway-2",
    "message-store-1",
    "message-store-2",
    "identity-1",
    "identity-2",
    "delivery-tracker-1",
    "delivery-tracker-2",
    "presence-1",
    "postgresql",
    "nats-server",
];
/// What clients notice most is hit more often.
const OFTEN: [&str; 6] = ["gateway-1", "gateway-2", "message-store-1", "message-store-2", "postgresql", "nats-server"];

/// Something bad that happens.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill(&'static str),
    Pause(&'static str, Duration),
    /// nats-server dies and comes back without its streams.
    Wipe,
    /// All connections of clients to one gateway break.
    Break(usize),
    /// They stand and carry nothing.
    Freeze(usize, Duration),
}

impl Fault {
    fn any(rng: &mut StdRng, gateways: usize) -> Self {
        let gateway = rng.random_range(0..gateways);
        match rng.random_range(0..10) {
            0..4 => Self::Kill(any_of(&OFTEN, rng)),
            4 => Self::Kill(any_of(&ALL, rng)),
            5 | 6 => Self::Pause(any_of(&OFTEN, rng), between(rng, 300..6_000)),
            7 => Self::Wipe,
            8 => Self::Break(gateway),
            _ => Self::Freeze(gateway, between(rng, 300..4_000)),
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Kill(name) => name,
            Self::Pause(..) => "paused",
            Self::Wipe => "wiped",
            Self::Break(_) => "broken",
            Self::Freeze(..) => "frozen",
        }
    }
}

fn any_of(names: &[&'static str], rng: &mut StdRng) -> &'static str {
    names.choose(rng).copied().unwrap_or("gateway-1")
}

/// Does harm until then; tells what was done how often.
pub(super) async fn run(
    world: &World,
    system: &System,
    mut rng: StdRng,
    until: Instant,
) -> anyhow::Result<BTreeMap<&'static str, usize>> {
    let mut faults = BTreeMap::new();
    loop {
        tokio::time::sleep(between(&mut rng, 1_000..4_000)).await;
        if Instant::now() >= until {
            return Ok(faults);
        }
        let fault = Fault::any(&mut rng, world.lines.len());
        world.recorder.record(What::Fault { name: format!("{fault:?}") });
        if cause(world, system, fault).await? {
            *faults.entry(fault.kind()).or_default() += 1;
        }
    }
}

/// Whether there was anything to harm.
async fn cause(world: &World, system: &System, fault: Fault) -> anyhow::Result<bool> {
    match fault {
        Fault::Kill(name) => system.kill(name),
        Fault::Pause(name, time) => {
            let Some(paused) = system.pause(name)? else { return Ok(false) };
            tokio::time::sleep(time).await;
            drop(paused);
            Ok(true)
        }
        Fault::Wipe => system.wipe_streams(),
        Fault::Break(gateway) => {
            let line = world.lines.get(gateway);
            line.inspect(|line| line.break_connections());
            Ok(line.is_some())
        }
        Fault::Freeze(gateway, time) => {
            let Some(line) = world.lines.get(gateway) else { return Ok(false) };
            line.freeze();
            tokio::time::sleep(time).await;
            line.heal();
            Ok(true)
        }
    }
}
