//! A running system.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use entrenous_client::Url;
use entrenous_local_servers::{Output, Process, ProcessSpec, Signal, ports, working_in};
use rustix::process::Pid;
use serde::Deserialize;

/// How long a system may take to be ready: late, because a busy machine is no failure.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// How long a killed process may take to be there again.
const BACK_LIMIT: Duration = Duration::from_secs(60);
/// Between two looks.
const POLL: Duration = Duration::from_millis(50);
/// How long an orderly stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(40);
/// How much of the log is shown when a test fails.
const LAST_WORDS_BYTES: usize = 8_000;
/// How often other ports are tried when another program was quicker.
const START_ATTEMPTS: u32 = 3;

/// The name of PostgreSQL's main process.
const POSTGRESQL: &str = "postgresql";

/// What to start.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Each service in a process of its own, restarted when it dies.
    pub split: bool,
    /// How many gateways.
    pub gateways: u16,
    /// How many of each other service.
    pub replicas: u16,
    /// Settings of the services, as environment variables.
    pub settings: Vec<(&'static str, String)>,
}

impl Shape {
    /// Everything in one process.
    pub fn one_process() -> Self {
        // Hashing passwords as slowly as in production would be most of a test's time.
        Self { split: false, gateways: 1, replicas: 1, settings: vec![("IDENTITY_HASH_MEMORY_KIB", "64".to_owned())] }
    }

    /// Two of each service, each in a process of its own.
    pub fn split() -> Self {
        Self { split: true, gateways: 2, replicas: 2, ..Self::one_process() }
    }

    /// With another setting.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.settings.push((name, value.to_string()));
        self
    }
}

/// A system that runs.
#[derive(Debug)]
pub struct System {
    process: Process,
    gateways: Vec<Url>,
    // Last, so that the processes are gone before their data.
    data: tempfile::TempDir,
}

/// A process that stands still. Dropping it lets it go on.
#[derive(Debug)]
pub struct Paused(Pid);

impl Drop for Paused {
    fn drop(&mut self) {
        // One that was killed meanwhile needs nothing.
        let _ = rustix::process::kill_process(self.0, rustix::process::Signal::CONT);
    }
}

#[derive(Deserialize)]
struct List {
    processes: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    pid: u32,
}

impl System {
    /// Starts a system and waits until every gateway is ready.
    ///
    /// # Errors
    /// When the program is not built, or the system is not ready in time; with the end of its log.
    pub async fn start(shape: &Shape) -> anyhow::Result<Self> {
        let mut failure = anyhow::anyhow!("not tried");
        for _ in 0..START_ATTEMPTS {
            let system = Self::spawn(shape)?;
            match system.wait_ready().await {
                Ok(()) => return Ok(system),
                Err(error) => failure = error.context(system.last_words()),
            }
        }
        Err(failure)
    }

    fn spawn(shape: &Shape) -> anyhow::Result<Self> {
        let data = tempfile::tempdir().context("cannot make a folder for the data")?;
        let port = pick_ports(shape.gateways)?;
        let mut spec = ProcessSpec::new(program()?, arguments(shape, port));
        spec.environment = shape.settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        spec.environment.push(("ENTRENOUS_DATA".to_owned(), data.path().join("data").display().to_string()));
        spec.output = Output::Append(data.path().join("log"));
        let gateways = (0..shape.gateways)
            .map(|index| format!("http://127.0.0.1:{}", port + index).parse())
            .collect::<Result<_, _>>()?;
        Ok(Self { process: Process::spawn(spec)?, gateways, data })
    }

    async fn wait_ready(&self) -> anyhow::Result<()> {
        let ready = async {
            for gateway in &self.gateways {
                let mut url = gateway.clone();
                url.set_path("/readyz");
                while !is_ready(&url).await {
                    anyhow::ensure!(self.process.exit_status().is_none(), "the system ended while it started");
                    tokio::time::sleep(POLL).await;
                }
            }
            // The program says so when it has left its start behind: from then on it restarts what dies.
            while !self.log().contains("is ready") {
                anyhow::ensure!(self.process.exit_status().is_none(), "the system ended while it started");
                tokio::time::sleep(POLL).await;
            }
            Ok(())
        };
        tokio::time::timeout(READY_LIMIT, ready)
            .await
            .unwrap_or_else(|_| anyhow::bail!("not ready within {} s", READY_LIMIT.as_secs()))
    }

    /// The first gateway.
    pub fn gateway(&self) -> &Url {
        self.gateways.first().unwrap_or_else(|| unreachable!("a system has a gateway"))
    }

    /// All gateways.
    pub fn gateways(&self) -> &[Url] {
        &self.gateways
    }

