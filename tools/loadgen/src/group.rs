//! A group: one member writes, all the others receive; what counts is when the last of them has it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use entrenous_client::Target as To;
use entrenous_model::{ConversationId, EntryId, UserId};
use entrenous_protocol::{entry::ConversationKind, rest::CreateConversation};
use serde::Serialize;

use crate::{
    Target,
    course::{Course, Pace},
    measure::{Measure, Observe},
    people::{self, Person, Sync},
    report::Report,
    stamp::Stamps,
    traffic::{Receipts, Run, Template},
    window::{Span, Window},
};

/// Messages a second.
const RATE_DEFAULT: f64 = 10.0;

/// How many, how fast, how long.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub(crate) struct Parameters {
    /// Members of the group, the one who writes among them.
    #[arg(long, default_value_t = 100)]
    members: usize,
    /// 10 a second where nothing is given.
    #[command(flatten)]
    #[serde(flatten)]
    pace: Pace,
    /// How long.
    #[command(flatten)]
    #[serde(flatten)]
    span: Span,
    /// Bytes of each ciphertext.
    #[arg(long, default_value_t = 256)]
    payload: usize,
    /// What every other member answers to each message. In groups of more than 256 members the server tells nobody.
    #[arg(long, value_enum, default_value_t, num_args = 0..=1, default_missing_value = "both")]
    receipts: Receipts,
}

/// Counts a message as received when the last member has it.
#[derive(Debug)]
pub(crate) struct LastOf {
    measure: Arc<Measure>,
    readers: usize,
    received: Mutex<HashMap<EntryId, usize>>,
}

impl LastOf {
    pub(crate) fn new(measure: &Arc<Measure>, readers: usize) -> Self {
        Self { measure: Arc::clone(measure), readers, received: Mutex::default() }
    }
}

impl Observe for LastOf {
    fn due(&self, due: Instant) {
        self.measure.due(due);
    }

    fn acked(&self, due: Instant) {
        self.measure.acked(due);
    }

    fn received(&self, due: Instant, id: EntryId) {
        self.measure.delivered();
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        let count = received.entry(id).or_default();
        *count += 1;
        if *count == self.readers {
            received.remove(&id);
            self.measure.complete(due);
        }
    }

    fn failed(&self, why: &str) {
        self.measure.failed(why);
    }
}

/// Runs the scenario.
pub(crate) async fn run(target: Target<'_>, parameters: &Parameters) -> anyhow::Result<Report> {
    anyhow::ensure!(parameters.members > 1, "there must be something to send");
    let pace = parameters.pace.or_rate(RATE_DEFAULT)?;
    let people = people::make(target.servers, parameters.members).await?;
    let template = Template::new(To::Conversation(begin(&people).await?), parameters.payload)?;
    let mut sockets = people::connect(&people, Sync::Now).await?;
    let Some(writing) = sockets.pop() else { anyhow::bail!("nobody writes") };
    let stamps = Stamps::begin();
    let window = Window::soon(&stamps, parameters.span);
    let measure = Arc::new(Measure::new(window, true)?);
    let observer = Arc::new(LastOf::new(&measure, sockets.len()));
    let run = Arc::new(Run { observer, stamps, window, receipts: parameters.receipts });
    let mut course = Course::new(window);
    course.read(&run, sockets);
    course.write(&run, vec![(writing, template)], pace)?;
    let servers = course.finish(target, &[&measure]).await?;
    let measured = measure.result();
    Ok(Report::messages(parameters, &measured, servers)?.with_cpu_per_delivery(&measured, parameters.members - 1))
}

/// A group of all, made by the last.
pub(crate) async fn begin(people: &[Person]) -> anyhow::Result<ConversationId> {
    let Some((owner, others)) = people.split_last() else { anyhow::bail!("nobody") };
    let group = of(others.iter().map(|person| person.user_id).collect());
    Ok(owner.api()?.create_conversation(&group).await?.id)
}

/// A group of the caller and others.
pub(crate) fn of(members: Vec<UserId>) -> CreateConversation {
    CreateConversation { title: Some("load".to_owned()), members, ..CreateConversation::of(ConversationKind::Group) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_received_when_the_last_member_has_it() {
        let now = Instant::now();
        let window = Window { begin: now, from: now, end: now + std::time::Duration::from_secs(9) };
        let measure = Arc::new(Measure::new(window, true).unwrap());
        let last_of = LastOf::new(&measure, 3);
        let complete = || measure.result().received.map(|received| received.count);
        for id in [7, 7, 8, 7].map(uuid::Uuid::from_u128) {
            assert_eq!(complete(), Some(0));
            last_of.received(now, id.into());
        }
        assert_eq!(complete(), Some(1));
    }
}
