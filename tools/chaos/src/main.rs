//! Starts a whole system in a folder of its own, lets clients talk while everything is harmed, and checks that every promise
//! of the protocol holds. docs/chaos.md tells more.

use std::{io::Write, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Parser;
use entrenous_chaos::{Outcome, Plan, read_history, run};

/// Harms a whole system while clients talk, and checks every promise of the protocol.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// What everything that is left to chance follows from; by default another one each time.
    #[arg(long)]
    seed: Option<u64>,
    /// How long harm is done, in seconds.
    #[arg(long, default_value_t = 180, value_parser = clap::value_parser!(u64).range(5..=43_200))]
    seconds: u64,
    /// How many gateways.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=16))]
    gateways: u16,
    /// How many of each other service.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=16))]
    replicas: u16,
    /// Where the report is written as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Where history, log and report of a run that shows a fault are kept; by default a folder named after the seed among
    /// the temporary files.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Checks a history that was kept, and runs nothing.
    #[arg(long, value_name = "HISTORY", conflicts_with_all = ["seed", "seconds", "gateways", "replicas", "keep"])]
    check: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match start(Cli::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(&format!("entrenous-chaos: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether every promise held.
async fn start(cli: Cli) -> anyhow::Result<bool> {
    let outcome = match &cli.check {
        Some(path) => Outcome::of(&read_history(path)?),
        None => run_plan(&cli).await?,
    };
    if let Some(path) = &cli.json {
        let text = serde_json::to_vec_pretty(&outcome)?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    // A terminal that is gone needs no report.
    writeln!(std::io::stdout(), "{outcome}").unwrap_or_default();
    Ok(outcome.is_ok())
}

async fn run_plan(cli: &Cli) -> anyhow::Result<Outcome> {
    let seed = cli.seed.unwrap_or_else(rand::random);
    let keep = cli.keep.clone().unwrap_or_else(|| std::env::temp_dir().join(format!("entrenous-chaos-{seed}")));
    let plan = Plan { seed, seconds: cli.seconds, gateways: cli.gateways, replicas: cli.replicas, keep };
    complain(&format!("seed {seed}: harm for {} s, then until everything is whole and was read", plan.seconds));
    let outcome = run(&plan).await?;
    if !outcome.is_ok() {
        complain(&format!("history, log and report are kept in {}", plan.keep.display()));
    }
    Ok(outcome)
}

/// Beside the report.
fn complain(text: &str) {
    writeln!(std::io::stderr(), "{text}").unwrap_or_default();
}
