//! A group: one member writes, all the others receive; what counts is when the last of them has it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use entrenous_client::Target as To;
use entrenous_protocol::{
    entry::{ConversationKind, Encryption},
    rest::CreateConversation,
};
use serde::Serialize;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    Target,
    measure::{Measure, Observe},
    one_to_one::{self, PREPARATION, Receipts, Run, Template},
    output::progress,
    pacer,
    people::{self, Person},
    report::Report,
    stamp::Stamps,
};

/// How many, how fast, how long.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub(crate) struct Parameters {
    /// Members of the group, the one who writes among them.
    #[arg(long, default_value_t = 100)]
    members: usize,
    /// Messages a second.
    #[arg(long, default_value_t = 10.0)]
    rate: f64,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 30)]
    duration: u64,
    /// Seconds before that.
    #[arg(long, default_value_t = 5)]
    warm_up: u64,
    /// Bytes of each ciphertext.
    #[arg(long, default_value_t = 256)]
    payload: usize,
    /// What every other member answers to each message. In groups of more than 256 members the server tells nobody.
    #[arg(long, value_enum, default_value_t, num_args = 0..=1, default_missing_value = "both")]
    receipts: Receipts,
}

/// Counts a message as received when the last member has it. One writer has one message due at a moment.
#[derive(Debug)]
pub(crate) struct LastOf {
    measure: Arc<Measure>,
    readers: usize,
    received: Mutex<HashMap<Instant, usize>>,
}

impl LastOf {
    /// Counts for so many readers.
    pub(crate) fn new(measure: &Arc<Measure>, readers: usize) -> Self {
        Self { measure: Arc::clone(measure), readers, received: Mutex::default() }
    }
}

impl Observe for LastOf {
    fn acked(&self, due: Instant) {
        self.measure.acked(due);
    }

    fn received(&self, due: Instant) {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        let count = received.entry(due).or_default();
        *count += 1;
        if *count == self.readers {
            received.remove(&due);
            self.measure.received(due);
        }
    }

    fn failed(&self, why: &str) {
        self.measure.failed(why);
    }
}

/// Runs the scenario.
pub(crate) async fn run(target: Target<'_>, parameters: &Parameters) -> anyhow::Result<Report> {
    anyhow::ensure!(parameters.members > 1 && parameters.rate > 0.0, "there must be something to send");
    let people = people::make(target.servers, parameters.members).await?;
    let template = Template::new(To::Conversation(begin(&people).await?), parameters.payload)?;
    let mut sockets = people::connect(&people, true).await?;
    let Some(writing) = sockets.pop() else { anyhow::bail!("nobody writes") };
    let stamps = Stamps::begin();
    let begin = Instant::now() + PREPARATION;
    let from = begin + Duration::from_secs(parameters.warm_up);
    let end = from + Duration::from_secs(parameters.duration);
    let measure = Arc::new(Measure::between(from, end)?);
    let last_of = LastOf::new(&measure, sockets.len());
    let run = Arc::new(Run { observer: Arc::new(last_of), stamps, end, receipts: parameters.receipts });
    progress(&format!("sending for {} s", parameters.warm_up + parameters.duration));
    let mut tasks = JoinSet::new();
    for socket in sockets {
        tasks.spawn(one_to_one::read(Arc::clone(&run), socket));
    }
    let (sender, receiver) = mpsc::unbounded_channel();
    tasks.spawn(one_to_one::write_open(run, writing, template, receiver));
    let pacer = pacer::start(vec![sender], parameters.rate, (begin, end))?;
    let servers = one_to_one::observe(target, (from, end)).await?;
    one_to_one::finish(&measure, end, true, tasks).await;
    let due = pacer.join().map_err(|_| anyhow::anyhow!("the pacer ended in disorder"))?;
    let receivers = parameters.members - 1;
    Ok(Report::messages(serde_json::to_value(parameters)?, Some(due), receivers, measure.result(), servers))
}

async fn begin(people: &[Person]) -> anyhow::Result<entrenous_model::ConversationId> {
    let Some((owner, others)) = people.split_last() else { anyhow::bail!("nobody") };
    let group = CreateConversation {
        kind: ConversationKind::Group,
        encryption: Encryption::E2ee,
        title: Some("load".to_owned()),
        description: None,
        metadata: None,
        members: others.iter().map(|person| person.user_id).collect(),
        history_visible: false,
        posting: None,
    };
    Ok(owner.api()?.create_conversation(&group).await?.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_received_when_the_last_member_has_it() {
        let now = Instant::now();
        let measure = Arc::new(Measure::between(now, now + Duration::from_secs(9)).unwrap());
        let last_of = LastOf::new(&measure, 3);
        for due in [now, now, now + Duration::from_micros(1), now] {
            assert_eq!(measure.result().received.count, 0);
            last_of.received(due);
        }
        assert_eq!(measure.result().received.count, 1);
    }
}
