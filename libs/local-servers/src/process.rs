//! Child processes that do not outlive us.

use std::{
    ffi::{OsStr, OsString},
    fs::OpenOptions,
    io,
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{LazyLock, mpsc},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::{ServerError, tools, user::User};

/// How long dropping waits for a killed process.
const DROP_PATIENCE: Duration = Duration::from_secs(5);

/// How often dropping looks.
const DROP_POLL: Duration = Duration::from_millis(2);

/// Where a process finds the folder of [`ProcessSpec::folder`].
#[cfg(target_os = "linux")]
pub(crate) const FOLDER_PATH: &str = "/proc/self/fd/9";

/// Opens the folder before privileges are dropped, and goes on as the command itself.
#[cfg(target_os = "linux")]
const WITH_FOLDER: &str = "exec 9<\"$0\" && exec \"$@\"";

/// `setpriv` of util-linux, with which the kernel ends a child when its parent dies; a fact of the machine.
static SETPRIV: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let path = tools::in_path("setpriv")?;
    let probe = Command::new(&path).args(["--pdeathsig", "keep", "true"]).stderr(Stdio::null()).status();
    probe.is_ok_and(|status| status.success()).then_some(path)
});

/// What can be sent to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT; to PostgreSQL: end now, in order.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGQUIT; to PostgreSQL: end at once, recover at the next start.
    Quit,
    /// SIGKILL.
    Kill,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "INT",
            Self::Terminate => "TERM",
            Self::Quit => "QUIT",
            Self::Kill => "KILL",
        }
    }

    fn raw(self) -> rustix::process::Signal {
        match self {
            Self::Interrupt => rustix::process::Signal::INT,
            Self::Terminate => rustix::process::Signal::TERM,
            Self::Quit => rustix::process::Signal::QUIT,
            Self::Kill => rustix::process::Signal::KILL,
        }
    }
}

/// Where the output of a process goes.
#[derive(Debug, Clone)]
pub enum Output {
    /// To ours.
    Inherit,
    /// To the end of a file.
    Append(PathBuf),
}

/// A process to start.
#[derive(Debug, Clone)]
pub struct ProcessSpec {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables on top of our environment.
    pub environment: Vec<(String, String)>,
    /// Where its output goes.
    pub output: Output,
    /// What the kernel sends it when we die (Linux with `setpriv`).
    pub signal_when_orphaned: Signal,
    /// Who it runs as; none stands for the present user.
    pub(crate) user: Option<User>,
    /// A folder that is opened for it, whoever may reach it by its path.
    pub(crate) folder: Option<PathBuf>,
}

impl ProcessSpec {
    /// A program with its arguments, as the present user; ended with SIGKILL when we die.
    pub fn new<A: Into<OsString>>(program: impl Into<PathBuf>, arguments: impl IntoIterator<Item = A>) -> Self {
        Self {
            program: program.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            environment: Vec::new(),
            output: Output::Inherit,
            signal_when_orphaned: Signal::Kill,
            user: None,
            folder: None,
        }
    }

    /// The command, wrapped in what opens its folder, changes the user, and ties it to the calling thread.
    ///
    /// It is in a process group of its own: Ctrl-C in a terminal reaches us, and we stop things in order.
    pub(crate) fn command(&self) -> Command {
        let mut words = self.wrapping();
        words.push(self.program.clone().into());
        words.extend(self.arguments.iter().cloned());
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).envs(self.environment.iter().cloned()).stdin(Stdio::null()).process_group(0);
        if let (None, Some(user)) = (&*SETPRIV, self.user) {
            command.uid(user.uid).gid(user.gid);
        }
        command
    }

    fn wrapping(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        #[cfg(target_os = "linux")]
        if let Some(folder) = &self.folder {
            words.extend(["sh".into(), "-c".into(), WITH_FOLDER.into(), folder.into()]);
        }
        let Some(setpriv) = &*SETPRIV else { return words };
        words.extend([setpriv.into(), "--pdeathsig".into(), self.signal_when_orphaned.name().into()]);
        if let Some(user) = self.user {
            words.extend(["--reuid".into(), user.uid.to_string().into()]);
            words.extend(["--regid".into(), user.gid.to_string().into(), "--clear-groups".into()]);
        }
        words.push("--".into());
        words
    }

    fn start(&self) -> io::Result<Child> {
        let mut command = self.command();
        if let Output::Append(path) = &self.output {
            let log = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
            command.stdout(log.try_clone()?).stderr(log);
        }
        if self.user.is_some() {
            command.current_dir("/");
        }
        command.spawn()
    }
}

/// A child process. Dropping it kills it and waits until it is gone.
///
/// A thread of its own starts it and waits for it: the kernel ties the child to the thread that started it, so this one
/// lives as long as the child does.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    exit: watch::Receiver<Option<ExitStatus>>,
}

