//! A private PostgreSQL.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    ServerError, Tools,
    home::{Home, create_private},
    leftovers, ports,
    process::{Output, Process, ProcessSpec, Signal, folder_argument, run_step},
    tools::PostgresTools,
    user::{User, hand_over, server_user},
};

const SERVER: &str = "PostgreSQL";

/// How long a start may take, recovery after a crash included.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How often it is looked whether the server is ready.
const READY_POLL: Duration = Duration::from_millis(5);

/// How long to wait before another attempt while processes of a killed server still hold its memory.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Ports that are tried when the caller named none.
const PORT_ATTEMPTS: usize = 5;

/// A stop in order writes everything out; a hurried one leaves that to the next start.
const STOP_STEPS: [(Signal, Duration); 2] =
    [(Signal::Interrupt, Duration::from_secs(20)), (Signal::Quit, Duration::from_secs(5))];

/// How long dropping waits for a hurried stop.
const DROP_PATIENCE: Duration = Duration::from_secs(5);

/// How long a server that lost its starter may take to stop by itself.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(10);

const LEFTOVER_STEPS: [(Signal, Duration); 2] =
    [(Signal::Quit, Duration::from_secs(5)), (Signal::Kill, Duration::from_secs(5))];

/// What is promised to outlive a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Everything committed, also when the machine goes down.
    Full,
    /// Everything committed while the machine stays up: nothing waits for the disk. For tests.
    MachineStaysUp,
}

/// How to log in, decided when the data are made.
#[derive(Debug, Clone)]
pub struct PostgresLogin {
    /// The one role: it owns everything.
    pub role: String,
    /// Its password (letters and digits); none lets everybody on this machine in.
    pub password: Option<String>,
    /// The database.
    pub database: String,
}

/// A PostgreSQL to start.
#[derive(Debug, Clone)]
pub struct PostgresSpec {
    /// Its folder: data, log and lock.
    pub home: PathBuf,
    /// The port; none picks a free one.
    pub port: Option<u16>,
    /// How to log in.
    pub login: PostgresLogin,
    /// What is promised to outlive a crash.
    pub durability: Durability,
    /// Connections at a time.
    pub connections_max: u16,
    /// More settings of PostgreSQL.
    pub settings: Vec<(String, String)>,
    /// Where the programs are.
    pub tools: Tools,
}

impl PostgresSpec {
    /// A server in this folder with full durability and a password.
    pub fn new(home: impl Into<PathBuf>, password: impl Into<String>) -> Self {
        Self {
            home: home.into(),
            port: None,
            login: PostgresLogin {
                role: "entrenous".to_owned(),
                password: Some(password.into()),
                database: "entrenous".to_owned(),
            },
            durability: Durability::Full,
            connections_max: 200,
            settings: Vec::new(),
            tools: Tools::from_environment(),
        }
    }

    /// A server for tests in this folder: quick, forgetful, open to everybody on this machine.
    pub fn for_tests(home: impl Into<PathBuf>) -> Self {
        let mut spec = Self::new(home, "");
        spec.login.password = None;
        // The one that is there anyway: making another takes time and space.
        "postgres".clone_into(&mut spec.login.database);
        spec.durability = Durability::MachineStaysUp;
        // In the data folder, so that nothing stays behind in shared memory.
        spec.settings.push(("dynamic_shared_memory_type".to_owned(), "mmap".to_owned()));
        spec.settings.push(("shared_buffers".to_owned(), "32MB".to_owned()));
        spec
    }
}

/// A running PostgreSQL. Dropping it stops it in a hurry; the next start recovers.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    port: u16,
    login: PostgresLogin,
    // Last, so that the lock outlives the process.
    home: Home,
}

