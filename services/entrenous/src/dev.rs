//! Everything on one machine: PostgreSQL, nats-server and all services, started, watched and stopped together.

mod data;
mod instance;
mod leftovers;
mod plan;
mod probe;
mod processes;
mod secrets;
mod servers;
mod stop;
mod supervisor;

use std::{num::NonZeroU16, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use entrenous_local_servers::ports;
use entrenous_runtime::{LogFormat, telemetry, trace::TraceConfig};
use tokio::task::JoinSet;

use crate::{migrate::migrate_all, output::say};
use data::DataFolder;
use plan::{Mode, Plan};
use processes::Processes;
use servers::Servers;
use stop::Stop;
use supervisor::{Failures, supervise};

/// How long the services may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// How long the services may take to stop, before they are killed.
const SERVICES_STOP_LIMIT: Duration = Duration::from_secs(45);

/// How to run everything.
#[derive(Debug, clap::Args)]
pub(crate) struct DevArgs {
    /// Port of the first gateway; further ones follow it.
    #[arg(long, env, default_value_t = 8080)]
    port: u16,
    /// How many gateways.
    #[arg(long, default_value = "1")]
    gateways: NonZeroU16,
    /// How many of each other service.
    #[arg(long, default_value = "1")]
    replicas: NonZeroU16,
    /// Each service in a process of its own, restarted when it dies.
    #[arg(long)]
    split: bool,
    /// Where the data are kept.
    #[arg(long, env = "ENTRENOUS_DATA", default_value = ".entrenous")]
    data: PathBuf,
    /// Which log lines, in the syntax of tracing's `EnvFilter`.
    #[arg(long, env, default_value = "warn")]
    log_filter: String,
    /// Traces.
    #[command(flatten)]
    traces: TraceConfig,
}

/// Runs everything until Ctrl-C or SIGTERM.
///
/// # Errors
/// When something is missing, taken or broken, in a sentence that says what to do.
pub(crate) async fn run(arguments: DevArgs) -> anyhow::Result<()> {
    let _traces = telemetry::init("entrenous", LogFormat::Text, &arguments.log_filter, &arguments.traces)?;
    let stop = Stop::watch_signals()?;
    let mut data = DataFolder::open(&arguments.data).await?;
    leftovers::stop(&data).await;
    check_public_ports(&arguments)?;
    let processes = Arc::new(Processes::start(data.path())?);
    let mut running = Running::default();
    let started = stop.unless_asked(start(&arguments, &mut data, &processes, &stop, &mut running)).await;
    if let Some(Ok(())) = started {
        say(&welcome(&arguments, &data, running.servers.as_ref()));
        stop.asked().await;
        say("\nStopping; once more to hurry.");
    }
    data.note_stopping();
    stop.ask();
    running.end(&stop).await;
    processes.clear();
    started.unwrap_or(Ok(()))
}

/// Everything that runs.
#[derive(Debug, Default)]
struct Running {
    services: JoinSet<()>,
    servers: Option<Servers>,
}

impl Running {
    /// Services first, then NATS, PostgreSQL last. In a hurry nothing is waited for that can be ended.
    async fn end(mut self, stop: &Stop) {
        let ended = async { while self.services.join_next().await.is_some() {} };
        let is_late = stop.unless_hurried(tokio::time::timeout(SERVICES_STOP_LIMIT, ended)).await;
        if !matches!(is_late, Some(Ok(()))) {
            tracing::warn!("services did not stop in time");
            self.services.shutdown().await;
        }
        if let Some(servers) = self.servers {
            servers.end().await;
        }
    }
}

fn check_public_ports(arguments: &DevArgs) -> anyhow::Result<()> {
    let last = arguments.port.checked_add(arguments.gateways.get() - 1).context("there are no ports above 65535")?;
    for port in arguments.port..=last {
        anyhow::ensure!(
            ports::is_free(port),
            "port {port} is in use by another program: stop it, or choose another port (make run PORT=9090, entrenous dev --port 9090)"
        );
    }
    Ok(())
}

async fn start(
    arguments: &DevArgs,
    data: &mut DataFolder,
    processes: &Arc<Processes>,
    stop: &Stop,
    running: &mut Running,
) -> anyhow::Result<()> {
    say(&format!("Starting PostgreSQL and nats-server; data in {}", data.path().display()));
    let servers = running.servers.insert(Servers::start(data, processes, stop).await?);
    let applied = migrate_all(servers.database_url()).await?;
    tracing::info!(?applied, "migrated");
    let mode = if arguments.split { Mode::Split } else { Mode::OneProcess };
    let plan = Plan {
        public_port: arguments.port,
        gateways: arguments.gateways.get(),
        replicas: arguments.replicas.get(),
        log_filter: arguments.log_filter.clone(),
        database_url: servers.database_url().to_owned(),
        nats_url: servers.nats_url().to_owned(),
    };
    let instances = plan.instances(data)?;
    data.save()?;
    if mode == Mode::OneProcess {
        processes.set("entrenous", std::process::id(), arguments.port);
    }
    let mut failures = Failures::default();
    for instance in &instances {
        let own = supervise(mode, instance.clone(), Arc::clone(processes), stop.clone(), failures.sender());
        running.services.spawn(own);
    }
    say(&format!("Starting {} services", instances.len()));
    tokio::select! {
        ready = tokio::time::timeout(READY_LIMIT, probe::all_ready(&instances)) => {
            ready.with_context(|| format!("the services were not ready within {} s", READY_LIMIT.as_secs()))?;
        }
        failure = failures.first() => anyhow::bail!(failure),
    }
    failures.ignore_from_now();
    Ok(())
}

fn welcome(arguments: &DevArgs, data: &DataFolder, servers: Option<&Servers>) -> String {
    let program = std::env::current_exe().map_or_else(|_| "entrenous".to_owned(), |path| path.display().to_string());
    let server = format!("http://127.0.0.1:{}", arguments.port);
    let gateways: Vec<String> =
        (0..arguments.gateways.get()).map(|index| format!("http://127.0.0.1:{}", arguments.port + index)).collect();
    format!(
        "\nEntrenous is ready.\n\n\
         \x20 Address          {}\n\
         \x20 WebSocket        ws://127.0.0.1:{}/api/v1/ws\n\
         \x20 API description  {server}/api/v1/openapi.json\n\
         \x20 API to read      {server}/api/v1/docs\n\
         \x20 Events           {}   (user events-reader, password in {}; docs/events.md)\n\
         \x20 Talk             {program} chat --help   (in two terminals)\n\
         \x20 Processes        {}\n\n\
         Ctrl-C stops everything; the data stay in {}.",
        gateways.join("  "),
        arguments.port,
        servers.map_or("", Servers::nats_url),
        data.path().join(data::SECRETS_FILE).display(),
        data.path().join(processes::FILE).display(),
        data.path().display(),
    )
}
