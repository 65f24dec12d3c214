//! Messages sent by REST, each into a direct conversation of its sender's.

use std::sync::Arc;

use entrenous_client::{Api, ApiError, OutgoingMessage};
use entrenous_model::{ConversationId, IdGenerator, UserId};
use entrenous_protocol::{entry::ConversationKind, rest::CreateConversation};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use crate::{
    Target, calls,
    course::{Course, Loop, Pace},
    measure::{Measure, Observe},
    people::{self, CALLS_AT_ONCE, Person},
    report::Report,
    stamp::Stamps,
    window::{Span, Window},
};

/// Messages a second.
const RATE_DEFAULT: f64 = 100.0;

/// How much, how fast, how long.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub(crate) struct Parameters {
    /// Pairs of people: one writes, the other is away.
    #[arg(long, default_value_t = 100)]
    pairs: usize,
    /// 100 a second where nothing is given.
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
}

/// Somebody who sends by REST.
#[derive(Debug, Clone)]
struct Sender {
    api: Api,
    conversation: ConversationId,
    bytes: Arc<[u8]>,
}

/// Runs the scenario.
pub(crate) async fn run(target: Target<'_>, parameters: &Parameters) -> anyhow::Result<Report> {
    anyhow::ensure!(parameters.pairs > 0, "there must be something to send");
    let pace = parameters.pace.or_rate(RATE_DEFAULT)?;
    let people = people::make(target.servers, parameters.pairs * 2).await?;
    let (writers, others) = people.split_at(parameters.pairs);
    let bytes: Arc<[u8]> = (0..parameters.payload).map(|_| rand::random()).collect();
    let making = writers.iter().zip(others).map(|(writer, other)| Sender::new(writer, other.user_id, &bytes));
    let senders: Vec<Sender> = stream::iter(making).buffered(CALLS_AT_ONCE).try_collect().await?;
    let window = Window::soon(&Stamps::begin(), parameters.span);
    let measure = Arc::new(Measure::new(window, false)?);
    let mut course = Course::new(window);
    start(&mut course, &measure, senders, pace)?;
    let servers = course.finish(target, &[&measure]).await?;
    Report::messages(parameters, &measure.result(), servers)
}

fn start(course: &mut Course, measure: &Arc<Measure>, senders: Vec<Sender>, pace: Loop) -> anyhow::Result<()> {
    let observer: Arc<dyn Observe> = measure.clone();
    match pace {
        Loop::Closed(in_flight) => {
            for sender in senders.iter().flat_map(|sender| std::iter::repeat_n(sender.clone(), in_flight)) {
                let (observer, end) = (Arc::clone(&observer), course.window().end);
                course.spawn(calls::closed(observer, end, move |_| sender.clone().send()));
            }
        }
        Loop::Open(rate) => {
            let ticks = course.pace(&observer, rate, senders.len())?;
            for (sender, ticks) in senders.into_iter().zip(ticks) {
                course.spawn(calls::open(Arc::clone(&observer), ticks, move |_| sender.clone().send()));
            }
        }
    }
    Ok(())
}

impl Sender {
    async fn new(writer: &Person, other: UserId, bytes: &Arc<[u8]>) -> anyhow::Result<Self> {
        let api = writer.api()?;
        let direct = CreateConversation { members: vec![other], ..CreateConversation::of(ConversationKind::Direct) };
        let conversation = api.create_conversation(&direct).await?.id;
        Ok(Self { api, conversation, bytes: Arc::clone(bytes) })
    }

    async fn send(self) -> Result<(), ApiError> {
        let message = OutgoingMessage::sealed(IdGenerator.next(), "load", &self.bytes);
        self.api.send_message(self.conversation, &message).await.map(drop)
    }
}
