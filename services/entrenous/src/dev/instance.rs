//! One running service, as a task or as a process.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use anyhow::Context;
use entrenous_local_servers::{Process, ProcessSpec, Signal, permissions::Service};
use entrenous_runtime::Shutdown;
use tokio::task::JoinHandle;

use super::plan::Mode;
use crate::serve::{self, Pairs};

/// How long a service may take to stop, before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// A service to run.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    pub(crate) service: Service,
    pub(crate) name: String,
    pub(crate) admin_port: u16,
    /// Port for clients, of gateways.
    pub(crate) public_port: Option<u16>,
    /// Settings.
    pub(crate) pairs: Pairs,
    /// Settings for the first start alone, when everything starts together.
    pub(crate) first_pairs: Pairs,
    /// The data folder of this run.
    pub(crate) started_by: PathBuf,
}

impl Instance {
    /// The port that people and tests want to know.
    pub(crate) fn port(&self) -> u16 {
        self.public_port.unwrap_or(self.admin_port)
    }

    /// Starts it.
    pub(crate) fn start(&self, mode: Mode, is_first: bool, shutdown: Shutdown) -> anyhow::Result<RunningInstance> {
        let mut pairs = self.pairs.clone();
        if is_first {
            pairs.extend(self.first_pairs.iter().cloned());
        }
        match mode {
            Mode::OneProcess => {
                let (service, own) = (self.service, shutdown.clone());
                let task = tokio::spawn(async move { Box::pin(serve::run(service, &pairs, own)).await });
                Ok(RunningInstance::Task { task, shutdown })
            }
            Mode::Split => Ok(RunningInstance::Child(Process::spawn(self.child(pairs)?)?)),
        }
    }

    fn child(&self, pairs: Pairs) -> anyhow::Result<ProcessSpec> {
        let program = std::env::current_exe().context("cannot find my own program")?;
        let arguments: [OsString; 4] =
            ["serve".into(), self.service.name().into(), "--started-by".into(), self.started_by.clone().into()];
        let mut spec = ProcessSpec::new(program, arguments);
        spec.environment = pairs;
        Ok(spec)
    }
}

/// A service that runs. Dropping it ends it at once.
#[derive(Debug)]
pub(crate) enum RunningInstance {
    Task { task: JoinHandle<anyhow::Result<()>>, shutdown: Shutdown },
    Child(Process),
}

impl RunningInstance {
    /// Number of its process.
    pub(crate) fn pid(&self) -> u32 {
        match self {
            Self::Task { .. } => std::process::id(),
            Self::Child(process) => process.pid(),
        }
    }

    /// Waits for its end, and says why.
    pub(crate) async fn ended(&mut self) -> String {
        match self {
            Self::Task { task, .. } => match task.await {
                Ok(Ok(())) => "it stopped by itself".to_owned(),
                Ok(Err(error)) => format!("{error:#}"),
                Err(error) => error.to_string(),
            },
            Self::Child(process) => {
                process.wait_exit().await;
                process.exit_status().map_or_else(|| "it is gone".to_owned(), |status| status.to_string())
            }
        }
    }

    /// Asks it to stop and waits, at most 40 s.
    pub(crate) async fn stop(&mut self) {
        match self {
            Self::Task { shutdown, .. } => {
                shutdown.trigger();
                let ended = tokio::time::timeout(STOP_LIMIT, self.ended()).await;
                tracing::debug!(?ended, "service stopped");
            }
            Self::Child(process) => process.stop(&[(Signal::Terminate, STOP_LIMIT)]).await,
        }
    }
}

impl Drop for RunningInstance {
    fn drop(&mut self) {
        if let Self::Task { task, .. } = self {
            task.abort();
        }
    }
}
