//! Connections that do nothing: how much memory each takes, and how fast they open.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::{
    Target, fill,
    measure::rate,
    output::wait_until,
    people::{self, Sync},
    processes::{Snapshot, of_generator},
    report::{Report, Servers},
};

/// Entries that one `sync` sends. Source: docs/protocol.md, section 3.
const SYNC_ENTRIES_MAX: usize = 2_000;

/// How many, how long.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub(crate) struct Parameters {
    /// Connections.
    #[arg(long, default_value_t = 1_000)]
    connections: usize,
    /// Each syncs once, from the beginning.
    #[arg(long)]
    synced: bool,
    /// Direct conversations of each user with others of them.
    #[arg(long, default_value_t = 0, requires = "synced")]
    conversations: usize,
    /// Messages in each of these.
    #[arg(long, default_value_t = 10)]
    messages: usize,
    /// Bytes of each ciphertext.
    #[arg(long, default_value_t = 256)]
    payload: usize,
    /// Seconds that they stay before memory is read.
    #[arg(long, default_value_t = 10)]
    duration: u64,
}

/// Runs the scenario.
pub(crate) async fn run(target: Target<'_>, parameters: &Parameters) -> anyhow::Result<Report> {
    let Parameters { connections, synced, conversations, messages, payload, duration } = *parameters;
    anyhow::ensure!(connections > 1, "there must be connections");
    fill::check_pairs(connections, conversations)?;
    anyhow::ensure!(conversations * messages <= SYNC_ENTRIES_MAX, "a sync sends at most {SYNC_ENTRIES_MAX} messages");
    let people = people::make(target.servers, connections).await?;
    fill::directs(&people, conversations, (messages, payload)).await?;
    let sync = if synced { Sync::Start } else { Sync::None };
    // Some first, so that what a server sets up once is not counted as theirs.
    let (first, others) = people.split_at(people.len() / 20 + 1);
    let early = people::connect(first, sync).await?;
    let (before, own_before) = (Snapshot::take(target.processes)?, of_generator());
    let began = Instant::now();
    let sockets = people::connect(others, sync).await?;
    let opened_per_second = rate(u64::try_from(sockets.len())?, began.elapsed());
    wait_until("idle", Instant::now() + Duration::from_secs(duration)).await;
    let (after, own_after) = (Snapshot::take(target.processes)?, of_generator());
    let servers = Servers { used: after.since(&before), generator_cpu: own_after.saturating_sub(own_before) };
    let measured = sockets.len();
    drop((early, sockets));
    let report = Report::new(parameters, servers)?.with_figure("opened a second", opened_per_second);
    let bytes = report.gateway_bytes_for_each(measured);
    Ok(report.with_optional("bytes of the gateways' memory for each connection", bytes))
}
