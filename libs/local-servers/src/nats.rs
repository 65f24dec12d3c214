//! A private nats-server.

mod config;

pub use config::{Account, NatsUser, Password, SyncInterval, deployment_config};

use std::{
    fs,
    net::Ipv4Addr,
    path::PathBuf,
    time::{Duration, Instant},
};

use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::{
    ServerError, Tools,
    home::{Home, create_private, write_private},
    leftovers, ports,
    process::{Output, Process, ProcessSpec, Signal},
};

const SERVER: &str = "nats-server";

/// How long a start may take, reading of the stored streams included.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How often it is looked whether the server is ready.
const READY_POLL: Duration = Duration::from_millis(5);

/// How long a greeting may take.
const GREETING_LIMIT: Duration = Duration::from_secs(1);

/// How much of a greeting is read.
const GREETING_BYTES_MAX: usize = 4096;

/// Ports that are tried when the caller named none.
const PORT_ATTEMPTS: usize = 5;

const STOP_STEPS: [(Signal, Duration); 1] = [(Signal::Terminate, Duration::from_secs(10))];

/// How long dropping waits for a stop.
const DROP_PATIENCE: Duration = Duration::from_secs(2);

const LEFTOVER_STEPS: [(Signal, Duration); 2] =
    [(Signal::Terminate, Duration::from_secs(5)), (Signal::Kill, Duration::from_secs(5))];

/// A nats-server to start.
#[derive(Debug, Clone)]
pub struct NatsSpec {
    /// Its folder: streams, configuration, log and lock.
    pub home: PathBuf,
    /// The port; none picks a free one.
    pub port: Option<u16>,
    /// Who may connect; nobody stands for everybody.
    pub users: Vec<NatsUser>,
    /// When streams are written to the disk.
    pub sync_interval: SyncInterval,
    /// Where the program is.
    pub tools: Tools,
}

impl NatsSpec {
    /// A server in this folder that everybody on this machine may use.
    pub fn new(home: impl Into<PathBuf>) -> Self {
        Self {
            home: home.into(),
            port: None,
            users: Vec::new(),
            sync_interval: SyncInterval::ServerDefault,
            tools: Tools::from_environment(),
        }
    }
}

/// A running nats-server. Dropping it stops it.
#[derive(Debug)]
pub struct Nats {
    process: Process,
    port: u16,
    // Last, so that the lock outlives the process.
    home: Home,
}

impl Nats {
    /// Writes the configuration, ends what an earlier run left behind, starts the server, and waits until it serves.
    ///
    /// # Errors
    /// [`ServerError`], with the end of the log where the server gives up.
    pub async fn start(spec: &NatsSpec) -> Result<Self, ServerError> {
        let program = spec.tools.nats_server()?;
        let mut home = Home::open(&spec.home, "nats.log")?;
        create_private(&home.path().join("jetstream"))?;
        stop_leftover(&home).await?;
        let deadline = Instant::now() + START_LIMIT;
        for attempt in 1.. {
            let port = spec.port.map_or_else(ports::pick, Ok)?;
            home.start_new_attempt();
            let name = format!("entrenous-{:08x}", rand::random::<u32>());
            let process = start_process(&home, &program, &config::server_config(spec, home.path(), port, &name))?;
            match wait_ready(&home, &process, port, &name, deadline).await {
                Ok(()) => return Ok(Self { process, port, home }),
                Err(_) if is_port_busy(&home) && spec.port.is_some() => return Err(ServerError::PortBusy { port }),
                Err(_) if is_port_busy(&home) && attempt < PORT_ATTEMPTS => {}
                Err(error) => return Err(error),
            }
        }
        Err(ServerError::NoFreePort)
    }

    /// Address for clients.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Number of the process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The end of its log since the start.
    pub fn last_words(&self) -> String {
        self.home.last_words()
    }

    /// Stops it in order.
    pub async fn stop(self) {
        self.process.stop(&STOP_STEPS).await;
    }

    /// SIGKILL, as a test does it.
    pub async fn kill(&self) {
        self.process.kill().await;
    }

    /// Waits until the process ends, whoever causes it.
    ///
    /// # Cancellation
    /// Safe.
    pub async fn wait_exit(&self) {
        self.process.wait_exit().await;
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        if !self.process.stop_now(Signal::Terminate, DROP_PATIENCE) {
            tracing::warn!(pid = self.pid(), "nats-server does not stop: killing it");
        }
    }
}

fn config_path(home: &Home) -> PathBuf {
    home.path().join("nats.conf")
}

fn pid_path(home: &Home) -> PathBuf {
    home.path().join("nats.pid")
}

fn start_process(home: &Home, program: &std::path::Path, config: &str) -> Result<Process, ServerError> {
    let path = config_path(home);
    write_private(&path, config)?;
    let mut spec = ProcessSpec::new(program, ["-c".into(), path.into_os_string()]);
    spec.output = Output::Append(home.log().to_owned());
    spec.signal_when_orphaned = Signal::Terminate;
    let process = Process::spawn(spec)?;
    write_private(&pid_path(home), &process.pid().to_string())?;
    Ok(process)
}

async fn stop_leftover(home: &Home) -> Result<(), ServerError> {
    let Some(pid) = fs::read_to_string(pid_path(home)).ok().and_then(|text| text.trim().parse().ok()) else {
        return Ok(());
    };
    let config = config_path(home);
    let find = || Some(pid).filter(|pid| leftovers::was_started_with(*pid, &config)).into_iter().collect();
    if leftovers::stop(find, &LEFTOVER_STEPS).await {
        Ok(())
    } else {
        Err(ServerError::HomeBusy { home: home.path().to_owned() })
    }
}

async fn wait_ready(
    home: &Home,
    process: &Process,
    port: u16,
    name: &str,
    deadline: Instant,
) -> Result<(), ServerError> {
    while process.exit_status().is_none() {
        if is_ready(port, name).await {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(ServerError::NotReady { server: SERVER, limit: START_LIMIT, log: home.last_words() });
        }
        tokio::time::sleep(READY_POLL).await;
    }
    Err(ServerError::Ended { server: SERVER, log: home.last_words() })
}

/// Whether the server of that name answers on this port; it listens only once its streams are there.
async fn is_ready(port: u16, name: &str) -> bool {
    let greeting = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
        let mut greeting = Vec::new();
        while !greeting.contains(&b'\n') && greeting.len() < GREETING_BYTES_MAX {
            if stream.read_buf(&mut greeting).await.ok()? == 0 {
                break;
            }
        }
        String::from_utf8(greeting).ok()
    };
    let greeting = tokio::time::timeout(GREETING_LIMIT, greeting).await.ok().flatten();
    greeting.is_some_and(|greeting| greeting.starts_with("INFO ") && greeting.contains(name))
}

fn is_port_busy(home: &Home) -> bool {
    home.last_words().contains("address already in use")
}