impl Postgres {
    /// Makes the data if there are none, ends what an earlier run left behind, starts the server, and waits until it serves.
    ///
    /// # Errors
    /// [`ServerError`], with the end of the log where the server gives up.
    pub async fn start(spec: &PostgresSpec) -> Result<Self, ServerError> {
        let mut home = Home::open(&spec.home, "postgresql.log")?;
        let cluster = Cluster::prepare(&home, spec).await?;
        cluster.stop_leftovers().await?;
        let deadline = Instant::now() + START_LIMIT;
        let mut attempts = PORT_ATTEMPTS;
        loop {
            let port = spec.port.map_or_else(ports::pick, Ok)?;
            home.start_new_attempt();
            let process = Process::spawn(cluster.server(&home, port))?;
            match cluster.wait_ready(&home, &process, deadline).await {
                Ok(()) => return Ok(Self { process, port, login: spec.login.clone(), home }),
                Err(_) if is_memory_held(&home) && Instant::now() < deadline => tokio::time::sleep(RETRY_PAUSE).await,
                Err(_) if is_port_busy(&home) && spec.port.is_some() => return Err(ServerError::PortBusy { port }),
                Err(_) if is_port_busy(&home) && attempts > 1 => attempts -= 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes the data in this home, if there are none, without starting a server.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub async fn create(spec: &PostgresSpec) -> Result<(), ServerError> {
        let home = Home::open(&spec.home, "postgresql.log")?;
        Cluster::prepare(&home, spec).await.map(|_| ())
    }

    /// Address of the database, with role and password.
    pub fn url(&self) -> String {
        let PostgresLogin { role, password, database } = &self.login;
        let password = password.as_ref().map(|password| format!(":{password}")).unwrap_or_default();
        format!("postgres://{role}{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// Number of the main process.
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

    /// Stops it in order: connections are cut, everything is written.
    pub async fn stop(self) {
        self.process.stop(&STOP_STEPS).await;
    }

    /// SIGKILL to the main process, as a test does it; waits until its children, which then end by themselves, are gone too:
    /// one that is awake may answer for a moment longer.
    pub async fn kill(&self) {
        self.process.kill().await;
        let data = self.home.path().join("data");
        leftovers::wait_until_gone(|| leftovers::working_in(&data), ORPHAN_PATIENCE).await;
    }

    /// Waits until the main process ends, whoever causes it.
    ///
    /// # Cancellation
    /// Safe.
    pub async fn wait_exit(&self) {
        self.process.wait_exit().await;
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if !self.process.stop_now(Signal::Quit, DROP_PATIENCE) {
            tracing::warn!(pid = self.pid(), "PostgreSQL does not stop: killing it");
        }
    }
}

/// The data and who serves them with what.
struct Cluster {
    data: PathBuf,
    tools: PostgresTools,
    user: Option<User>,
    settings: Vec<(String, String)>,
}

impl Cluster {
    async fn prepare(home: &Home, spec: &PostgresSpec) -> Result<Self, ServerError> {
        let data = home.path().join("data");
        let made_by = data_version(&data);
        let tools = spec.tools.postgres(made_by)?;
        if let Some(made_by) = made_by.filter(|major| *major != tools.major) {
            return Err(ServerError::DataVersion { path: data, made_by });
        }
        let user = server_user(&data)?;
        let cluster = Self { data, tools, user, settings: settings_of(spec) };
        if made_by.is_none() {
            cluster.make(home, spec).await?;
        }
        Ok(cluster)
    }

    /// Made beside its place and moved there whole, so that an interrupted attempt is no half cluster.
    async fn make(&self, home: &Home, spec: &PostgresSpec) -> Result<(), ServerError> {
        let draft = home.path().join("data.draft");
        if draft.exists() {
            fs::remove_dir_all(&draft).map_err(ServerError::file("remove", &draft))?;
        }
        create_private(&draft)?;
        hand_over(&draft, self.user)?;
        let is_quick = spec.durability == Durability::MachineStaysUp;
        run_step("initdb", self.initdb(&draft, &spec.login.role, is_quick), Vec::new()).await?;
        let rules = draft.join("pg_hba.conf");
        fs::write(&rules, access_rules(&spec.login)).map_err(ServerError::file("write", &rules))?;
        let statements = first_statements(&spec.login);
        if !statements.is_empty() {
            let single = self.run(&draft, &self.tools.postgres, ["--single"], ["-F", "postgres"]);
            run_step("making the database", single, statements.into_bytes()).await?;
        }
        fs::rename(&draft, &self.data).map_err(ServerError::file("make", &self.data))
    }

    fn initdb(&self, data: &Path, role: &str, is_quick: bool) -> ProcessSpec {
        let locale = if cfg!(target_os = "linux") { "--locale=C.UTF-8" } else { "--no-locale" };
        let mut arguments = vec!["-U", role, "--auth=trust", "-E", "UTF8", locale, "--no-instructions"];
        if is_quick {
            // Small files are quicker to copy.
            arguments.extend(["--no-sync", "--wal-segsize=1"]);
        }
        self.run(data, &self.tools.initdb, [], arguments)
    }

    fn server(&self, home: &Home, port: u16) -> ProcessSpec {
        let port = ("port".to_owned(), port.to_string());
        let settings = self.settings.iter().chain([&port]);
        let arguments = settings.flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")]);
        let mut spec = self.run(&self.data, &self.tools.postgres, [], arguments);
        spec.output = Output::Append(home.log().to_owned());
        spec.signal_when_orphaned = Signal::Interrupt;
        spec
    }

    /// A program of PostgreSQL over a data folder.
    ///
    /// The other user may not be able to reach the folder by its path (a clone in `/root`): it is opened for them.
    fn run<'a, A: Into<OsString>>(
        &self,
        data: &Path,
        program: &Path,
        before: impl IntoIterator<Item = &'a str>,
        after: impl IntoIterator<Item = A>,
    ) -> ProcessSpec {
        let folder = folder_argument(data, self.user.is_some());
        let mut arguments: Vec<OsString> = before.into_iter().map(Into::into).collect();
        arguments.extend(["-D".into(), folder.into()]);
        arguments.extend(after.into_iter().map(Into::into));
        let mut spec = ProcessSpec::new(program, arguments);
        spec.user = self.user;
        spec.folder = self.user.map(|_| data.to_owned());
        spec
    }

    /// A server that lost its starter is stopping already; one that does not is helped.
    async fn stop_leftovers(&self) -> Result<(), ServerError> {
        let find = || leftovers::working_in(&self.data);
        leftovers::wait_until_gone(find, ORPHAN_PATIENCE).await;
        if !leftovers::stop(find, &LEFTOVER_STEPS).await {
            return Err(ServerError::HomeBusy { home: self.data.clone() });
        }
        let file = self.data.join("postmaster.pid");
        // Nobody is there, and the lock of the home is ours: the number in it may be a stranger's by now.
        if cfg!(target_os = "linux") && file.exists() {
            fs::remove_file(&file).map_err(ServerError::file("remove", &file))?;
        }
        Ok(())
    }

    async fn wait_ready(&self, home: &Home, process: &Process, deadline: Instant) -> Result<(), ServerError> {
        while process.exit_status().is_none() {
            if self.is_ready(process.pid()) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(ServerError::NotReady { server: SERVER, limit: START_LIMIT, log: home.last_words() });
            }
            tokio::time::sleep(READY_POLL).await;
        }
        Err(ServerError::Ended { server: SERVER, log: home.last_words() })
    }

    /// Source: `pg_ctl` of PostgreSQL (`src/bin/pg_ctl/pg_ctl.c`) waits for the same line of the same file.
    fn is_ready(&self, pid: u32) -> bool {
        let Ok(text) = fs::read_to_string(self.data.join("postmaster.pid")) else { return false };
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        lines.first() == Some(&pid.to_string().as_str()) && lines.get(7) == Some(&"ready")
    }
}

fn data_version(data: &Path) -> Option<u32> {
    fs::read_to_string(data.join("PG_VERSION")).ok()?.trim().parse().ok()
}

fn settings_of(spec: &PostgresSpec) -> Vec<(String, String)> {
    let is_durable = if spec.durability == Durability::Full { "on" } else { "off" };
    let connections_max = spec.connections_max.to_string();
    let settings = [
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", ""),
        ("max_connections", &connections_max),
        ("fsync", is_durable),
        // Always: what is in PostgreSQL's own memory only would be lost when it is killed.
        ("synchronous_commit", "on"),
        ("full_page_writes", is_durable),
    ];
    let ours = settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    ours.chain(spec.settings.iter().cloned()).collect()
}

/// Who may connect, and how they prove it.
fn access_rules(login: &PostgresLogin) -> String {
    let method = if login.password.is_some() { "scram-sha-256" } else { "trust" };
    format!("# Made by entrenous: this machine alone.\nhost all all 127.0.0.1/32 {method}\n")
}

/// One statement a line, as the single-user mode reads them.
fn first_statements(login: &PostgresLogin) -> String {
    let PostgresLogin { role, password, database } = login;
    let password = password.as_ref().map(|password| format!("ALTER ROLE {role} PASSWORD '{password}';\n"));
    let database = (database != "postgres").then(|| format!("CREATE DATABASE {database};\n"));
    password.into_iter().chain(database).collect()
}

fn is_memory_held(home: &Home) -> bool {
    home.last_words().contains("pre-existing shared memory block")
}

fn is_port_busy(home: &Home) -> bool {
    home.last_words().contains("Address already in use")
}
