//! What the delivery tracker answers.
#![expect(missing_docs, reason = "fields are named like those of docs/protocol.md")]

use entrenous_model::{ConversationId, DeviceId, Timestamp, UserId};
use serde::{Deserialize, Serialize};

use super::{Done, methods};
use crate::device_message::{DeviceMessage, NewDeviceMessage};

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
    /// Queues messages for devices, all or none, and tells the devices. That these exist and whose they are is not looked at.
    /// At most [`DEVICE_MESSAGES_MAX`](crate::device_message::DEVICE_MESSAGES_MAX). `id_conflict`, `not_found` (a removed
    /// device), `too_large` (a device whose queue is full).
    SendDeviceMessages = "send_device_messages": SendDeviceMessagesRequest => Done;
    /// Where the queues of devices stand, in the order of the request. At most [`QUEUES_MAX`].
    ReadDeviceQueues = "read_device_queues": ReadDeviceQueuesRequest => Vec<DeviceQueue>;
    /// What waits for one device, oldest first; one message at least, where one waits.
    ReadDeviceMessages = "read_device_messages": ReadDeviceMessagesRequest => DeviceMessages;
    /// Removes what a device has from its queue.
    AckDeviceMessages = "ack_device_messages": AckDeviceMessagesRequest => Done;
    /// A device is no more: removes what waits for it, and nothing is queued for it again.
    RemoveDeviceQueue = "remove_device_queue": RemoveDeviceQueueRequest => Done;
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

/// Devices in one request of [`ReadDeviceQueues`].
pub const QUEUES_MAX: usize = 1_000;
/// Messages that wait for one device, at most.
pub const QUEUE_MESSAGES_MAX: u32 = 1_000;
/// Bytes of content that wait for one device, at most.
pub const QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SendDeviceMessagesRequest {
    pub sender_id: UserId,
    pub sender_device_id: DeviceId,
    pub messages: Vec<NewDeviceMessage>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReadDeviceQueuesRequest {
    pub device_ids: Vec<DeviceId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeviceQueue {
    /// The last seq that was given; 0: none.
    pub last_seq: u64,
    pub has_waiting: bool,
    /// Some up to here expired before the device acknowledged them.
    #[serde(default)]
    pub expired_up_to: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReadDeviceMessagesRequest {
    pub device_id: DeviceId,
    pub after: u64,
    /// Bytes of content.
    pub bytes_max: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeviceMessages {
    pub messages: Vec<DeviceMessage>,
    /// The last seq that was given; where there is no more, everything up to here was looked at.
    pub last_seq: u64,
    pub has_more: bool,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AckDeviceMessagesRequest {
    pub device_id: DeviceId,
    /// Cut to the last seq that was given.
    pub up_to: u64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RemoveDeviceQueueRequest {
    pub device_id: DeviceId,
}
