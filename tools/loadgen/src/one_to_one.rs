//! Pairs of people: one writes, the other receives.

use std::sync::Arc;

use entrenous_client::{Socket, Target as To};
use serde::Serialize;

use crate::{
    Target,
    course::{Course, Pace},
    measure::Measure,
    people::{self, Person, Sync},
    report::Report,
    stamp::Stamps,
    traffic::{Receipts, Run, Template},
    window::{Span, Window},
};

/// Messages a second.
const RATE_DEFAULT: f64 = 500.0;

/// How much, how fast, how long.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub(crate) struct Parameters {
    /// Pairs of people.
    #[arg(long, default_value_t = 100)]
    pairs: usize,
    /// 500 a second where nothing is given.
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
    /// What receivers answer to each message.
    #[arg(long, value_enum, default_value_t, num_args = 0..=1, default_missing_value = "delivery")]
    receipts: Receipts,
    /// Receivers stay away.
    #[arg(long, conflicts_with = "receipts")]
    no_receivers: bool,
}

/// Runs the scenario.
pub(crate) async fn run(target: Target<'_>, parameters: &Parameters) -> anyhow::Result<Report> {
    anyhow::ensure!(parameters.pairs > 0, "there must be something to send");
    let pace = parameters.pace.or_rate(RATE_DEFAULT)?;
    let people = people::make(target.servers, parameters.pairs * 2).await?;
    let (writers, readers) = people.split_at(parameters.pairs);
    let writing = writers_to(people::connect(writers, Sync::Now).await?, readers, parameters.payload)?;
    let reading = if parameters.no_receivers { Vec::new() } else { people::connect(readers, Sync::Now).await? };
    let stamps = Stamps::begin();
    let window = Window::soon(&stamps, parameters.span);
    let measure = Arc::new(Measure::new(window, !parameters.no_receivers)?);
    let run = Arc::new(Run { observer: measure.clone(), stamps, window, receipts: parameters.receipts });
    let mut course = Course::new(window);
    course.read(&run, reading);
    course.write(&run, writing, pace)?;
    let servers = course.finish(target, &[&measure]).await?;
    Report::messages(parameters, &measure.result(), servers)
}

/// Each connection writes to one of the readers.
pub(crate) fn writers_to(
    sockets: Vec<Socket>,
    readers: &[Person],
    payload: usize,
) -> anyhow::Result<Vec<(Socket, Template)>> {
    let templates = readers.iter().map(|to| Template::new(To::User(to.user_id), payload));
    sockets.into_iter().zip(templates).map(|(socket, template)| Ok((socket, template?))).collect()
}
