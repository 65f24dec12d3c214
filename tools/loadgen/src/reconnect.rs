//! A reconnect storm: all connections break at once and come back, while bystanders talk.

mod crowd;

use std::{collections::BTreeMap, time::Duration};

use entrenous_client::{Backoff, client::Options};
use serde::Serialize;

use crate::{
    Target,
    bystanders::{Bystanders, Talk},
    fill,
    output::progress,
    people,
    phases::Reading,
    report::{Phase, Report, to_f64},
};
use crowd::Crowd;

/// Open files beside the connections.
const OTHER_FILES: u64 = 64;
/// Between the last preparation and the first measurement: receipts and presence come to rest.
const REST: Duration = Duration::from_secs(3);

/// How many, how they come back, and who looks on.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub(crate) struct Parameters {
    /// Connections that break.
    #[arg(long, default_value_t = 3_000)]
    clients: usize,
    /// Direct conversations of each of them.
    #[arg(long, default_value_t = 4)]
    conversations: usize,
    /// Takes the jitter away: every wait is as long as it may be, so that all come back at the same moment.
    #[arg(long)]
    no_jitter: bool,
    /// Milliseconds that the first wait may take; it doubles with each attempt.
    #[arg(long, default_value_t = 500)]
    backoff_base: u64,
    /// Milliseconds that no wait exceeds.
    #[arg(long, default_value_t = 30_000)]
    backoff_ceiling: u64,
    /// Pairs of bystanders, whose connections stay.
    #[arg(long, default_value_t = 10)]
    bystanders: usize,
    /// Messages a second of all bystanders together.
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// Bytes of each ciphertext.
    #[arg(long, default_value_t = 256)]
    payload: usize,
    /// Seconds that are measured before the storm.
    #[arg(long, default_value_t = 10)]
    before: u64,
    /// Seconds that are measured after the last one is back.
    #[arg(long, default_value_t = 10)]
    after: u64,
    /// Seconds after which the clients that are not back count as missing.
    #[arg(long, default_value_t = 120)]
    limit: u64,
}

/// Runs the scenario.
pub(crate) async fn run(target: Target<'_>, parameters: &Parameters) -> anyhow::Result<Report> {
    check(target, parameters)?;
    let people = people::make(target.servers, parameters.clients + parameters.bystanders * 2).await?;
    let (coming, staying) = people.split_at(parameters.clients);
    let crowd = Crowd::gather(coming, &parameters.options()).await?;
    crowd.meet(parameters.conversations, parameters.payload).await?;
    let talk = Talk { rate: parameters.rate, payload: parameters.payload, at_most: parameters.at_most() };
    let bystanders = Bystanders::start(staying, talk).await?;
    tokio::time::sleep(REST).await;
    progress(&format!("the calm before: {} s", parameters.before));
    let begin = Reading::take(target).await?;
    tokio::time::sleep(Duration::from_secs(parameters.before)).await;
    let broken = Reading::take(target).await?;
    progress("all connections break");
    let attempts_before = crowd.stats().attempts;
    let times = crowd.break_all(Duration::from_secs(parameters.limit)).await;
    let back = Reading::take(target).await?;
    let stats = crowd.stats();
    progress(&format!("the calm after: {} s", parameters.after));
    tokio::time::sleep(Duration::from_secs(parameters.after)).await;
    let end = Reading::take(target).await?;
    let samples = bystanders.stop().await?;
    let phases = vec![
        begin.phase("before", &broken, &samples)?,
        broken.phase("storm", &back, &samples)?,
        back.phase("after", &end, &samples)?,
    ];
    let queries = queries_per_connection(&phases, to_f64(u64::try_from(parameters.clients)?));
    let mut report = Report::new(parameters, begin.servers(&end))?.with_phases(phases).with_errors(samples.errors());
    report = with_return(report, &times)
        .with_figure("clients missing", to_f64(u64::try_from(parameters.clients - times.len())?))
        .with_figure("attempts to connect", to_f64(stats.attempts - attempts_before))
        .with_figure("entries told twice or left out", to_f64(stats.violations))
        .with_figure("digests that did not match", to_f64(stats.digest_mismatches));
    for (service, count) in queries {
        report = report.with_figure(&format!("database operations of {service} for each connection"), count);
    }
    Ok(report)
}

/// When the first, the middle and the last client were synced again.
fn with_return(report: Report, times: &[Duration]) -> Report {
    let seconds = |at: Option<&Duration>| at.map(Duration::as_secs_f64);
    report
        .with_optional("s until the first was synced again", seconds(times.first()))
        .with_optional("s until half were synced again", seconds(times.get(times.len() / 2)))
        .with_optional("s until the last was synced again", seconds(times.last()))
}

fn check(target: Target<'_>, parameters: &Parameters) -> anyhow::Result<()> {
    let Parameters { clients, bystanders, conversations, rate, .. } = *parameters;
    anyhow::ensure!(clients > 1 && bystanders > 0 && rate > 0.0, "there must be clients, bystanders and a rate");
    fill::check_pairs(clients, conversations)?;
    let needed = u64::try_from(clients + bystanders * 2)? + OTHER_FILES;
    let files_max = target.files_max;
    anyhow::ensure!(
        needed <= files_max,
        "{clients} clients and {bystanders} pairs of bystanders need {needed} open files, and this process may have \
         {files_max}: give fewer --clients, or raise the limit (ulimit -n), for the gateways too"
    );
    Ok(())
}

impl Parameters {
    /// How long the run may take from the bystanders' beginning.
    fn at_most(&self) -> Duration {
        Duration::from_secs(self.before + self.limit + self.after) + REST * 10
    }

    fn options(&self) -> Options {
        let (base, ceiling) = (Duration::from_millis(self.backoff_base), Duration::from_millis(self.backoff_ceiling));
        Options { backoff: Backoff::new(base, ceiling), has_jitter: !self.no_jitter, ..Options::default() }
    }
}

/// What the storm and the calm after it took more than the calm before it.
fn queries_per_connection(phases: &[Phase], clients: f64) -> BTreeMap<String, f64> {
    let sum =
        |phase: &Phase, service: &String| to_f64(phase.queries.get(service).map_or(0, |counts| counts.values().sum()));
    let Some((before, others)) = phases.split_first() else { return BTreeMap::new() };
    let expected =
        |service| sum(before, service) / before.seconds * others.iter().map(|phase| phase.seconds).sum::<f64>();
    let net = |service| others.iter().map(|phase| sum(phase, service)).sum::<f64>() - expected(service);
    before.queries.keys().map(|service| (service.clone(), net(service) / clients)).collect()
}