impl Process {
    /// Starts it.
    ///
    /// # Errors
    /// [`ServerError::Spawn`].
    pub fn spawn(spec: ProcessSpec) -> Result<Self, ServerError> {
        let program = spec.program.clone();
        let (started, is_started) = mpsc::sync_channel(1);
        let (exited, exit) = watch::channel(None);
        let pid = std::thread::Builder::new()
            .name("child".to_owned())
            .spawn(move || keep(&spec, &started, &exited))
            .and_then(|_| is_started.recv().unwrap_or_else(|error| Err(io::Error::other(error))));
        match pid {
            Ok(pid) => Ok(Self { pid, exit }),
            Err(source) => Err(ServerError::Spawn { program, source }),
        }
    }

    /// Its number, also after its end.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, if it has.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Sends a signal, unless it has ended.
    pub fn signal(&self, signal: Signal) {
        if self.exit_status().is_none() {
            send(self.pid, signal);
        }
    }

    /// Waits for its end, whoever causes it.
    ///
    /// # Cancellation
    /// Safe.
    pub async fn wait_exit(&self) {
        let mut exit = self.exit.clone();
        // An error means that the keeping thread is gone, and the child with it.
        if exit.wait_for(Option::is_some).await.is_err() {
            tracing::debug!(pid = self.pid, "nobody waits for this process any more");
        }
    }

    /// Sends each signal in turn and gives it the time beside it to end; SIGKILL at last.
    pub async fn stop(&self, steps: &[(Signal, Duration)]) {
        for (signal, patience) in steps {
            self.signal(*signal);
            if tokio::time::timeout(*patience, self.wait_exit()).await.is_ok() {
                return;
            }
        }
        self.kill().await;
    }

    /// SIGKILL, and waits for the end.
    pub async fn kill(&self) {
        self.signal(Signal::Kill);
        self.wait_exit().await;
    }

    /// The same as [`Process::stop`] with one signal, where nothing can be awaited; tells whether it has ended.
    pub(crate) fn stop_now(&self, signal: Signal, patience: Duration) -> bool {
        self.signal(signal);
        let deadline = Instant::now() + patience;
        while self.exit_status().is_none() && self.exit.has_changed().is_ok() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(DROP_POLL);
        }
        true
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.stop_now(Signal::Kill, DROP_PATIENCE) {
            tracing::warn!(pid = self.pid, "a killed process is still there");
        }
    }
}

/// The life of the thread that keeps a child.
fn keep(spec: &ProcessSpec, started: &mpsc::SyncSender<io::Result<u32>>, exited: &watch::Sender<Option<ExitStatus>>) {
    let (child, report) = match spec.start() {
        Ok(child) => {
            let pid = child.id();
            (Some(child), Ok(pid))
        }
        Err(error) => (None, Err(error)),
    };
    let is_wanted = started.send(report).is_ok();
    let Some(mut child) = child else { return };
    if !is_wanted {
        tracing::debug!(pid = child.id(), "started for nobody");
    }
    match child.wait() {
        Ok(status) => {
            exited.send_replace(Some(status));
        }
        Err(error) => tracing::warn!(%error, pid = child.id(), "cannot wait for a process"),
    }
}

/// Sends a signal; that nobody is there is no error.
pub(crate) fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid
        && let Err(error) = rustix::process::kill_process(pid, signal.raw())
    {
        tracing::debug!(%error, ?pid, ?signal, "no signal sent");
    }
}

/// Runs a step to its end with this on its standard input.
///
/// # Errors
/// [`ServerError::Step`] with what it printed.
pub(crate) async fn run_step(step: &'static str, spec: ProcessSpec, input: Vec<u8>) -> Result<(), ServerError> {
    let program = spec.program.clone();
    let result = tokio::task::spawn_blocking(move || run_to_end(&spec, &input)).await.map_err(io::Error::other);
    let (is_success, output) = result.flatten().map_err(|source| ServerError::Spawn { program, source })?;
    if is_success { Ok(()) } else { Err(ServerError::Step { step, output }) }
}

fn run_to_end(spec: &ProcessSpec, input: &[u8]) -> io::Result<(bool, String)> {
    use std::io::Write;
    let mut command = spec.command();
    command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input)?;
    }
    let output = child.wait_with_output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&text).trim().to_owned()))
}

/// How a process names a folder: by its path, or by the way that was opened for it.
pub(crate) fn folder_argument(folder: &Path, is_opened: bool) -> &OsStr {
    #[cfg(target_os = "linux")]
    if is_opened {
        return OsStr::new(FOLDER_PATH);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = is_opened;
    folder.as_os_str()
}
