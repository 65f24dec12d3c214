//! The history: append-only, one line of JSON for each event.

use std::{
    collections::BTreeMap,
    io::{BufRead, Write},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use entrenous_model::{ConversationId, DeviceId, EntryId, Timestamp, UserId};
use entrenous_protocol::{EntryKind, entry::Role, scheduled::ScheduledState};
use serde::{Deserialize, Serialize};

/// Names an operation: an attempt to do something.
pub type OperationNumber = u64;
/// Names a connection of this history, whichever the server called it.
pub type ConnectionNumber = u64;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Microseconds since the history began.
    pub at_us: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// A conversation began with these members at its seq 1 (a direct one: before it).
    Began {
        /// Which.
        conversation: ConversationId,
        /// Its first members.
        members: Vec<UserId>,
    },
    /// Somebody wants to say something: from here on they wait for its `ack`.
    Said {
        /// Where.
        conversation: ConversationId,
        /// The message's id.
        id: EntryId,
    },
    /// A client is about to send a message, for the first time or again.
    Sending {
        /// This attempt.
        operation: OperationNumber,
        /// On which connection; none by REST.
        connection: Option<ConnectionNumber>,
        /// Who.
        user: UserId,
        /// Where.
        conversation: ConversationId,
        /// The message's id.
        id: EntryId,
    },
    /// An attempt was acknowledged.
    Acknowledged {
        /// Which.
        operation: OperationNumber,
        /// Its place in the log.
        seq: u64,
    },
    /// An attempt was refused: it has had no effect.
    Refused {
        /// Which.
        operation: OperationNumber,
        /// The code.
        code: String,
    },
    /// Nobody knows whether an attempt had its effect.
    Indeterminate {
        /// Which.
        operation: OperationNumber,
        /// Why nobody knows.
        reason: String,
        /// Whether it was an error of the server's that left it open, and not silence.
        is_answer: bool,
    },
    /// A client is about to ask that a conversation, or somebody's place in it, be changed: for the first time or again.
    Changing {
        /// This attempt.
        operation: OperationNumber,
        /// What people call it.
        action: String,
        /// Who asks.
        user: UserId,
        /// Where.
        conversation: ConversationId,
        /// The id of the frame; none by REST.
        id: Option<EntryId>,
        /// What.
        change: Change,
    },
    /// A client is about to ask for something with a message that is sent later: for the first time or again.
    Planning {
        /// This attempt.
        operation: OperationNumber,
        /// Whose message.
        user: UserId,
        /// Where.
        conversation: ConversationId,
        /// The message's id.
        id: EntryId,
        /// What.
        plan: Plan,
    },
    /// A client is about to read some of a log.
    Peeking {
        /// This attempt.
        operation: OperationNumber,
        /// Who.
        user: UserId,
        /// Which.
        conversation: ConversationId,
    },
    /// A client has read some of a log.
    Peeked {
        /// Which attempt.
        operation: OperationNumber,
        /// What came.
        seqs: Vec<u64>,
    },
    /// What [`What::Changing`] or [`What::Planning`] asked for was answered: it is so.
    Done {
        /// Which attempt.
        operation: OperationNumber,
        /// The place of the entry that it is, where the answer tells one.
        seq: Option<u64>,
    },
    /// A connection came about.
    Connected {
        /// Which.
        connection: ConnectionNumber,
        /// Whose.
        user: UserId,
        /// On which device.
        device: DeviceId,
    },
    /// A connection ended.
    Disconnected {
        /// Which.
        connection: ConnectionNumber,
        /// The close code, where there was one.
        code: Option<u16>,
    },
    /// A client is about to ask for a `sync`.
    SyncBegan {
        /// On which connection.
        connection: ConnectionNumber,
        /// The cursors it gives.
        cursors: BTreeMap<ConversationId, u64>,
        /// Whether conversations without a cursor begin at the first readable entry.
        from_start: bool,
    },
    /// `sync_complete` came, in this place among the frames of the connection.
    SyncEnded {
        /// On which connection.
        connection: ConnectionNumber,
        /// What it lists.
        conversations: Vec<Synced>,
    },
    /// An entry came, in this place among the frames of the connection.
    Saw {
        /// On which connection.
        connection: ConnectionNumber,
        /// In which conversation.
        conversation: ConversationId,
        /// Its place.
        seq: u64,
        /// Its id.
        id: EntryId,
    },
    /// An `ack` of a stored entry came, in this place among the frames of the connection.
    SawAck {
        /// On which connection.
        connection: ConnectionNumber,
        /// In which conversation.
        conversation: ConversationId,
        /// Its place.
        seq: u64,
        /// The entry's id.
        id: EntryId,
    },
    /// `conversation_joined` came.
    Joined {
        /// On which connection.
        connection: ConnectionNumber,
        /// Which.
        conversation: ConversationId,
        /// The first seq that may be read.
        seq: u64,
    },
    /// `conversation_left` came.
    Left {
        /// On which connection.
        connection: ConnectionNumber,
        /// Which.
        conversation: ConversationId,
    },
    /// The client has waited long enough for everything to come, and the connection still lasts.
    Settled {
        /// Which.
        connection: ConnectionNumber,
    },
    /// A member read a whole log, from the first entry that it was given to the head.
    ReadLog {
        /// Who.
        user: UserId,
        /// Which.
        conversation: ConversationId,
        /// All entries that came.
        entries: Vec<LogEntry>,
    },
    /// A client is about to say that everything up to a seq, which the log has reached, is read.
    Reading {
        /// Who.
        user: UserId,
        /// Where.
        conversation: ConversationId,
        /// Up to where.
        seq: u64,
    },
    /// The server has answered by REST that it is noted.
    HasRead {
        /// Who.
        user: UserId,
        /// Where.
        conversation: ConversationId,
        /// Up to where.
        seq: u64,
    },
    /// What a member was told of what they have not read, when everything had come and nobody did anything.
    ReadUnread {
        /// Who.
        user: UserId,
        /// Which.
        conversation: ConversationId,
        /// The last seq that counts as read.
        read_seq: u64,
        /// How many messages of others are not.
        unread_count: u64,
        /// Which.
        seqs: Vec<u64>,
    },
    /// What a group's owner was told of it, when everything had come and nobody did anything.
    ReadRoom {
        /// Which.
        conversation: ConversationId,
        /// Its members, and what they are.
        members: BTreeMap<UserId, Role>,
        /// Who is kept out.
        banned: Vec<UserId>,
        /// Its title.
        title: Option<String>,
    },
    /// What somebody was told of their scheduled messages, when everything had come and nobody did anything.
    ReadPlanned {
        /// Who.
        user: UserId,
        /// All of them.
        messages: Vec<Planned>,
    },
    /// Something else was tried.
    Tried {
        /// What.
        action: String,
        /// Who.
        user: UserId,
        /// Where; none where that is not known.
        conversation: Option<ConversationId>,
        /// `done`, the code of a refusal, or `unknown`.
        outcome: String,
    },
    /// The server did what the protocol does not allow.
    Unexpected {
        /// What, in a sentence.
        summary: String,
    },
    /// Something was done to the servers.
    Fault {
        /// What.
        name: String,
    },
}

