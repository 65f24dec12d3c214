//! The conversation itself: show what comes, send what is typed.

use std::{collections::HashMap, time::Duration};

use anyhow::Context;
use entrenous_client::{
    Client, OutgoingMessage, Target,
    api::HistoryPage,
    client::{Begin, End, Event, MemoryCursors, Options, Receipts, Status},
    frame::{Body, Notification, Stored},
};
use entrenous_model::{EntryId, IdGenerator};
use entrenous_protocol::{Entry, EntryKind};
use tokio::{sync::mpsc, time::Instant};

use super::{
    account::{Account, LoginTokens},
    input,
    room::Room,
    screen::{self, Shown},
};
use crate::output::say;

/// Lines whose fate is not known; then no more are read from the input. Below what a client takes without waiting.
const LINES_MAX: usize = 500;
/// How long what was typed may take to be kept after the input has ended.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(60);

pub(super) struct Talk {
    account: Account,
    client: Client,
    room: Room,
    history: u32,
    /// Lines on their way.
    lines: HashMap<EntryId, String>,
    /// Messages up to this seq were shown as history.
    shown: u64,
    is_terminal: bool,
    is_connected: bool,
    input_ended: Option<Instant>,
}

enum Happened {
    Event(Option<Event>),
    Line(Option<String>),
    TimeIsUp,
}

impl Talk {
    pub(super) fn start(account: Account, tokens: LoginTokens, room: Room, history: u32) -> Self {
        // Other conversations come too and are not shown: only what is shown is on this device, and is read.
        let options = Options { begin: Begin::Now, receipts: Receipts::Manual, ..Options::default() };
        let client = Client::start(account.to_login(), tokens, MemoryCursors, options);
        Self {
            account,
            client,
            room,
            history,
            lines: HashMap::new(),
            shown: 0,
            is_terminal: input::is_terminal(),
            is_connected: false,
            input_ended: None,
        }
    }

    /// Until the person leaves or the server says not to come back.
    pub(super) async fn run(mut self, mut lines: mpsc::Receiver<String>) -> anyhow::Result<()> {
        say(&self.room.banner());
        self.wait_until_live().await?;
        self.shown = self.show_history(self.history).await?;
        while !self.is_over() {
            let happened = self.next(&mut lines).await;
            self.account.use_token(&self.client.handle().access_token());
            match happened {
                Happened::Event(event) => self.take(event).await?,
                Happened::Line(line) => {
                    if self.take_line(line).await? {
                        break;
                    }
                }
                Happened::TimeIsUp => break,
            }
        }
        self.client.close().await;
        let left = self.lines.len();
        anyhow::ensure!(left == 0, "{left} messages are not known to be kept");
        Ok(())
    }

    /// From here on everything new comes as an event; what was there before is history.
    async fn wait_until_live(&mut self) -> anyhow::Result<()> {
        loop {
            match self.client.next().await {
                Some(Event::Status(Status::Live)) => break,
                event => self.take(event).await?,
            }
        }
        self.account.use_token(&self.client.handle().access_token());
        Ok(())
    }

    async fn next(&mut self, lines: &mut mpsc::Receiver<String>) -> Happened {
        let end = self.input_ended.map(|ended| ended + LAST_WORDS_LIMIT);
        let takes_lines = self.input_ended.is_none() && self.lines.len() < LINES_MAX;
        tokio::select! {
            event = self.client.next() => Happened::Event(event),
            line = lines.recv(), if takes_lines => Happened::Line(line),
            () = tokio::time::sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => Happened::TimeIsUp,
        }
    }

    async fn take(&mut self, event: Option<Event>) -> anyhow::Result<()> {
        match event {
            Some(Event::Entry(entry)) if entry.conversation_id == self.room.id() => self.take_entry(&entry).await,
            Some(Event::Acknowledged { id, stored, in_place }) => self.take_ack(id, stored, in_place).await,
            Some(Event::Refused { id, refusal }) => {
                if let Some(text) = self.lines.remove(&id) {
                    say(&format!("* not sent ({refusal}): {}", screen::printable(&text)));
                }
            }
            Some(Event::Status(status)) => self.take_status(status)?,
            Some(Event::Rewound { .. }) => {
                say("* the server was restored from a backup: what was written last may be gone");
                self.shown = 0;
            }
            Some(Event::Frame(body)) => {
                if let Body::Notification(note) = *body {
                    self.take_notification(&note)?;
                }
            }
            // It does not encrypt; device messages are left for a client that does.
            Some(Event::Entry(_) | Event::DeviceMessage(_) | Event::Violation(_)) => {}
            None => anyhow::bail!(End::Closed),
        }
        Ok(())
    }

