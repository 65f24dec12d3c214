//! The conversation itself: connect, show, send, come back.

use std::{collections::HashSet, time::Duration};

use entrenous_client::{
    Backoff, ClosedError, ConnectError, Connection, Credential, Handle, Refusal, ServerFrame, SocketOptions, SyncFrom,
    SyncStart, Target, Verdict,
    api::HistoryPage,
    frame::{Body, Notification, Stored},
};
use entrenous_model::{EntryId, IdGenerator};
use entrenous_protocol::Entry;
use tokio::{sync::mpsc, time::Instant};

use super::{
    account::Account,
    input,
    outbox::Outbox,
    room::Room,
    screen::{self, Shown},
};
use crate::output::say;

/// How long a send that the server could not take waits for its repeat, where the server does not say.
const REPEAT_AFTER: Duration = Duration::from_secs(1);
/// How long what was typed may take to be kept after the input has ended.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(60);

pub(super) struct Talk {
    account: Account,
    room: Room,
    history: u32,
    outbox: Outbox,
    /// Everything up to this seq has been shown.
    cursor: u64,
    /// Own messages shown before their place came.
    shown_early: HashSet<EntryId>,
    backoff: Backoff,
    is_terminal: bool,
    input_ended: Option<Instant>,
    repeat_at: Option<Instant>,
}

/// Why a connection's work is over.
enum End {
    Quit,
    Closed(ClosedError),
}

enum Happened {
    Frame(Option<ServerFrame>),
    Line(Option<String>),
    Due,
}

impl Talk {
    pub(super) fn new(account: Account, room: Room, history: u32) -> Self {
        Self {
            account,
            room,
            history,
            outbox: Outbox::default(),
            cursor: 0,
            shown_early: HashSet::new(),
            backoff: Backoff::default(),
            is_terminal: input::is_terminal(),
            input_ended: None,
            repeat_at: None,
        }
    }

    /// Until the person leaves or the server says not to come back.
    pub(super) async fn run(mut self, mut lines: mpsc::Receiver<String>) -> anyhow::Result<()> {
        say(&self.room.banner());
        self.cursor = self.room.conversation.last_seq;
        self.show_history(self.history).await?;
        loop {
            let verdict = match self.connect().await {
                Ok(connection) => match self.stay(connection, &mut lines).await? {
                    End::Quit => return self.last_words(),
                    End::Closed(end) => Self::judge(&end)?,
                },
                Err(ConnectError::Closed(end)) => Self::judge(&end)?,
                Err(error @ ConnectError::Address { .. }) => return Err(error.into()),
                Err(_) => Verdict::ComeBack,
            };
            if verdict == Verdict::RenewToken && self.account.renew().await.is_err() {
                say("* cannot renew the login yet");
            }
            if self.wait(&mut lines).await? {
                return self.last_words();
            }
        }
    }

    async fn connect(&self) -> Result<Connection, ConnectError> {
        let credential = Credential::Subprotocol(self.account.token().to_owned());
        Connection::connect(self.account.api().base(), &credential, SocketOptions::default()).await
    }

    fn judge(end: &ClosedError) -> anyhow::Result<Verdict> {
        match Verdict::of(end.code) {
            Verdict::StayAway => anyhow::bail!("the server ended the connection: {}", end.reason),
            verdict => {
                say("* disconnected; coming back by itself");
                Ok(verdict)
            }
        }
    }

