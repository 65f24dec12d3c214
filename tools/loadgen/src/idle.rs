//! Connections that do nothing: how much memory each takes, and how fast they open.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::{
    Target,
    measure::rate,
    output::progress,
    people,
    processes::{Snapshot, of_generator},
    report::{Report, Servers},
};

/// How many, how long.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub(crate) struct Parameters {
    /// Connections.
    #[arg(long, default_value_t = 1_000)]
    connections: usize,
    /// Each syncs once.
    #[arg(long)]
    synced: bool,
    /// Seconds that they stay before memory is read.
    #[arg(long, default_value_t = 10)]
    duration: u64,
}

/// Runs the scenario.
pub(crate) async fn run(target: Target<'_>, parameters: &Parameters) -> anyhow::Result<Report> {
    let people = people::make(target.servers, parameters.connections).await?;
    // Some first, so that what a server sets up once is not counted as theirs.
    let (first, others) = people.split_at(people.len().min(people.len() / 20 + 1));
    let early = people::connect(first, parameters.synced).await?;
    let (before, own_before) = (Snapshot::take(target.processes)?, of_generator());
    let began = Instant::now();
    let sockets = people::connect(others, parameters.synced).await?;
    let opened_per_second = rate(u64::try_from(sockets.len())?, began.elapsed());
    progress(&format!("waiting {} s", parameters.duration));
    tokio::time::sleep(Duration::from_secs(parameters.duration)).await;
    let (after, own_after) = (Snapshot::take(target.processes)?, of_generator());
    let servers = Servers { used: after.since(&before), generator_cpu: own_after.saturating_sub(own_before) };
    let measured = u64::try_from(sockets.len())?;
    drop((early, sockets));
    Ok(Report::connections(serde_json::to_value(parameters)?, measured, opened_per_second, servers))
}
