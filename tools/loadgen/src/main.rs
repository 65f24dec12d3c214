//! Load generator: measures a running system from outside.
//!
//! Open loop: messages are due at fixed moments, whether or not earlier ones were answered, and a late send counts from
//! when it was due; so waiting is counted, also that of the generator. With `--in-flight` the loop is closed instead:
//! each sender keeps so many messages under way, which finds the highest rate. `list` is a closed loop, too.
//!
//! It makes new accounts for each run. Hashing their passwords takes longer than anything else: start the servers
//! with `IDENTITY_HASH_MEMORY_KIB=64` where that does not matter.

mod bystanders;
mod channel;
mod group;
mod idle;
mod list;
mod measure;
mod one_to_one;
mod output;
mod pacer;
mod people;
mod phases;
mod presence;
mod processes;
mod queries;
mod reconnect;
mod report;
mod stamp;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Parser, Subcommand};
use entrenous_client::Url;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures a running system.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// The gateways; connections are spread over them.
    #[arg(long, value_delimiter = ',', default_value = "http://127.0.0.1:8080", global = true)]
    server: Vec<Url>,
    /// List of the servers' processes, whose processor time and memory are then told: `.entrenous/processes.json`.
    #[arg(long, global = true)]
    processes: Option<PathBuf>,
    /// Where the report is written as JSON.
    #[arg(long, global = true)]
    json: Option<PathBuf>,
    /// Threads of the generator. On a small machine each takes from the servers.
    #[arg(long, default_value_t = 1, global = true)]
    threads: usize,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Pairs of people: one writes, the other receives.
    OneToOne(one_to_one::Parameters),
    /// A group: one member writes, all the others receive.
    Group(group::Parameters),
    /// A channel: its owner writes, very many members receive.
    Channel(channel::Parameters),
    /// Somebody with very many conversations asks for their list.
    List(list::Parameters),
    /// Connections that do nothing: memory of each.
    Idle(idle::Parameters),
    /// All watched users leave and come back, while bystanders talk.
    Presence(presence::Parameters),
    /// All connections break at once and come back, while bystanders talk.
    Reconnect(reconnect::Parameters),
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let files_max = raise_file_limit();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(cli.threads.max(1)).enable_all().build()?;
    let report = runtime.block_on(async {
        let target = Target { servers: &cli.server, processes: cli.processes.as_deref(), files_max };
        match &cli.scenario {
            Scenario::OneToOne(parameters) => one_to_one::run(target, parameters).await,
            Scenario::Group(parameters) => group::run(target, parameters).await,
            Scenario::Channel(parameters) => channel::run(target, parameters).await,
            Scenario::List(parameters) => list::run(target, parameters).await,
            Scenario::Idle(parameters) => idle::run(target, parameters).await,
            Scenario::Presence(parameters) => presence::run(target, parameters).await,
            Scenario::Reconnect(parameters) => reconnect::run(target, parameters).await,
        }
    })?;
    if let Some(path) = &cli.json {
        let text = serde_json::to_vec_pretty(&report)?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    output::say(&report.to_string());
    Ok(())
}

/// What is measured.
#[derive(Debug, Clone, Copy)]
struct Target<'a> {
    servers: &'a [Url],
    processes: Option<&'a std::path::Path>,
    /// Files that this process may have open.
    files_max: u64,
}

/// Each connection is an open file. Gives how many there may be.
fn raise_file_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised, the lower one holds.
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap_or_default();
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
