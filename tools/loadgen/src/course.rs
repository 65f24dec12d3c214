//! The measured part of a run: who sends and receives, for how long, and what the servers use meanwhile.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use entrenous_client::Socket;
use serde::Serialize;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::JoinSet,
};

use crate::{
    Target,
    measure::{Measure, Observe},
    output::wait_until,
    pacer,
    processes::{Snapshot, of_generator},
    report::Servers,
    traffic::{self, Run, Template},
    window::Window,
};

/// How long answers are waited for after the last message was due.
const LAST_ANSWERS: Duration = Duration::from_secs(10);
/// How often it is looked whether they are there.
const POLL: Duration = Duration::from_millis(50);

/// How fast.
#[derive(Debug, Clone, Copy, clap::Args, Serialize)]
pub(crate) struct Pace {
    /// Messages a second of all senders together.
    #[arg(long)]
    rate: Option<f64>,
    /// Instead of a rate: each sender keeps so many under way.
    #[arg(long, conflicts_with = "rate")]
    in_flight: Option<usize>,
}

/// A pace with nothing left open.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Loop {
    /// Messages are due at fixed moments, so many a second.
    Open(f64),
    /// Each sender keeps so many under way.
    Closed(usize),
}

impl Pace {
    /// The rate where neither is given is the scenario's.
    pub(crate) fn or_rate(self, rate: f64) -> anyhow::Result<Loop> {
        match self.in_flight {
            Some(in_flight) if in_flight > 0 => Ok(Loop::Closed(in_flight)),
            None if self.rate.unwrap_or(rate) > 0.0 => Ok(Loop::Open(self.rate.unwrap_or(rate))),
            _ => anyhow::bail!("there must be something to send"),
        }
    }
}

/// Everything that is under way.
pub(crate) struct Course {
    window: Window,
    tasks: JoinSet<()>,
    pacers: Vec<std::thread::JoinHandle<()>>,
}

impl Course {
    pub(crate) fn new(window: Window) -> Self {
        Self { window, tasks: JoinSet::new(), pacers: Vec::new() }
    }

    /// Its moments.
    pub(crate) fn window(&self) -> Window {
        self.window
    }

    /// Starts a task that ends with the course.
    pub(crate) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Starts to tell so many senders in turn when a message is due.
    pub(crate) fn pace(
        &mut self,
        observer: &Arc<dyn Observe>,
        rate: f64,
        senders: usize,
    ) -> anyhow::Result<Vec<UnboundedReceiver<Instant>>> {
        let (ticks, receivers) = (0..senders).map(|_| unbounded_channel()).unzip();
        let times = (self.window.begin, self.window.end);
        self.pacers.push(pacer::start(ticks, Arc::clone(observer), rate, times).context("cannot start the pacer")?);
        Ok(receivers)
    }

    /// Everybody receives.
    pub(crate) fn read(&mut self, run: &Arc<Run>, sockets: Vec<Socket>) {
        for socket in sockets {
            self.spawn(traffic::read(Arc::clone(run), socket));
        }
    }

    /// Everybody writes.
    pub(crate) fn write(&mut self, run: &Arc<Run>, writers: Vec<(Socket, Template)>, pace: Loop) -> anyhow::Result<()> {
        match pace {
            Loop::Closed(in_flight) => {
                for (socket, template) in writers {
                    self.spawn(traffic::write_closed(Arc::clone(run), socket, template, in_flight));
                }
            }
            Loop::Open(rate) => {
                let ticks = self.pace(&run.observer, rate, writers.len())?;
                for ((socket, template), ticks) in writers.into_iter().zip(ticks) {
                    self.spawn(traffic::write_open(Arc::clone(run), socket, template, ticks));
                }
            }
        }
        Ok(())
    }

    /// Waits until everything was sent and answered. Gives what the servers used in the measured time.
    pub(crate) async fn finish(mut self, target: Target<'_>, measures: &[&Measure]) -> anyhow::Result<Servers> {
        wait_until("warming up", self.window.from).await;
        let (before, own_before) = (Snapshot::take(target.processes)?, of_generator());
        wait_until("measuring", self.window.end).await;
        let (after, own_after) = (Snapshot::take(target.processes)?, of_generator());
        let deadline = self.window.end + LAST_ANSWERS;
        while Instant::now() < deadline && !measures.iter().all(|measure| measure.is_complete()) {
            tokio::time::sleep(POLL).await;
        }
        self.tasks.shutdown().await;
        for pacer in self.pacers {
            pacer.join().map_err(|_| anyhow::anyhow!("the pacer ended in disorder"))?;
        }
        Ok(Servers { used: after.since(&before), generator_cpu: own_after.saturating_sub(own_before) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_a_rate_or_so_many_in_flight() {
        let pace = |rate, in_flight| Pace { rate, in_flight }.or_rate(7.0).ok();
        assert_eq!(pace(None, None), Some(Loop::Open(7.0)));
        assert_eq!(pace(Some(3.0), None), Some(Loop::Open(3.0)));
        assert_eq!(pace(None, Some(2)), Some(Loop::Closed(2)));
        assert_eq!((pace(Some(0.0), None), pace(None, Some(0))), (None, None));
    }
}
