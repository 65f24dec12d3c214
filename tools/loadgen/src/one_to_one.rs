//! Pairs of people: one writes, the other receives.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use entrenous_client::{
    ClosedError, OutgoingMessage, Socket, Target as To,
    frame::{self, Body, Head, HeadKind},
    outgoing,
};
use entrenous_model::EntryId;
use serde::Serialize;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    Target,
    measure::{Measure, Observe},
    output::progress,
    pacer, people,
    processes::{Snapshot, of_generator},
    report::{Report, Servers},
    stamp::Stamps,
};

/// How long answers are waited for after the last message was due.
const LAST_ANSWERS: Duration = Duration::from_secs(10);
/// Between the connections being open and the first message.
pub(crate) const PREPARATION: Duration = Duration::from_millis(500);

/// Messages a second.
const RATE_DEFAULT: f64 = 500.0;

/// How much, how fast, how long.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub(crate) struct Parameters {
    /// Pairs of people.
    #[arg(long, default_value_t = 100)]
    pairs: usize,
    /// Messages a second of all senders together; 500 where neither this nor `--in-flight` is given.
    #[arg(long)]
    rate: Option<f64>,
    /// Instead of a rate: each sender keeps so many under way.
    #[arg(long, conflicts_with = "rate")]
    in_flight: Option<usize>,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 30)]
    duration: u64,
    /// Seconds before that.
    #[arg(long, default_value_t = 5)]
    warm_up: u64,
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

/// What receivers answer to each message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Receipts {
    /// Nothing.
    #[default]
    None,
    /// A delivery receipt.
    Delivery,
    /// A delivery receipt and a read receipt.
    Both,
}

/// What all tasks of a run share.
pub(crate) struct Run {
    pub(crate) observer: Arc<dyn Observe>,
    pub(crate) stamps: Stamps,
    pub(crate) end: Instant,
    pub(crate) receipts: Receipts,
}

/// Runs the scenario.
pub(crate) async fn run(target: Target<'_>, parameters: &Parameters) -> anyhow::Result<Report> {
    let rate = parameters.rate.unwrap_or(RATE_DEFAULT);
    anyhow::ensure!(parameters.pairs > 0 && rate > 0.0, "there must be something to send");
    let people = people::make(target.servers, parameters.pairs * 2).await?;
    let (writers, readers) = people.split_at(parameters.pairs);
    let writing = people::connect(writers, true).await?;
    let reading = if parameters.no_receivers { Vec::new() } else { people::connect(readers, true).await? };
    let stamps = Stamps::begin();
    let begin = Instant::now() + PREPARATION;
    let from = begin + Duration::from_secs(parameters.warm_up);
    let end = from + Duration::from_secs(parameters.duration);
    let measure = Arc::new(Measure::between(from, end)?);
    let observer = Arc::clone(&measure);
    let run = Arc::new(Run { observer, stamps, end, receipts: parameters.receipts });
    progress(&format!("sending for {} s", parameters.warm_up + parameters.duration));
    let mut tasks = JoinSet::new();
    for socket in reading {
        tasks.spawn(read(Arc::clone(&run), socket));
    }
    let mut ticks = Vec::new();
    for (socket, to) in writing.into_iter().zip(readers) {
        let template = Template::new(To::User(to.user_id), parameters.payload)?;
        if let Some(in_flight) = parameters.in_flight {
            tasks.spawn(write_closed(Arc::clone(&run), socket, template, in_flight));
        } else {
            let (sender, receiver) = mpsc::unbounded_channel();
            ticks.push(sender);
            tasks.spawn(write_open(Arc::clone(&run), socket, template, receiver));
        }
    }
    let pacer = if ticks.is_empty() { None } else { Some(pacer::start(ticks, rate, (begin, end))?) };
    let servers = observe(target, (from, end)).await?;
    finish(&measure, end, !parameters.no_receivers, tasks).await;
    let due = match pacer {
        Some(pacer) => Some(pacer.join().map_err(|_| anyhow::anyhow!("the pacer ended in disorder"))?),
        None => None,
    };
    Ok(Report::messages(serde_json::to_value(parameters)?, due, 1, measure.result(), servers))
}

/// What the servers use while it is measured.
pub(crate) async fn observe(target: Target<'_>, (from, end): (Instant, Instant)) -> anyhow::Result<Servers> {
    tokio::time::sleep_until(from.into()).await;
    let (before, own_before) = (Snapshot::take(target.processes)?, of_generator());
    tokio::time::sleep_until(end.into()).await;
    let (after, own_after) = (Snapshot::take(target.processes)?, of_generator());
    Ok(Servers { used: after.since(&before), generator_cpu: own_after.saturating_sub(own_before) })
}