    /// Waits before the next attempt; true when the person leaves meanwhile.
    async fn wait(&mut self, lines: &mut mpsc::Receiver<String>) -> anyhow::Result<bool> {
        let until = Instant::now() + self.backoff.next_delay();
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return Ok(self.is_over()),
                line = lines.recv(), if self.takes_lines() => {
                    if self.take_line(line).await? {
                        return Ok(true);
                    }
                }
            }
        }
    }

    async fn stay(&mut self, mut connection: Connection, lines: &mut mpsc::Receiver<String>) -> anyhow::Result<End> {
        if let Err(end) = self.begin(&mut connection).await? {
            return Ok(End::Closed(end));
        }
        self.backoff.reset();
        self.outbox.repeat();
        self.repeat_at = None;
        loop {
            if self.is_over() {
                connection.close().await;
                return Ok(End::Quit);
            }
            self.send(connection.handle()).await;
            match self.next(&mut connection, lines).await {
                Happened::Frame(Some(frame)) => self.take_frame(connection.handle(), frame).await?,
                Happened::Frame(None) => return Ok(End::Closed(end_of(&connection))),
                Happened::Line(line) => {
                    if self.take_line(line).await? {
                        connection.close().await;
                        return Ok(End::Quit);
                    }
                }
                Happened::Due => self.repeat_at = None,
            }
        }
    }

    async fn next(&self, connection: &mut Connection, lines: &mut mpsc::Receiver<String>) -> Happened {
        let last = self.input_ended.map(|ended| ended + LAST_WORDS_LIMIT);
        let due = self.repeat_at.into_iter().chain(last).min();
        tokio::select! {
            frame = connection.next() => Happened::Frame(frame),
            line = lines.recv(), if self.takes_lines() => Happened::Line(line),
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Happened::Due,
        }
    }

    fn takes_lines(&self) -> bool {
        self.input_ended.is_none() && !self.outbox.is_full()
    }

    /// Syncs until the room is live, showing what comes.
    async fn begin(&mut self, connection: &mut Connection) -> anyhow::Result<Result<(), ClosedError>> {
        loop {
            let start =
                SyncStart { cursors: [(self.room.id(), self.cursor)].into(), from: Some(SyncFrom::Now), limit: None };
            let handle = connection.handle().clone();
            let id = IdGenerator.next();
            if handle.tell(entrenous_client::outgoing::sync(id, &start)).await.is_err() {
                return Ok(Err(end_of(connection)));
            }
            let complete = loop {
                let Some(frame) = connection.next().await else { return Ok(Err(end_of(connection))) };
                match frame.body {
                    Body::SyncComplete(complete) => break complete,
                    Body::Error(refusal) if frame.id == Some(id) => anyhow::bail!("the server refuses: {refusal}"),
                    _ => self.take_frame(&handle, frame).await?,
                }
            };
            let room = complete.conversations.iter().find(|synced| synced.conversation_id == self.room.id());
            if !room.is_some_and(|synced| synced.has_more) {
                return Ok(Ok(()));
            }
        }
    }

    async fn send(&mut self, handle: &Handle) {
        if self.repeat_at.is_some() {
            return;
        }
        let target = Target::Conversation(self.room.id());
        if let Some(text) = self.outbox.begin().map(|message| message.frame(target)) {
            // A connection that has ended says so itself; what is under way is then repeated.
            drop(handle.tell(text).await);
        }
    }

    async fn take_frame(&mut self, handle: &Handle, frame: ServerFrame) -> anyhow::Result<()> {
        match frame.body {
            Body::Entry(entry) if entry.conversation_id == self.room.id() => self.take_entry(handle, &entry).await,
            Body::Ack(Some(stored)) => self.take_ack(frame.id, stored).await,
            Body::Error(refusal) => self.take_refusal(frame.id, &refusal),
            Body::Notification(note) => self.take_notification(&note)?,
            Body::TokenExpiring { .. } => self.renew(handle).await,
            _ => {}
        }
        Ok(())
    }

    async fn take_entry(&mut self, handle: &Handle, entry: &Entry) {
        if entry.seq <= self.cursor {
            return;
        }
        self.cursor = entry.seq;
        self.outbox.finish(entry.id);
        if !self.shown_early.remove(&entry.id) {
            self.show(entry).await;
        }
        drop(handle.acknowledge_delivery(entry.conversation_id, entry.seq).await);
    }

    async fn take_ack(&mut self, id: Option<EntryId>, stored: Stored) {
        let Some((id, line)) = id.and_then(|id| Some((id, self.outbox.finish(id)?))) else { return };
        if stored.seq <= self.cursor {
            return;
        }
        if stored.seq == self.cursor + 1 {
            self.cursor = stored.seq;
        } else {
            // The ack of a repeat: its entry still comes in its place.
            self.shown_early.insert(id);
        }
        let name = self.room.name(&self.account, self.account.user_id()).await;
        say(&screen::said(stored.sent_at, &name, &screen::printable(&line.text)));
    }

    fn take_refusal(&mut self, id: Option<EntryId>, refusal: &Refusal) {
        if refusal.is_outcome_unknown() || refusal.retry_after.is_some() {
            self.repeat_at = Some(Instant::now() + refusal.retry_after.unwrap_or(REPEAT_AFTER));
            self.outbox.repeat();
        } else if let Some(line) = id.and_then(|id| self.outbox.finish(id)) {
            say(&format!("* not sent ({refusal}): {}", screen::printable(&line.text)));
        } else {
            say(&format!("* the server says: {refusal}"));
        }
    }

    fn take_notification(&self, note: &Notification) -> anyhow::Result<()> {
        let is_here = note.conversation_id == Some(self.room.id());
        anyhow::ensure!(!(is_here && note.event == "conversation_left"), "you are no longer a member");
        Ok(())
    }

    async fn renew(&mut self, handle: &Handle) {
        if self.account.renew().await.is_ok() {
            // The driver answers later; the answer is only of interest where it is a refusal, and that closes.
            let token = self.account.token().to_owned();
            drop(handle.tell(entrenous_client::outgoing::authenticate(Some(IdGenerator.next()), &token)).await);
        }
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

    async fn show_history(&mut self, limit: u32) -> anyhow::Result<()> {
        let page = HistoryPage { limit: Some(limit), ..HistoryPage::default() };
        let messages = self.account.api().history(self.room.id(), page).await?.items;
        for message in messages.iter().rev() {
            self.show(message).await;
        }
        self.cursor = self.cursor.max(messages.first().map_or(0, |message| message.seq));
        Ok(())
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
            _ => {
                let text = line.strip_prefix('/').unwrap_or(&line).to_owned();
                self.outbox.add(IdGenerator.next(), text);
            }
        }
        Ok(false)
    }

    async fn show_again(&mut self, limit: u32) {
        let cursor = self.cursor;
        if let Err(error) = self.show_history(limit).await {
            say(&format!("* no history now: {error:#}"));
        }
        // What history shows ahead of the stream must still be shown in its place.
        self.cursor = cursor;
    }

    async fn show_members(&mut self) {
        match self.account.api().members(self.room.id()).await {
            Ok(members) => {
                for member in members.items {
                    let name = self.room.name(&self.account, member.user_id).await;
                    say(&format!("* {name} ({})", member.role));
                }
            }
            Err(error) => say(&format!("* cannot list the members now: {error}")),
        }
    }

    /// Whether the input has ended and nothing is left to do, or it took too long.
    fn is_over(&self) -> bool {
        self.input_ended.is_some_and(|ended| self.outbox.len() == 0 || ended.elapsed() >= LAST_WORDS_LIMIT)
    }

    fn last_words(&self) -> anyhow::Result<()> {
        let left = self.outbox.len();
        anyhow::ensure!(left == 0, "{left} messages are not known to be kept");
        Ok(())
    }
}

fn end_of(connection: &Connection) -> ClosedError {
    connection.end().cloned().unwrap_or_else(|| ClosedError { code: None, reason: String::new() })
}
