//! The person's wish to stop: once in order, twice in a hurry.

use anyhow::Context;
use entrenous_runtime::Shutdown;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Whether and how to stop. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    asked: Shutdown,
    hurried: Shutdown,
}

impl Stop {
    /// A stop that is asked for by SIGINT or SIGTERM; the second one hurries.
    pub(crate) fn watch_signals() -> anyhow::Result<Self> {
        let interrupt = signal(SignalKind::interrupt()).context("cannot watch signals")?;
        let terminate = signal(SignalKind::terminate()).context("cannot watch signals")?;
        let stop = Self::default();
        tokio::spawn(stop.clone().watch(interrupt, terminate));
        Ok(stop)
    }

    async fn watch(self, mut interrupt: Signal, mut terminate: Signal) {
        for wish in [&self.asked, &self.hurried] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            wish.trigger();
        }
    }

    /// Asks for it.
    pub(crate) fn ask(&self) {
        self.asked.trigger();
    }

    /// Waits until it is asked for.
    pub(crate) async fn asked(&self) {
        self.asked.triggered().await;
    }

    /// Whether it is asked for.
    pub(crate) fn is_asked(&self) -> bool {
        self.asked.is_triggered()
    }

    /// Waits until it is hurried.
    pub(crate) async fn hurried(&self) {
        self.hurried.triggered().await;
    }

    /// The result of the work, unless the stop is asked for first.
    pub(crate) async fn unless_asked<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            result = work => Some(result),
            () = self.asked() => None,
        }
    }

    /// The result of the work, unless the stop is hurried first.
    pub(crate) async fn unless_hurried<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            result = work => Some(result),
            () = self.hurried() => None,
        }
    }

    /// What a service in this process is told.
    pub(crate) fn for_service(&self) -> Shutdown {
        self.asked.child()
    }
}