    async fn take_entry(&mut self, entry: &Entry) {
        let is_in_history = entry.kind == EntryKind::Message && entry.seq <= self.shown;
        if !is_in_history {
            self.show(entry).await;
        }
        self.client.handle().acknowledge_read(entry.conversation_id, entry.seq);
    }

    async fn take_ack(&mut self, id: EntryId, stored: Stored, in_place: bool) {
        let Some(text) = self.lines.remove(&id) else { return };
        // Otherwise its entry shows it.
        if in_place {
            let name = self.room.name(&self.account, self.account.user_id()).await;
            say(&screen::said(stored.sent_at, &name, &screen::printable(&text)));
        }
    }

    fn take_status(&mut self, status: Status) -> anyhow::Result<()> {
        match status {
            Status::Connected(_) => self.is_connected = true,
            Status::Reconnecting { .. } if std::mem::take(&mut self.is_connected) => {
                say("* disconnected; coming back by itself");
            }
            Status::Ended(End::NotWanted(end)) => anyhow::bail!("the server ended the connection: {}", end.reason),
            Status::Ended(end) => return Err(end).context("no connection"),
            Status::Reconnecting { .. } | Status::Live | Status::Degraded | Status::Restored => {}
        }
        Ok(())
    }

    fn take_notification(&self, note: &Notification) -> anyhow::Result<()> {
        let is_here = note.conversation_id == Some(self.room.id());
        anyhow::ensure!(!(is_here && note.event == "conversation_left"), "you are no longer a member");
        Ok(())
    }

    async fn show(&mut self, entry: &Entry) {
        let name = self.room.name(&self.account, entry.sender_id).await;
        match screen::shown(entry) {
            Shown::Said(text) => say(&screen::said(entry.sent_at, &name, &text)),
            Shown::Note(text) => say(&screen::note(entry.sent_at, &format!("{name} {text}"))),
            Shown::Member(change) => {
                let who = self.room.name(&self.account, change.user_id).await;
                let by = self.room.name(&self.account, change.by).await;
                say(&screen::note(entry.sent_at, &screen::member_text(change.change, &who, &by)));
            }
            Shown::Nothing => {}
        }
    }

    /// Gives the seq of the newest message shown.
    async fn show_history(&mut self, limit: u32) -> anyhow::Result<u64> {
        let page = HistoryPage { limit: Some(limit), ..HistoryPage::default() };
        let messages = self.account.api().history(self.room.id(), page).await?.items;
        for message in messages.iter().rev() {
            self.show(message).await;
        }
        let newest = messages.first().map_or(0, |message| message.seq);
        if newest > 0 {
            self.client.handle().acknowledge_read(self.room.id(), newest);
        }
        Ok(newest)
    }

    /// True when the person leaves.
    async fn take_line(&mut self, line: Option<String>) -> anyhow::Result<bool> {
        let Some(line) = line else {
            self.input_ended = Some(Instant::now());
            return Ok(false);
        };
        if self.is_terminal {
            // The line comes again, with time and name, when the server has kept it.
            say("\x1b[1A\x1b[2K\x1b[1A");
        }
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            ["/quit" | "/exit"] => return Ok(true),
            ["/who"] => self.show_members().await,
            ["/history"] => self.show_again(self.history).await,
            ["/history", count] => self.show_again(count.parse().unwrap_or(self.history).clamp(1, 100)).await,
            [command, ..] if command.starts_with('/') && !command.starts_with("//") => {
                say("* /who  /history [n]  /quit; a line that begins with // is sent with one /");
            }
            _ => self.send(line.strip_prefix('/').unwrap_or(&line)).await,
        }
        Ok(false)
    }

    async fn send(&mut self, text: &str) {
        let message = OutgoingMessage::text(IdGenerator.next(), text);
        match self.client.handle().queue(Target::Conversation(self.room.id()), &message).await {
            // What becomes of it comes as an event.
            Ok(_) => drop(self.lines.insert(message.id, text.to_owned())),
            Err(error) => say(&format!("* not sent ({error}): {}", screen::printable(text))),
        }
    }

    async fn show_again(&mut self, limit: u32) {
        if let Err(error) = self.show_history(limit).await {
            say(&format!("* no history now: {error:#}"));
        }
    }

    async fn show_members(&mut self) {
        match self.account.api().members(self.room.id(), None).await {
            Ok(members) => {
                for member in members.items {
                    let name = self.room.name(&self.account, member.user_id).await;
                    say(&format!("* {name} ({})", member.role));
                }
            }
            Err(error) => say(&format!("* cannot list the members now: {error}")),
        }
    }

    /// Whether the input has ended and nothing is left to do.
    fn is_over(&self) -> bool {
        self.input_ended.is_some() && self.lines.is_empty()
    }
}
