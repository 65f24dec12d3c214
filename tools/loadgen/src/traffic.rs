//! Messages over WebSockets: who writes them, and who receives them.

use std::{sync::Arc, time::Instant};

use anyhow::Context;
use entrenous_client::{
    ClosedError, OutgoingMessage, Socket, Target as To,
    frame::{self, Body, Head, HeadKind},
    outgoing,
};
use entrenous_model::EntryId;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::{measure::Observe, stamp::Stamps, window::Window};

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
    pub(crate) window: Window,
    pub(crate) receipts: Receipts,
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

    pub(crate) fn with(&self, id: EntryId) -> String {
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

/// Keeps so many messages under way.
pub(crate) async fn write_closed(run: Arc<Run>, socket: Socket, template: Template, in_flight: usize) {
    let mut writer = Writer { run, socket, template, number: 0 };
    let work = async {
        for _ in 0..in_flight {
            writer.send_now().await?;
        }
        loop {
            let text = writer.socket.next().await?;
            if writer.take(&text) && Instant::now() < writer.run.window.end {
                writer.send_now().await?;
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

    async fn send_now(&mut self) -> Result<(), ClosedError> {
        // As the answer's id will tell it.
        let due = self.run.stamps.whole_micros(Instant::now());
        self.run.observer.due(due);
        self.send(due).await
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

/// What an `error` frame says.
pub(crate) fn error_code(text: &str) -> String {
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
            run.observer.received(due, id);
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
