//! What people do at once: they write to each other and into a group, read its history, and send receipts.

use std::sync::Arc;

use entrenous_client::{Target as To, api::HistoryPage};
use entrenous_model::ConversationId;
use serde::Serialize;

use crate::{
    Target, calls,
    course::{Course, Loop},
    fill,
    group::{self, LastOf},
    measure::{Measure, Observe},
    one_to_one::writers_to,
    people::{self, Person, Sync},
    report::Report,
    stamp::Stamps,
    traffic::{Receipts, Run, Template},
    window::{Span, Window},
};

/// Members of the group who read its history.
const READERS: usize = 10;

/// How much of what, how long.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub(crate) struct Parameters {
    /// Messages and reads a second, of all together.
    #[arg(long, default_value_t = 300.0)]
    rate: f64,
    /// The part of them that are messages into the group.
    #[arg(long, default_value_t = 0.02)]
    group_share: f64,
    /// The part of them that are reads of the group's history by REST.
    #[arg(long, default_value_t = 0.1)]
    history_share: f64,
    /// Pairs of people who write to each other.
    #[arg(long, default_value_t = 100)]
    pairs: usize,
    /// Members of the group.
    #[arg(long, default_value_t = 100)]
    members: usize,
    /// Messages in the group before it begins.
    #[arg(long, default_value_t = 1_000)]
    messages: usize,
    /// What receivers answer to each message.
    #[arg(long, value_enum, default_value = "both")]
    receipts: Receipts,
    /// How long.
    #[command(flatten)]
    #[serde(flatten)]
    span: Span,
    /// Bytes of each ciphertext.
    #[arg(long, default_value_t = 256)]
    payload: usize,
}

/// Runs the scenario.
pub(crate) async fn run(target: Target<'_>, parameters: &Parameters) -> anyhow::Result<Report> {
    let rates = parameters.rates()?;
    let people = people::make(target.servers, parameters.pairs * 2 + parameters.members).await?;
    let (pairs, members) = people.split_at(parameters.pairs * 2);
    let room = group::begin(members).await?;
    let Some(owner) = members.last() else { anyhow::bail!("nobody") };
    fill::conversation(owner, To::Conversation(room), (parameters.messages, parameters.payload)).await?;
    let directs = people::connect(pairs, Sync::Now).await?;
    let group = people::connect(members, Sync::Now).await?;

    let stamps = Stamps::begin();
    let window = Window::soon(&stamps, parameters.span);
    let run = |observer| Arc::new(Run { observer, stamps, window, receipts: parameters.receipts });
    let measure = |has_receivers| Measure::new(window, has_receivers).map(Arc::new);
    let (one_to_one, in_group, reads) = (measure(true)?, measure(true)?, measure(false)?);
    let mut course = Course::new(window);

    let direct_run = run(one_to_one.clone());
    let (mut writing, mut reading) = (directs, Vec::new());
    reading.extend(writing.drain(parameters.pairs..));
    course.read(&direct_run, reading);
    let readers = pairs.get(parameters.pairs..).unwrap_or_default();
    course.write(&direct_run, writers_to(writing, readers, parameters.payload)?, Loop::Open(rates.direct))?;

    let group_run = run(Arc::new(LastOf::new(&in_group, parameters.members - 1)));
    let mut group = group;
    let writer = group.pop().map(|socket| Ok((socket, Template::new(To::Conversation(room), parameters.payload)?)));
    course.read(&group_run, group);
    course.write(&group_run, writer.into_iter().collect::<anyhow::Result<_>>()?, Loop::Open(rates.group))?;

    read_history(&mut course, &reads, (members, room), rates.history)?;
    let servers = course.finish(target, &[&one_to_one, &in_group, &reads]).await?;
    Ok(Report::new(parameters, servers)?
        .with_messages("one-to-one", &one_to_one.result())
        .with_messages("group", &in_group.result())
        .with_answers("history by REST", &reads.result()))
}

fn read_history(
    course: &mut Course,
    measure: &Arc<Measure>,
    (members, room): (&[Person], ConversationId),
    rate: f64,
) -> anyhow::Result<()> {
    let observer: Arc<dyn Observe> = measure.clone();
    let readers: Vec<_> = members.iter().take(READERS).map(Person::api).collect::<Result<_, _>>()?;
    let ticks = course.pace(&observer, rate, readers.len())?;
    for (api, ticks) in readers.into_iter().zip(ticks) {
        let read = move |_| {
            let api = api.clone();
            async move { api.history(room, HistoryPage::default()).await.map(drop) }
        };
        course.spawn(calls::open(Arc::clone(&observer), ticks, read));
    }
    Ok(())
}

/// What happens, a second.
struct Rates {
    direct: f64,
    group: f64,
    history: f64,
}

impl Parameters {
    fn rates(&self) -> anyhow::Result<Rates> {
        anyhow::ensure!(self.pairs > 0 && self.members > 1 && self.rate > 0.0, "there must be something to send");
        let (group, history) = (self.rate * self.group_share, self.rate * self.history_share);
        let direct = self.rate - group - history;
        anyhow::ensure!(
            group > 0.0 && history > 0.0 && direct > 0.0,
            "each share must be above 0, and both together below 1"
        );
        Ok(Rates { direct, group, history })
    }
}