/// Waits for the last answers.
pub(crate) async fn finish(measure: &Measure, end: Instant, has_receivers: bool, mut tasks: JoinSet<()>) {
    let deadline = end + LAST_ANSWERS;
    while Instant::now() < deadline {
        let result = measure.result();
        let is_received = !has_receivers || result.received.count >= result.ack.count;
        tokio::time::sleep(Duration::from_millis(200)).await;
        if is_received && measure.result().ack.count == result.ack.count {
            break;
        }
    }
    tasks.shutdown().await;
}

/// A frame in which only the id changes.
#[derive(Debug)]
pub(crate) struct Template {
    before: String,
    after: String,
}

impl Template {
    pub(crate) fn new(to: To, payload: usize) -> anyhow::Result<Self> {
        let id = EntryId::from(uuid::Uuid::nil());
        let bytes: Vec<u8> = (0..payload).map(|_| rand::random()).collect();
        let text = OutgoingMessage::sealed(id, "load", &bytes).frame(to);
        // The id stands in the frame and in its payload; the frame's counts.
        let parts: Vec<_> = text.splitn(2, &id.to_string()).map(str::to_owned).collect();
        let [before, after] = <[String; 2]>::try_from(parts).map_err(|_| anyhow::anyhow!("no id")).context("frame")?;
        Ok(Self { before, after })
    }

    fn with(&self, id: EntryId) -> String {
        format!("{}{id}{}", self.before, self.after)
    }
}

/// Sends what is due, whether or not earlier messages were answered.
pub(crate) async fn write_open(
    run: Arc<Run>,
    socket: Socket,
    template: Template,
    mut ticks: mpsc::UnboundedReceiver<Instant>,
) {
    let mut writer = Writer { run, socket, template, number: 0 };
    let work = async {
        loop {
            tokio::select! {
                Some(due) = ticks.recv() => writer.send(due).await?,
                text = writer.socket.next() => {
                    writer.take(&text?);
                }
            }
        }
    };
    let result: Result<(), ClosedError> = work.await;
    writer.end(result);
}

async fn write_closed(run: Arc<Run>, socket: Socket, template: Template, in_flight: usize) {
    let mut writer = Writer { run, socket, template, number: 0 };
    let work = async {
        for _ in 0..in_flight {
            writer.send(Instant::now()).await?;
        }
        loop {
            let text = writer.socket.next().await?;
            if writer.take(&text) && Instant::now() < writer.run.end {
                writer.send(Instant::now()).await?;
            }
        }
    };
    let result: Result<(), ClosedError> = work.await;
    writer.end(result);
}

struct Writer {
    run: Arc<Run>,
    socket: Socket,
    template: Template,
    number: u64,
}

impl Writer {
    async fn send(&mut self, due: Instant) -> Result<(), ClosedError> {
        self.number += 1;
        let text = self.template.with(self.run.stamps.id(due, self.number));
        self.socket.send(text).await
    }

    /// Whether the frame answers a message.
    fn take(&self, text: &str) -> bool {
        match frame::head(text) {
            Ok(Head { kind: HeadKind::Ack, id: Some(id), .. }) => {
                if let Some(due) = self.run.stamps.due(id) {
                    self.run.observer.acked(due);
                }
                true
            }
            Ok(Head { kind: HeadKind::Error, .. }) => {
                self.run.observer.failed(&error_code(text));
                true
            }
            Ok(_) => false,
            Err(error) => {
                self.run.observer.failed(&error.to_string());
                false
            }
        }
    }

    fn end(&self, result: Result<(), ClosedError>) {
        if let Err(end) = result {
            self.run.observer.failed(&end.to_string());
        }
    }
}

fn error_code(text: &str) -> String {
    match frame::parse(text).map(|frame| frame.body) {
        Ok(Body::Error(refusal)) => refusal.to_string(),
        _ => "error".to_owned(),
    }
}

/// Receives.
pub(crate) async fn read(run: Arc<Run>, mut socket: Socket) {
    loop {
        let read = socket.next().await;
        let head = match &read {
            Ok(text) => frame::head(text),
            Err(end) => return run.observer.failed(&end.to_string()),
        };
        let Ok(Head { kind: HeadKind::Entry, id: Some(id), conversation_id, seq }) = head else { continue };
        if let Some(due) = run.stamps.due(id) {
            run.observer.received(due);
        }
        let (Some(conversation_id), Some(seq)) = (conversation_id, seq) else { continue };
        let delivered = || outgoing::delivery_receipt(None, conversation_id, seq);
        let receipts = match run.receipts {
            Receipts::None => Vec::new(),
            Receipts::Delivery => vec![delivered()],
            Receipts::Both => vec![delivered(), outgoing::read_receipt(None, conversation_id, seq)],
        };
        for receipt in receipts {
            if let Err(end) = socket.send(receipt).await {
                return run.observer.failed(&end.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_differs_in_its_id_only() {
        let template = Template::new(To::User(uuid::Uuid::from_u128(7).into()), 10).unwrap();
        let id = uuid::Uuid::from_u128(9).into();
        let head = frame::head(&template.with(id)).unwrap();
        assert_eq!(head.id, Some(id));
    }
}
