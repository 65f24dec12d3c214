//! One run from the first process to the report.

use std::{
    fs::{self, File},
    io::BufWriter,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use entrenous_test_support::Proxy;
use tokio::time::Instant;

use crate::{Crowd, Outcome, Phase, Shape, System, Talk, nemesis, nemesis::Faults};

/// Added to the time of a run, so that nobody has to sign in again meanwhile.
const TOKEN_SPARE_SECONDS: u64 = 900;

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What everything that is left to chance follows from.
    pub seed: u64,
    /// How long harm is done.
    pub seconds: u64,
    /// How many gateways, at least one.
    pub gateways: u16,
    /// How many of each other service, at least one.
    pub replicas: u16,
    /// Where history, log and report of a run that shows a fault are kept.
    pub keep: PathBuf,
}

/// Starts a system, lets people talk, does harm, and checks what came of it. The system is gone afterwards; where a promise
/// is broken, [`Plan::keep`] has the history, the log of the servers, and the report.
///
/// # Errors
/// When the system does not start, or nothing can be kept.
pub async fn run(plan: &Plan) -> anyhow::Result<Outcome> {
    let shape = Shape { gateways: plan.gateways, replicas: plan.replicas, ..Shape::split() }
        .with("ACCESS_TOKEN_SECONDS", plan.seconds + TOKEN_SPARE_SECONDS);
    let system = System::start(&shape).await?;
    let mut talk = Talk::begin(lines_to(&system).await?, plan.seed, Crowd::Restless).await?;
    let mut faults = Faults::new();
    let ended = harm_and_finish(plan, &system, &mut talk, &mut faults).await;
    let history = talk.history();
    let failure = ended.err().map(|error| format!("{error:#}"));
    let outcome = Outcome { seed: plan.seed, seconds: plan.seconds, failure, faults, ..Outcome::of(&history) };
    if !outcome.is_ok() {
        fs::create_dir_all(&plan.keep).with_context(|| format!("cannot make {}", plan.keep.display()))?;
        history.write(BufWriter::new(File::create(plan.keep.join("history.jsonl"))?))?;
        system.save_log(&plan.keep.join("servers.log"))?;
        fs::write(plan.keep.join("report.txt"), outcome.to_string())?;
    }
    system.stop().await;
    Ok(outcome)
}

/// A line to each gateway, which can be cut.
async fn lines_to(system: &System) -> anyhow::Result<Vec<Proxy>> {
    let mut lines = Vec::new();
    for gateway in system.gateways() {
        let addr = gateway.socket_addrs(|| None)?.first().copied().context("a gateway has an address")?;
        lines.push(Proxy::start(addr).await?);
    }
    Ok(lines)
}

async fn harm_and_finish(plan: &Plan, system: &System, talk: &mut Talk, faults: &mut Faults) -> anyhow::Result<()> {
    let names: Vec<String> = system.processes()?.into_keys().collect();
    let until = Instant::now() + Duration::from_secs(plan.seconds);
    *faults = nemesis::run(talk.world(), system, plan.seed, until).await?;
    talk.world().enter(Phase::Finishing);
    system.wait_whole(&names).await?;
    talk.finish().await
}

/// Reads a history that was kept.
///
/// # Errors
/// When there is none, or it is no history.
pub fn read_history(path: &Path) -> anyhow::Result<entrenous_checker::History> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(entrenous_checker::History::read(std::io::BufReader::new(file))?)
}