    /// What runs now, by name.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn processes(&self) -> anyhow::Result<BTreeMap<String, u32>> {
        let path = self.data.path().join("data/processes.json");
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let list: List = serde_json::from_slice(&text).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(list.processes.into_iter().map(|entry| (entry.name, entry.pid)).collect())
    }

    /// Kills a process with SIGKILL; false where it is not there at the moment.
    ///
    /// # Errors
    /// When the list of processes cannot be read.
    pub fn kill(&self, name: &str) -> anyhow::Result<bool> {
        let pid = self.pid(name)?;
        Ok(pid.is_some_and(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok()))
    }

    /// Asks a process to end in order, with SIGTERM; false where it is not there at the moment.
    ///
    /// # Errors
    /// When the list of processes cannot be read.
    pub fn restart(&self, name: &str) -> anyhow::Result<bool> {
        let pid = self.pid(name)?;
        // PostgreSQL would wait for its clients; to it SIGINT means: now, in order.
        let signal = match name {
            POSTGRESQL => rustix::process::Signal::INT,
            _ => rustix::process::Signal::TERM,
        };
        Ok(pid.is_some_and(|pid| rustix::process::kill_process(pid, signal).is_ok()))
    }

    /// Kills every process of the PostgreSQL cluster with SIGKILL at once: first none of them may go on, then all die.
    /// False where none is there at the moment, or where the system does not tell (there is no `/proc`).
    pub fn kill_database(&self) -> bool {
        let pids: Vec<Pid> = working_in(&self.data.path().join("data/postgresql/data"))
            .into_iter()
            .filter_map(|pid| i32::try_from(pid).ok().and_then(Pid::from_raw))
            .collect();
        for signal in [rustix::process::Signal::STOP, rustix::process::Signal::KILL] {
            for pid in &pids {
                // One that has ended meanwhile needs nothing.
                let _ = rustix::process::kill_process(*pid, signal);
            }
        }
        !pids.is_empty()
    }

    /// Stops a process with SIGSTOP until what this gives is dropped; none where it is not there at the moment.
    ///
    /// # Errors
    /// When the list of processes cannot be read.
    pub fn pause(&self, name: &str) -> anyhow::Result<Option<Paused>> {
        let Some(pid) = self.pid(name)? else { return Ok(None) };
        let is_paused = rustix::process::kill_process(pid, rustix::process::Signal::STOP).is_ok();
        Ok(is_paused.then_some(Paused(pid)))
    }

    /// Kills nats-server; when it is back, it has no streams. False where it is not there at the moment.
    ///
    /// # Errors
    /// When its folder cannot be moved away.
    pub fn wipe_streams(&self) -> anyhow::Result<bool> {
        let Some(pid) = self.pid("nats-server")? else { return Ok(false) };
        let folder = self.data.path().join("data/nats");
        // While it runs, so that it cannot be started again with them.
        let away = folder.join(format!("wiped-{:016x}", rand::random::<u64>()));
        if fs::rename(folder.join("jetstream"), away).is_err() {
            return Ok(false);
        }
        Ok(rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok())
    }

    fn pid(&self, name: &str) -> anyhow::Result<Option<Pid>> {
        let pid = self.processes()?.get(name).copied();
        Ok(pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw))
    }

    /// Waits until every process named is there and every gateway is ready.
    ///
    /// # Errors
    /// When one is not back in time.
    pub async fn wait_whole<N: AsRef<str> + fmt::Debug>(&self, names: &[N]) -> anyhow::Result<()> {
        let whole = async {
            while !self.processes().is_ok_and(|there| names.iter().all(|name| there.contains_key(name.as_ref()))) {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(BACK_LIMIT, whole)
            .await
            .with_context(|| format!("not all of {names:?} were back within {} s", BACK_LIMIT.as_secs()))?;
        self.wait_ready().await
    }

    /// Stops everything in order.
    pub async fn stop(self) {
        self.process.stop(&[(Signal::Terminate, STOP_LIMIT)]).await;
    }

    /// Everything that was logged.
    pub fn log(&self) -> String {
        fs::read(self.data.path().join("log"))
            .map_or_else(|_| String::new(), |log| String::from_utf8_lossy(&log).into())
    }

    /// Keeps a copy of the log for later.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save_log(&self, to: &Path) -> anyhow::Result<()> {
        Ok(fs::write(to, self.log())?)
    }

    fn last_words(&self) -> String {
        let log = self.log();
        let from = log.len().saturating_sub(LAST_WORDS_BYTES);
        let from = (from..=log.len()).find(|at| log.is_char_boundary(*at)).unwrap_or_default();
        log.get(from..).unwrap_or_default().to_owned()
    }
}

impl Drop for System {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let words = self.last_words();
            // The test's own failure counts, not that of telling more about it.
            drop(writeln!(std::io::stderr(), "--- end of the system's log\n{words}\n---"));
        }
    }
}

async fn is_ready(url: &Url) -> bool {
    reqwest::get(url.clone()).await.is_ok_and(|response| response.status().is_success())
}

/// The program, as the same build made it: beside this one, or beside the folder of the running test.
///
/// # Errors
/// When it is not built.
pub fn program() -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("cannot find the running program")?;
    let found = this.ancestors().skip(1).take(2).map(|folder| folder.join("entrenous")).find(|path| path.is_file());
    found.with_context(|| {
        format!(
            "there is no entrenous beside {}: build the whole workspace first (make test, or cargo build -p entrenous)",
            this.display()
        )
    })
}

fn arguments(shape: &Shape, port: u16) -> Vec<String> {
    let mut arguments = vec!["dev".to_owned(), format!("--port={port}")];
    arguments.push(format!("--gateways={}", shape.gateways));
    arguments.push(format!("--replicas={}", shape.replicas));
    if shape.split {
        arguments.push("--split".to_owned());
    }
    arguments
}

/// The first of as many free ports in a row.
fn pick_ports(count: u16) -> anyhow::Result<u16> {
    for _ in 0..100 {
        let first = ports::pick()?;
        if (first..first.saturating_add(count)).all(ports::is_free) {
            return Ok(first);
        }
    }
    anyhow::bail!("there are no {count} free ports in a row")
}
