//! Keeps a service running until the stop.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{
    instance::{Instance, RunningInstance},
    plan::Mode,
    processes::Processes,
    stop::Stop,
};

/// The wait before the first restart; each further one waits twice as long.
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// The longest wait.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// A service that ran this long gets the short wait again.
const STABLE_AFTER: Duration = Duration::from_secs(20);

/// Services that ended while everything started: then the start has failed.
#[derive(Debug)]
pub(crate) struct Failures {
    sender: mpsc::UnboundedSender<String>,
    receiver: mpsc::UnboundedReceiver<String>,
}

impl Default for Failures {
    fn default() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self { sender, receiver }
    }
}

impl Failures {
    pub(crate) fn sender(&self) -> mpsc::UnboundedSender<String> {
        self.sender.clone()
    }

    /// The first one.
    pub(crate) async fn first(&mut self) -> String {
        self.receiver.recv().await.unwrap_or_default()
    }

    /// From now on services are just restarted.
    pub(crate) fn ignore_from_now(mut self) {
        self.receiver.close();
    }
}

/// The waits between restarts.
#[derive(Debug)]
struct Backoff {
    next: Duration,
}

impl Backoff {
    /// How long to wait after a run of this length.
    fn after(&mut self, ran: Duration) -> Duration {
        if ran >= STABLE_AFTER {
            self.next = BACKOFF_MIN;
        }
        let wait = self.next;
        self.next = (self.next * 2).min(BACKOFF_MAX);
        wait
    }
}

/// Runs it, again and again, until the stop.
pub(crate) async fn supervise(
    mode: Mode,
    instance: Instance,
    processes: Arc<Processes>,
    stop: Stop,
    failures: mpsc::UnboundedSender<String>,
) {
    let mut backoff = Backoff { next: BACKOFF_MIN };
    let mut is_first = true;
    while !stop.is_asked() {
        let begin = Instant::now();
        let reason = match instance.start(mode, is_first, stop.for_service()) {
            Ok(running) => run_once(mode, &instance, running, &processes, &stop).await,
            Err(error) => Some(format!("{error:#}")),
        };
        let Some(reason) = reason else { return };
        tracing::warn!(name = instance.name, reason, "a service ended: starting it again");
        // Nobody listens once everything has started.
        failures.send(format!("{} ended while starting: {reason}", instance.name)).unwrap_or_default();
        is_first = false;
        stop.unless_asked(tokio::time::sleep(backoff.after(begin.elapsed()))).await;
    }
}

/// Until it ends by itself, for the reason given, or is stopped.
async fn run_once(
    mode: Mode,
    instance: &Instance,
    mut running: RunningInstance,
    processes: &Processes,
    stop: &Stop,
) -> Option<String> {
    if mode == Mode::Split {
        processes.set(&instance.name, running.pid(), instance.port());
    }
    let reason = tokio::select! {
        reason = running.ended() => Some(reason).filter(|_| !stop.is_asked()),
        () = stop.asked() => {
            running.stop().await;
            None
        }
    };
    if mode == Mode::Split {
        processes.remove(&instance.name);
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_shrink_again() {
        let mut backoff = Backoff { next: BACKOFF_MIN };
        let waits: Vec<_> = (0..8).map(|_| backoff.after(Duration::ZERO).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert_eq!(backoff.after(STABLE_AFTER), BACKOFF_MIN);
    }
}
