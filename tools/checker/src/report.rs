//! What a check found.

use std::fmt;

use entrenous_model::ConversationId;
use serde::Serialize;

use crate::Event;

/// Events of a violation that are printed.
const EVENTS_SHOWN_MAX: usize = 20;
/// Violations that are printed.
const VIOLATIONS_SHOWN_MAX: usize = 20;

/// A property that a history must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Every acknowledged message is in the log exactly once, at the acknowledged seq.
    Acknowledged,
    /// What was refused, and never tried in vain with an unknown outcome, is in no log.
    RefusedNotStored,
    /// Logs are 1, 2, 3, … and the same for all; what was seen is in the log.
    OneLog,
    /// A connection's messages into one conversation keep the order in which it sent them.
    SenderOrder,
    /// What was sent after another message had been acknowledged stands behind it.
    RealTimeOrder,
    /// No id stands twice in a conversation.
    NoIdTwice,
    /// Nobody sees an entry from outside their membership, the removal itself aside.
    Visibility,
    /// A live conversation comes without holes or repeats, and whole, from where its `sync` began.
    LiveStream,
    /// Read cursors and unread counts are what the logs and the receipts make of them.
    Unread,
    /// Members and their roles are what the logs make of them, and nobody wrote what their role did not allow.
    Members,
    /// A change that was answered holds until something else may have been changed.
    Changes,
    /// Scheduled messages are sent once, not before their time and as they were last changed, or told to have failed;
    /// those that were deleted are not sent.
    Planned,
    /// No answer is one that the protocol does not allow.
    Answers,
}

impl Check {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Acknowledged,
        Self::RefusedNotStored,
        Self::OneLog,
        Self::SenderOrder,
        Self::RealTimeOrder,
        Self::NoIdTwice,
        Self::Visibility,
        Self::LiveStream,
        Self::Unread,
        Self::Members,
        Self::Changes,
        Self::Planned,
        Self::Answers,
    ];
}

/// A property that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which.
    pub check: Check,
    /// Where.
    pub conversation: Option<ConversationId>,
    /// What is wrong, in a sentence.
    pub summary: String,
    /// The shortest piece of history that shows it.
    pub events: Vec<Event>,
}

/// How much was checked: a history in which nothing happened proves nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Attempts to send.
    pub sends: usize,
    /// Messages, however often they were tried.
    pub messages: usize,
    /// Attempts that were acknowledged.
    pub acknowledged: usize,
    /// Attempts that were refused.
    pub refused: usize,
    /// Attempts of which nobody knows.
    pub indeterminate: usize,
    /// Messages tried more than once.
    pub repeated: usize,
    /// Connections.
    pub connections: usize,
    /// Connections that lasted to the end and were waited for.
    pub settled: usize,
    /// Entries seen on connections.
    pub seen: usize,
    /// Logs read.
    pub logs_read: usize,
    /// Entries of all conversations.
    pub entries: usize,
    /// Unread counts read.
    pub unread_read: usize,
    /// Changes of members after conversations began.
    pub member_changes: usize,
    /// Changes that were answered.
    pub changed: usize,
    /// Scheduled messages, however often they were tried.
    pub planned: usize,
    /// Those of them that logs have.
    pub planned_sent: usize,
    /// Things done to the servers.
    pub faults: usize,
}

/// What was checked, and what does not hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How much was checked.
    pub counts: Counts,
    /// What does not hold.
    pub violations: Vec<Violation>,
}

impl Report {
    /// Whether everything holds.
    pub fn is_ok(&self) -> bool {
        self.violations.is_empty()
    }

    /// Whether everything holds, what live streams show aside.
    pub fn is_ok_without_streams(&self) -> bool {
        self.violations.iter().all(|violation| violation.check == Check::LiveStream)
    }

    /// What does not hold of one property.
    pub fn of(&self, check: Check) -> impl Iterator<Item = &Violation> {
        self.violations.iter().filter(move |violation| violation.check == check)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        writeln!(
            f,
            "{} messages in {} sends ({} acknowledged, {} refused, {} indeterminate; {} messages repeated)",
            counts.messages, counts.sends, counts.acknowledged, counts.refused, counts.indeterminate, counts.repeated
        )?;
        writeln!(
            f,
            "{} entries in {} logs read, {} seen on {} connections ({} settled), {} unread counts, {} member changes, {} faults",
            counts.entries,
            counts.logs_read,
            counts.seen,
            counts.connections,
            counts.settled,
            counts.unread_read,
            counts.member_changes,
            counts.faults
        )?;
        writeln!(
            f,
            "{} changes answered, {} messages scheduled, {} of them in logs",
            counts.changed, counts.planned, counts.planned_sent
        )?;
        writeln!(f, "{} violations", self.violations.len())?;
        for violation in self.violations.iter().take(VIOLATIONS_SHOWN_MAX) {
            write!(f, "{violation}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "- {:?}: {}", self.check, self.summary)?;
        for event in self.events.iter().take(EVENTS_SHOWN_MAX) {
            match serde_json::to_string(event) {
                Ok(line) => writeln!(f, "    {line}")?,
                Err(_) => writeln!(f, "    {event:?}")?,
            }
        }
        Ok(())
    }
}
