//! People who talk while something else happens: what they feel of it is what counts.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use entrenous_client::Target as To;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    measure::Samples,
    one_to_one::{self, Receipts, Run, Template},
    pacer,
    people::{self, Person},
    stamp::Stamps,
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
    pacer: std::thread::JoinHandle<u64>,
}

impl Bystanders {
    /// The first half writes to the second.
    pub(crate) async fn start(people: &[Person], talk: Talk) -> anyhow::Result<Self> {
        let (writers, readers) = people.split_at(people.len() / 2);
        let (writing, reading) = (people::connect(writers, true).await?, people::connect(readers, true).await?);
        let samples = Arc::new(Samples::default());
        let begin = Instant::now();
        let end = begin + talk.at_most;
        let (observer, stamps) = (Arc::clone(&samples), Stamps::begin());
        let run = Arc::new(Run { observer, stamps, end, receipts: Receipts::None });
        let mut tasks = JoinSet::new();
        for socket in reading {
            tasks.spawn(one_to_one::read(Arc::clone(&run), socket));
        }
        let mut ticks = Vec::new();
        for (socket, to) in writing.into_iter().zip(readers) {
            let (sender, receiver) = mpsc::unbounded_channel();
            ticks.push(sender);
            let template = Template::new(To::User(to.user_id), talk.payload)?;
            tasks.spawn(one_to_one::write_open(Arc::clone(&run), socket, template, receiver));
        }
        let pacer = pacer::start(ticks, talk.rate, (begin, end)).context("cannot start the pacer")?;
        Ok(Self { samples, tasks, pacer })
    }

    /// What they saw. The pacer ends when nobody listens to it.
    pub(crate) async fn stop(mut self) -> anyhow::Result<Arc<Samples>> {
        self.tasks.shutdown().await;
        self.pacer.join().map_err(|_| anyhow::anyhow!("the pacer ended in disorder"))?;
        Ok(self.samples)
    }
}
