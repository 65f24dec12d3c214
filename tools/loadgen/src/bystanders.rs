//! People who talk while something else happens: what they feel of it is what counts.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::task::JoinSet;

use crate::{
    measure::{Observe, Samples},
    one_to_one::writers_to,
    pacer,
    people::{self, Person, Sync},
    stamp::Stamps,
    traffic::{self, Receipts, Run},
    window::Window,
};

/// How they talk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Talk {
    /// Messages a second of all together.
    pub(crate) rate: f64,
    /// Bytes of each ciphertext.
    pub(crate) payload: usize,
    /// They are stopped before that.
    pub(crate) at_most: Duration,
}

/// Pairs of people who talk through the whole run.
pub(crate) struct Bystanders {
    samples: Arc<Samples>,
    tasks: JoinSet<()>,
    pacer: std::thread::JoinHandle<()>,
}

impl Bystanders {
    /// The first half writes to the second.
    pub(crate) async fn start(people: &[Person], talk: Talk) -> anyhow::Result<Self> {
        let (writers, readers) = people.split_at(people.len() / 2);
        let writing = writers_to(people::connect(writers, Sync::Now).await?, readers, talk.payload)?;
        let reading = people::connect(readers, Sync::Now).await?;
        let (samples, stamps) = (Arc::new(Samples::default()), Stamps::begin());
        let begin = Instant::now();
        let window = Window { begin, from: begin, end: begin + talk.at_most };
        let observer: Arc<dyn Observe> = samples.clone();
        let run = Arc::new(Run { observer: Arc::clone(&observer), stamps, window, receipts: Receipts::None });
        let mut tasks = JoinSet::new();
        for socket in reading {
            tasks.spawn(traffic::read(Arc::clone(&run), socket));
        }
        let mut ticks = Vec::new();
        for (socket, template) in writing {
            let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
            ticks.push(sender);
            tasks.spawn(traffic::write_open(Arc::clone(&run), socket, template, receiver));
        }
        let times = (window.begin, window.end);
        let pacer = pacer::start(ticks, observer, talk.rate, times).context("cannot start the pacer")?;
        Ok(Self { samples, tasks, pacer })
    }

    /// What they saw. The pacer ends when nobody listens to it.
    pub(crate) async fn stop(mut self) -> anyhow::Result<Arc<Samples>> {
        self.tasks.shutdown().await;
        self.pacer.join().map_err(|_| anyhow::anyhow!("the pacer ended in disorder"))?;
        Ok(self.samples)
    }
}
