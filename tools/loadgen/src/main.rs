//! Load generator: measures a running system from outside.
//!
//! Open loop: messages are due at fixed moments, whether or not earlier ones were answered, and a late send counts from
//! when it was due; so waiting is counted, also that of the generator. With `--in-flight` the loop is closed instead:
//! each sender keeps so many messages under way, which finds the highest rate. `connect`, `history` and `list` are closed
//! loops, too.
//!
//! It makes new accounts for each run. Hashing their passwords takes longer than anything else: start the servers
//! with `IDENTITY_HASH_MEMORY_KIB=64` where that does not matter.

mod bystanders;
mod calls;
mod channel;
mod connect;
mod course;
mod fill;
mod group;
mod history;
mod idle;
mod latencies;
mod list;
mod measure;
mod mix;
mod one_to_one;
mod output;
mod pacer;
mod people;
mod phases;
mod plot;
mod presence;
mod processes;
mod queries;
mod reconnect;
mod report;
mod rest;
mod stamp;
mod traffic;
mod window;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use entrenous_client::Url;

use report::Report;

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
    /// What the run is called in tables and plots; the scenario where absent.
    #[arg(long, global = true)]
    name: Option<String>,
    /// Threads of the generator. On a small machine each takes from the servers.
    #[arg(long, default_value_t = 1, global = true)]
    threads: usize,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Scenario(Scenario),
    /// Writes reports as tables in Markdown.
    Table {
        /// Reports, as `--json` wrote them.
        #[arg(required = true)]
        reports: Vec<PathBuf>,
    },
    /// Draws the latencies of reports as an SVG: percentiles to the right, latency upwards.
    Plot(plot::Parameters),
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// A channel: its owner writes, very many members receive.
    Channel(channel::Parameters),
    /// Connections open and end again and again: how many a second.
    Connect(connect::Parameters),
    /// A group: one member writes, all the others receive.
    Group(group::Parameters),
    /// A long conversation is read by REST.
    History(history::Parameters),
    /// Connections that do nothing: memory of each.
    Idle(idle::Parameters),
    /// Somebody with very many conversations asks for their list.
    List(list::Parameters),
    /// One-to-one, a group, history reads and receipts at once.
    Mix(mix::Parameters),
    /// Pairs of people: one writes, the other receives.
    OneToOne(one_to_one::Parameters),
    /// All watched users leave and come back, while bystanders talk.
    Presence(presence::Parameters),
    /// All connections break at once and come back, while bystanders talk.
    Reconnect(reconnect::Parameters),
    /// Messages are sent by REST.
    Rest(rest::Parameters),
}

impl Scenario {
    async fn run(&self, target: Target<'_>) -> anyhow::Result<Report> {
        match self {
            Self::Channel(parameters) => channel::run(target, parameters).await,
            Self::Connect(parameters) => connect::run(target, parameters).await,
            Self::Group(parameters) => group::run(target, parameters).await,
            Self::History(parameters) => history::run(target, parameters).await,
            Self::Idle(parameters) => idle::run(target, parameters).await,
            Self::List(parameters) => list::run(target, parameters).await,
            Self::Mix(parameters) => mix::run(target, parameters).await,
            Self::OneToOne(parameters) => one_to_one::run(target, parameters).await,
            Self::Presence(parameters) => presence::run(target, parameters).await,
            Self::Reconnect(parameters) => reconnect::run(target, parameters).await,
            Self::Rest(parameters) => rest::run(target, parameters).await,
        }
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches)?;
    match &cli.command {
        Command::Scenario(scenario) => measure(&cli, scenario, matches.subcommand_name().unwrap_or_default()),
        Command::Table { reports } => {
            let reports: Vec<_> = reports.iter().map(|path| Report::read(path)).collect::<Result<_, _>>()?;
            output::say(&report::table(&reports));
            Ok(())
        }
        Command::Plot(parameters) => plot::run(parameters),
    }
}

fn measure(cli: &Cli, scenario: &Scenario, name: &str) -> anyhow::Result<()> {
    let files_max = raise_file_limit();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(cli.threads.max(1)).enable_all().build()?;
    let target = Target { servers: &cli.server, processes: cli.processes.as_deref(), files_max };
    let report = runtime.block_on(scenario.run(target))?;
    let report = report.with_name(cli.name.as_deref().unwrap_or(name));
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
