//! From the first line of `main` to the exit code.

use std::{future::Future, process::ExitCode, time::Duration};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{ProcessConfig, telemetry};

/// How long tasks may take to end once they have been told to.
const TASKS_END_MAX: Duration = Duration::from_secs(20);

/// Tells everything in the process that it is to stop. Clones speak of the same stop; children may be stopped alone.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A stop that nobody has asked for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for the stop. Doing it twice changes nothing.
    pub fn trigger(&self) {
        self.0.cancel();
    }

    /// Whether the stop was asked for.
    pub fn is_triggered(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until the stop is asked for.
    ///
    /// # Cancellation
    /// Safe.
    pub async fn triggered(&self) {
        self.0.cancelled().await;
    }

    /// A stop of a part: triggered with this one, or alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }
}

/// The tasks of a service: spawned here, so that the stop waits for them.
#[derive(Debug, Clone, Default)]
pub struct Tasks(TaskTracker);

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task on the present runtime.
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.0.spawn(task)
    }

    /// Starts a task without which the service is worth nothing: when it ends before the stop, the stop is asked for.
    pub fn spawn_vital<F>(&self, name: &'static str, shutdown: Shutdown, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.spawn(async move {
            // Also when the task panics: the guard is dropped while unwinding.
            let _guard = EndGuard { name, shutdown };
            task.await;
        });
    }

    /// Waits until all tasks have ended, at most 20 s; tells whether they have.
    pub async fn end(&self) -> bool {
        self.0.close();
        tokio::time::timeout(TASKS_END_MAX, self.0.wait()).await.is_ok()
    }
}

struct EndGuard {
    name: &'static str,
    shutdown: Shutdown,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        if !self.shutdown.is_triggered() {
            tracing::error!(task = self.name, "a vital task ended by itself: stopping");
            self.shutdown.trigger();
        }
    }
}

/// Runs a service as a process: logs and metrics, the service, SIGTERM and SIGINT; a second signal ends at once.
pub fn run_process<F>(service: &'static str, process: &ProcessConfig, run: impl FnOnce(Shutdown) -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    let _traces = match telemetry::init(service, process.log_format, &process.log_filter, &process.traces) {
        Ok(traces) => traces,
        Err(error) => return refuse(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no runtime");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        let shutdown = Shutdown::new();
        let signals = tokio::spawn(watch_signals(shutdown.clone()));
        tracing::info!(service, "starting");
        let result = run(shutdown.clone()).await;
        signals.abort();
        match result {
            Ok(()) => {
                tracing::info!(service, "stopped");
                ExitCode::SUCCESS
            }
            Err(error) => {
                tracing::error!(service, error = format!("{error:#}"), "stopped by an error");
                ExitCode::FAILURE
            }
        }
    })
}

#[expect(clippy::print_stderr, reason = "there is no log yet")]
fn refuse(error: &anyhow::Error) -> ExitCode {
    eprintln!("{error:#}");
    ExitCode::FAILURE
}

async fn watch_signals(shutdown: Shutdown) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be watched");
        return;
    };
    for count in 0.. {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if count > 0 {
            tracing::warn!("second signal: ending at once");
            std::process::exit(1);
        }
        tracing::info!("asked to stop");
        shutdown.trigger();
    }
}
