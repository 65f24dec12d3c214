//! What the delivery tracker answers.
#![expect(missing_docs, reason = "fields are named like those of docs/protocol.md")]

use entrenous_model::{ConversationId, DeviceId, Timestamp, UserId};
use serde::{Deserialize, Serialize};

use super::{Done, methods};

methods! { "delivery-tracker" {
    /// Moves cursors forward; never back, whatever the order of the requests; and tells the authors of what was delivered
    /// or read, and the user's own devices. At most [`CURSORS_MAX`].
    AdvanceCursors = "advance_cursors": AdvanceCursorsRequest => Done;
    /// Where a device stands in each conversation that it acknowledged something of.
    DeviceCursors = "device_cursors": DeviceCursorsRequest => Vec<DeviceCursor>;
    /// What a user has said to have read, in the order of the request. At most [`CURSORS_MAX`] conversations.
    ReadCursors = "read_cursors": ReadCursorsRequest => Vec<u64>;
    /// When one entry was delivered to people and read by them, in the order of the request. At most [`CURSORS_MAX`] people.
    EntryReceipts = "entry_receipts": EntryReceiptsRequest => Vec<EntryReceipt>;
}}

/// Cursors in one request of [`AdvanceCursors`].
pub const CURSORS_MAX: usize = 10_000;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AdvanceCursorsRequest {
    pub cursors: Vec<CursorAdvance>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CursorAdvance {
    pub user_id: UserId,
    pub device_id: DeviceId,
    pub conversation_id: ConversationId,
    /// Everything up to here is on the device; 0: nothing is said of that.
    pub delivered_seq: u64,
    /// Everything up to here was read, on some device; 0: nothing is said of that.
    #[serde(default)]
    pub read_seq: u64,
    /// The user's own message with this seq was stored: they have read what was before it. Their devices know from the
    /// message itself, and are not told again. 0: nothing is said of that.
    #[serde(default)]
    pub sent_seq: u64,
}

impl CursorAdvance {
    /// What the user has read, by saying so or by sending.
    pub fn known_read_seq(&self) -> u64 {
        self.read_seq.max(self.sent_seq)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReadCursorsRequest {
    pub user_id: UserId,
    pub conversation_ids: Vec<ConversationId>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EntryReceiptsRequest {
    pub conversation_id: ConversationId,
    pub seq: u64,
    pub user_ids: Vec<UserId>,
}

/// What became of an entry with one person. Where it was delivered and no time is known, no times are kept (a conversation
/// of many members).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EntryReceipt {
    pub is_delivered: bool,
    pub delivered_at: Option<Timestamp>,
    pub is_read: bool,
    pub read_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeviceCursorsRequest {
    pub device_id: DeviceId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeviceCursor {
    pub conversation_id: ConversationId,
    pub delivered_seq: u64,
}
