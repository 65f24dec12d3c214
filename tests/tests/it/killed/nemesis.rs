//! Kills processes at random.

use std::collections::BTreeMap;

use entrenous_checker::What;
use rand::{rngs::StdRng, seq::IndexedRandom};
use tokio::time::Instant;

use super::{between, world::World};

/// Everything that is killed.
pub(super) const ALL: [&str; 6] =
    ["gateway-1", "gateway-2", "message-store-1", "message-store-2", "postgresql", "nats-server"];

/// Kills until then; tells what was killed how often.
pub(super) async fn run(
    world: &World,
    mut rng: StdRng,
    until: Instant,
) -> anyhow::Result<BTreeMap<&'static str, usize>> {
    let mut kills = BTreeMap::new();
    loop {
        tokio::time::sleep(between(&mut rng, 1_500..5_000)).await;
        if Instant::now() >= until {
            return Ok(kills);
        }
        let name = ALL.choose(&mut rng).copied().unwrap_or("gateway-1");
        if world.system.kill(name)? {
            world.recorder.record(What::Fault { name: format!("killed {name}") });
            *kills.entry(name).or_default() += 1;
        }
    }
}
