//! What people do at once: they write to each other and into a group, read its history, react and edit, and send receipts.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use entrenous_client::{Target as To, api::HistoryPage, outgoing};
use entrenous_model::{ConversationId, EntryId, IdGenerator};
use entrenous_protocol::{Act, act::Reaction, limits::HISTORY_PAGE_MAX};
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
    /// The part of them that are acts on the group's messages by REST: a reaction and an edit in turns.
    #[arg(long, default_value_t = 0.05)]
    acts_share: f64,
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
    let (one_to_one, in_group) = (measure(true)?, measure(true)?);
    let (reads, acts) = (measure(false)?, measure(false)?);
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
    act(&mut course, &acts, (members, owner, room), rates.acts).await?;
    let servers = course.finish(target, &[&one_to_one, &in_group, &reads, &acts]).await?;
    Ok(Report::new(parameters, servers)?
        .with_messages("one-to-one", &one_to_one.result())
        .with_messages("group", &in_group.result())
        .with_answers("history by REST", &reads.result())
        .with_answers("acts by REST", &acts.result()))
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

/// Members react to what its owner wrote, each time otherwise, and the owner edits it.
async fn act(
    course: &mut Course,
    measure: &Arc<Measure>,
    (members, owner, room): (&[Person], &Person, ConversationId),
    rate: f64,
) -> anyhow::Result<()> {
    let observer: Arc<dyn Observe> = measure.clone();
    let page =
        owner.api()?.history(room, HistoryPage { limit: Some(HISTORY_PAGE_MAX), ..HistoryPage::default() }).await?;
    let messages: Arc<[EntryId]> = page.items.iter().map(|message| message.id).collect();
    let number = Arc::new(AtomicUsize::new(0));
    let reacting: Vec<_> = members.iter().take(READERS).map(Person::api).collect::<Result<_, _>>()?;
    let ticks = course.pace(&observer, rate, reacting.len())?;
    for (api, ticks) in reacting.into_iter().zip(ticks) {
        let (messages, number, owner) = (Arc::clone(&messages), Arc::clone(&number), owner.api()?);
        let act = move |_| {
            let number = number.fetch_add(1, Ordering::Relaxed);
            let message_id = messages.get(number / 2 % messages.len().max(1)).copied();
            let (api, owner) = (api.clone(), owner.clone());
            async move {
                let Some(message_id) = message_id else { return Ok(()) };
                let (api, act) = if number.is_multiple_of(2) {
                    let reaction = number.to_string();
                    (api, Act::React(Reaction { message_id, reaction }))
                } else {
                    (owner, outgoing::edit_to_sealed(message_id, "load", &[7; 256]))
                };
                api.act(room, IdGenerator.next(), &act).await
            }
        };
        course.spawn(calls::open(Arc::clone(&observer), ticks, act));
    }
    Ok(())
}

/// What happens, a second.
struct Rates {
    direct: f64,
    group: f64,
    history: f64,
    acts: f64,
}

impl Parameters {
    fn rates(&self) -> anyhow::Result<Rates> {
        anyhow::ensure!(self.pairs > 0 && self.members > 1 && self.rate > 0.0, "there must be something to send");
        let of = |share: f64| self.rate * share;
        let (group, history, acts) = (of(self.group_share), of(self.history_share), of(self.acts_share));
        let direct = self.rate - group - history - acts;
        anyhow::ensure!(
            group > 0.0 && history > 0.0 && acts > 0.0 && direct > 0.0,
            "each share must be above 0, and all together below 1"
        );
        Ok(Rates { direct, group, history, acts })
    }
}
