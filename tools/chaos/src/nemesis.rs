//! Kills, pauses and restarts processes, wipes the streams, and breaks, freezes and slows connections, at random.

use std::{collections::BTreeMap, fmt, time::Duration};

use entrenous_checker::What;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tokio::time::Instant;

use crate::{System, World, talk::between};

/// What clients notice most is hit more often.
const OFTEN: [&str; 4] = ["gateway", "message-store", "postgresql", "nats-server"];

/// What was done, and how often.
pub type Faults = BTreeMap<String, usize>;

/// Something bad that happens.
#[derive(Debug, Clone)]
enum Fault {
    Kill(String),
    /// Every process of the PostgreSQL cluster at once.
    KillDatabase,
    /// In order; PostgreSQL cuts its clients.
    Restart(String),
    Pause(String, Duration),
    /// nats-server dies and comes back without its streams.
    Wipe,
    /// All connections of clients to one gateway break.
    Break(usize),
    /// They stand and carry nothing.
    Freeze(usize, Duration),
    /// Each piece takes this much longer, for a while.
    Slow(usize, Duration, Duration),
}

impl Fault {
    /// Something that happens to a process.
    fn of_processes(names: &[String], rng: &mut StdRng) -> Self {
        let often: Vec<String> = names.iter().filter(|name| OFTEN.contains(&service(name))).cloned().collect();
        match rng.random_range(0..12) {
            0..4 => Self::Kill(any_of(&often, rng)),
            4 => Self::Kill(any_of(names, rng)),
            5 | 6 => Self::Pause(any_of(&often, rng), between(rng, 300..6_000)),
            7 => Self::Pause(any_of(names, rng), between(rng, 300..6_000)),
            8 => Self::Restart(any_of(names, rng)),
            9 | 10 => Self::KillDatabase,
            _ => Self::Wipe,
        }
    }

    /// Something that happens to the line of clients to a gateway.
    fn of_lines(gateways: usize, rng: &mut StdRng) -> Self {
        let gateway = rng.random_range(0..gateways);
        match rng.random_range(0..3) {
            0 => Self::Break(gateway),
            1 => Self::Freeze(gateway, between(rng, 300..4_000)),
            _ => Self::Slow(gateway, between(rng, 20..300), between(rng, 1_000..5_000)),
        }
    }

    fn kind(&self) -> String {
        match self {
            Self::Kill(name) => format!("kill {}", service(name)),
            Self::KillDatabase => "kill all of postgresql".to_owned(),
            Self::Restart(name) => format!("restart {}", service(name)),
            Self::Pause(name, _) => format!("pause {}", service(name)),
            Self::Wipe => "wipe nats-server".to_owned(),
            Self::Break(_) => "break connections".to_owned(),
            Self::Freeze(..) => "freeze connections".to_owned(),
            Self::Slow(..) => "slow connections".to_owned(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(name) => write!(f, "kill {name}"),
            Self::KillDatabase | Self::Wipe => f.write_str(&self.kind()),
            Self::Restart(name) => write!(f, "restart {name}"),
            Self::Pause(name, time) => write!(f, "pause {name} for {} ms", time.as_millis()),
            Self::Break(gateway) => write!(f, "break the connections of gateway {}", gateway + 1),
            Self::Freeze(gateway, time) => {
                write!(f, "freeze the connections of gateway {} for {} ms", gateway + 1, time.as_millis())
            }
            Self::Slow(gateway, delay, time) => {
                let (delay, time) = (delay.as_millis(), time.as_millis());
                write!(f, "slow the connections of gateway {} by {delay} ms for {time} ms", gateway + 1)
            }
        }
    }
}

/// `message-store-2` is one of `message-store`.
fn service(name: &str) -> &str {
    match name.rsplit_once('-') {
        Some((service, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => service,
        _ => name,
    }
}

fn any_of(names: &[String], rng: &mut StdRng) -> String {
    names.choose(rng).cloned().unwrap_or_default()
}

/// Does harm until then, to processes and to lines at the same time; tells what was done how often.
///
/// # Errors
/// When the list of processes cannot be read.
pub async fn run(world: &World, system: &System, seed: u64, until: Instant) -> anyhow::Result<Faults> {
    let names: Vec<String> = system.processes()?.into_keys().collect();
    let mut faults = Faults::new();
    let rng = |purpose: u64| StdRng::seed_from_u64(seed ^ (purpose << 40));
    let (mut of_processes, mut of_lines) = (rng(1), rng(2));
    let (processes, lines) = tokio::join!(
        harm(world, system, until, &mut of_processes, |rng| Fault::of_processes(&names, rng)),
        harm(world, system, until, &mut of_lines, |rng| Fault::of_lines(world.lines.len(), rng)),
    );
    for (kind, count) in processes?.into_iter().chain(lines?) {
        *faults.entry(kind).or_default() += count;
    }
    Ok(faults)
}

async fn harm(
    world: &World,
    system: &System,
    until: Instant,
    rng: &mut StdRng,
    choose: impl Fn(&mut StdRng) -> Fault,
) -> anyhow::Result<Faults> {
    let mut faults = Faults::new();
    loop {
        tokio::time::sleep(between(rng, 2_000..7_000)).await;
        if Instant::now() >= until {
            return Ok(faults);
        }
        let fault = choose(rng);
        world.recorder.record(What::Fault { name: fault.to_string() });
        if cause(world, system, &fault).await? {
            *faults.entry(fault.kind()).or_default() += 1;
        }
    }
}

/// Whether there was anything to harm.
async fn cause(world: &World, system: &System, fault: &Fault) -> anyhow::Result<bool> {
    match fault {
        Fault::Kill(name) => system.kill(name),
        Fault::KillDatabase => Ok(system.kill_database()),
        Fault::Restart(name) => system.restart(name),
        Fault::Pause(name, time) => {
            let Some(paused) = system.pause(name)? else { return Ok(false) };
            tokio::time::sleep(*time).await;
            drop(paused);
            Ok(true)
        }
        Fault::Wipe => system.wipe_streams(),
        Fault::Break(gateway) => {
            let line = world.lines.get(*gateway);
            line.inspect(|line| line.break_connections());
            Ok(line.is_some())
        }
        Fault::Freeze(gateway, time) => {
            let Some(line) = world.lines.get(*gateway) else { return Ok(false) };
            line.freeze();
            tokio::time::sleep(*time).await;
            line.heal();
            Ok(true)
        }
        Fault::Slow(gateway, delay, time) => {
            let Some(line) = world.lines.get(*gateway) else { return Ok(false) };
            line.delay(*delay);
            tokio::time::sleep(*time).await;
            line.heal();
            Ok(true)
        }
    }
}
