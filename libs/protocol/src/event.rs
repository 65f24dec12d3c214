//! Events on JetStream: CloudEvents in the JSON batch format. Never content, never ciphertext.

use entrenous_model::{ConversationId, EntryId, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::entry::{EntryKind, MessageType};

/// One CloudEvent. Source: CloudEvents 1.0, JSON batch format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[expect(missing_docs, reason = "the names are CloudEvents'")]
pub struct CloudEvent<T> {
    pub specversion: String,
    pub id: String,
    pub source: String,
    pub r#type: String,
    pub time: Timestamp,
    pub subject: String,
    pub datacontenttype: String,
    pub data: T,
}

impl<T> CloudEvent<T> {
    /// An event of version 1.0 with JSON data.
    pub fn new(id: String, source: &str, r#type: &str, subject: String, time: Timestamp, data: T) -> Self {
        Self {
            specversion: "1.0".to_owned(),
            id,
            source: source.to_owned(),
            r#type: r#type.to_owned(),
            time,
            subject,
            datacontenttype: "application/json".to_owned(),
            data,
        }
    }
}

/// Type of the event that says that an entry was appended to a conversation's log.
pub const ENTRY_APPENDED: &str = "entrenous.entry.appended.v1";

/// Data of [`ENTRY_APPENDED`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[expect(missing_docs, reason = "named like the entry's fields")]
pub struct EntryAppended {
    pub conversation_id: ConversationId,
    pub seq: u64,
    pub id: EntryId,
    pub kind: EntryKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_type: Option<MessageType>,
    pub sender_id: UserId,
    pub countable_no: u64,
    /// The feed row that carried it.
    pub batch_id: Uuid,
}