/// A change of a conversation or of somebody's place in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// They become a member, if they are none.
    Come(UserId),
    /// They are no member any more.
    Go(UserId),
    /// A member has this role.
    Role(UserId, Role),
    /// They are no member any more, and cannot come back.
    Ban(UserId),
    /// They may come back.
    Unban(UserId),
    /// The title is this.
    Title(String),
}

/// What is wanted of a message that is sent later. The version stands in the message, so that a log tells which it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// It is sent then.
    Send {
        /// When.
        send_at: Timestamp,
        /// Which.
        version: u64,
    },
    /// It is sent at another time, or another version of it.
    Change {
        /// When; none where that stays.
        send_at: Option<Timestamp>,
        /// Which; none where that stays.
        version: Option<u64>,
    },
    /// It is not sent.
    Cancel,
}

/// A message that waits for its time, or that could not be sent, as its author was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the protocol; docs/protocol.md, section 4, explains them")]
pub struct Planned {
    pub conversation: ConversationId,
    pub id: EntryId,
    pub send_at: Timestamp,
    pub state: ScheduledState,
    /// Which version of it.
    pub version: Option<u64>,
}

/// One conversation in `sync_complete`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the wire's; docs/protocol.md, section 3, explains them")]
pub struct Synced {
    pub conversation: ConversationId,
    pub starts_at: u64,
    pub last_seq: u64,
    pub sent_up_to: u64,
    pub has_more: bool,
}

/// An entry as a log showed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Its place.
    pub seq: u64,
    /// Its id.
    pub id: EntryId,
    /// Who.
    pub sender: UserId,
    /// What it is.
    pub kind: EntryKind,
    /// When it was stored.
    pub sent_at: Timestamp,
    /// Of a message that was to be sent later, and was not deleted: which version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// What it changes about the members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<MemberChange>,
    /// Whether it moved its sender's read cursor: a message, not `control`, deleted since or not.
    #[serde(default)]
    pub is_message: bool,
    /// Whether it counts as unread for others: such a message that is not deleted.
    #[serde(default)]
    pub is_countable: bool,
}

/// Somebody is a member from an entry on, or up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberChange {
    /// Who.
    pub user: UserId,
    /// What they are afterwards; none where they are no member.
    pub role: Option<Role>,
}

impl MemberChange {
    /// Whether they are a member afterwards.
    pub fn is_member(self) -> bool {
        self.role.is_some()
    }
}

/// A history that is being written.
#[derive(Debug)]
pub struct Recorder {
    began: Instant,
    events: Mutex<Vec<Event>>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { began: Instant::now(), events: Mutex::default() }
    }
}

impl Recorder {
    /// Adds what has just happened. The order of these calls is the order of the history.
    pub fn record(&self, what: What) {
        let mut events = self.events();
        let at_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        events.push(Event { at_us, what });
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.events().len()
    }

    /// Whether nothing has happened.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What has happened up to now.
    pub fn history(&self) -> History {
        History { events: self.events().clone() }
    }

    fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        // A thread that panicked while it pushed has left a whole list behind.
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A history that can be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// All events, in the order in which they happened.
    pub events: Vec<Event>,
}

/// A history that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file or pipe does not work.
    #[error("cannot read or write the history")]
    Io(#[from] std::io::Error),
    /// A line is no event.
    #[error("line {line} of the history is no event")]
    Line {
        /// Counted from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
}

impl History {
    /// Writes one line of JSON for each event.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn write(&self, mut to: impl Write) -> Result<(), HistoryError> {
        for (index, event) in self.events.iter().enumerate() {
            let line = serde_json::to_string(event).map_err(|source| HistoryError::Line { line: index + 1, source })?;
            writeln!(to, "{line}")?;
        }
        Ok(to.flush()?)
    }

    /// Reads what [`History::write`] wrote.
    ///
    /// # Errors
    /// When the reader fails or a line is no event.
    pub fn read(from: impl BufRead) -> Result<Self, HistoryError> {
        let mut events = Vec::new();
        for (index, line) in from.lines().enumerate() {
            let event =
                serde_json::from_str(&line?).map_err(|source| HistoryError::Line { line: index + 1, source })?;
            events.push(event);
        }
        Ok(Self { events })
    }
}
