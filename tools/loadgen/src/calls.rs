//! REST calls, in an open and in a closed loop.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use entrenous_client::ApiError;
use serde::Serialize;
use tokio::{sync::mpsc::UnboundedReceiver, task::JoinSet};

use crate::{
    Target,
    measure::{Observe, Samples, rate},
    output::wait_until,
    processes::{Snapshot, of_generator},
    report::{Report, Servers},
};

/// Calls when it is due, whether or not earlier calls were answered.
pub(crate) async fn open<C>(
    observer: Arc<dyn Observe>,
    mut ticks: UnboundedReceiver<Instant>,
    call: impl Fn(Instant) -> C,
) where
    C: Future<Output = Result<(), ApiError>> + Send + 'static,
{
    let mut calls = JoinSet::new();
    loop {
        tokio::select! {
            Some(due) = ticks.recv() => {
                let (observer, call) = (Arc::clone(&observer), call(due));
                calls.spawn(async move { note(&*observer, due, call.await) });
            }
            Some(_) = calls.join_next() => {}
            else => return,
        }
    }
}

/// Calls again when there is an answer, until the end.
pub(crate) async fn closed<C>(observer: Arc<dyn Observe>, end: Instant, call: impl Fn(Instant) -> C)
where
    C: Future<Output = Result<(), ApiError>>,
{
    while Instant::now() < end {
        let due = Instant::now();
        observer.due(due);
        note(&*observer, due, call(due).await);
    }
}

fn note(observer: &dyn Observe, due: Instant, answer: Result<(), ApiError>) {
    match answer {
        Ok(()) => observer.acked(due),
        Err(error) => observer.failed(&format!("{:#}", anyhow::Error::from(error))),
    }
}

/// Calls of several callers, each made when the one before was answered; the first fault ends the run.
pub(crate) struct Callers {
    tasks: JoinSet<anyhow::Result<()>>,
    samples: Arc<Samples>,
    began: Instant,
    end: Instant,
    before: (Snapshot, Duration),
}

impl Callers {
    /// Begins a time that is measured.
    pub(crate) fn begin(target: Target<'_>, duration: Duration) -> anyhow::Result<Self> {
        let before = (Snapshot::take(target.processes)?, of_generator());
        let began = Instant::now();
        Ok(Self { tasks: JoinSet::new(), samples: Arc::default(), began, end: began + duration, before })
    }

    /// Starts somebody who calls again and again.
    /// What a call gives is dropped when its time has been taken.
    pub(crate) fn spawn<C, T>(&mut self, mut call: impl FnMut() -> C + Send + 'static)
    where
        C: Future<Output = anyhow::Result<T>> + Send,
        T: Send,
    {
        let (samples, end) = (Arc::clone(&self.samples), self.end);
        self.tasks.spawn(async move {
            while Instant::now() < end {
                let began = Instant::now();
                let answer = call().await?;
                samples.add(began, Instant::now());
                drop(answer);
            }
            Ok(())
        });
    }

    /// Waits for all, and reports.
    pub(crate) async fn report(
        mut self,
        target: Target<'_>,
        (parameters, call): (&impl Serialize, &str),
    ) -> anyhow::Result<Report> {
        wait_until("measuring", self.end).await;
        while let Some(ended) = self.tasks.join_next().await {
            ended?.with_context(|| format!("{call} failed"))?;
        }
        let took = self.began.elapsed();
        let (now, own_now) = (Snapshot::take(target.processes)?, of_generator());
        let (before, own_before) = self.before;
        let servers = Servers { used: now.since(&before), generator_cpu: own_now.saturating_sub(own_before) };
        let latencies = self.samples.between(self.began, self.end)?;
        let per_second = rate(latencies.count, took);
        Report::calls(parameters, call, (latencies, per_second), servers)
    }
}
