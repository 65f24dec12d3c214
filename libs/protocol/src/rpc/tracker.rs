//! What the delivery tracker answers.
#![expect(missing_docs, reason = "fields are named like those of docs/protocol.md")]

use entrenous_model::{ConversationId, DeviceId, UserId};
use serde::{Deserialize, Serialize};

use super::{Done, methods};

methods! { "delivery-tracker" {
    /// Moves cursors forward; never back, whatever the order of the requests. At most [`CURSORS_MAX`].
    AdvanceCursors = "advance_cursors": AdvanceCursorsRequest => Done;
    /// Where a device stands in each conversation that it acknowledged something of.
    DeviceCursors = "device_cursors": DeviceCursorsRequest => Vec<DeviceCursor>;
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
    pub delivered_seq: u64,
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
