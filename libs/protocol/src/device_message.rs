//! Device messages: ciphertexts for one device each.

use std::{collections::HashSet, fmt};

use entrenous_model::{DeviceId, EntryId, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};

use crate::{
    Failure, Limits,
    message::{canonical_json, too_large},
};

/// Messages in one frame.
pub const DEVICE_MESSAGES_MAX: usize = 100;

/// One message on its way to a device.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[expect(missing_docs, reason = "the names are the wire's")]
pub struct NewDeviceMessage {
    /// Unique per target device.
    pub id: EntryId,
    pub user_id: UserId,
    pub device_id: DeviceId,
    /// Equal values have equal texts.
    pub content: Box<RawValue>,
}

/// One message as its device gets it.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[expect(missing_docs, reason = "the names are the wire's; docs/protocol.md, section 3, explains them")]
pub struct DeviceMessage {
    pub seq: u64,
    pub id: EntryId,
    pub sender_id: UserId,
    pub sender_device_id: DeviceId,
    pub content: Box<RawValue>,
    pub sent_at: Timestamp,
}

/// Prints sizes, never content.
impl fmt::Debug for NewDeviceMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewDeviceMessage")
            .field("id", &self.id)
            .field("device_id", &self.device_id)
            .field("content_bytes", &self.content.get().len())
            .finish_non_exhaustive()
    }
}

/// Prints sizes, never content.
impl fmt::Debug for DeviceMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceMessage")
            .field("seq", &self.seq)
            .field("id", &self.id)
            .field("content_bytes", &self.content.get().len())
            .finish_non_exhaustive()
    }
}

/// Payload of a client's `device_message` that has been checked.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the names are the wire's")]
pub struct DeviceMessageBatch {
    pub messages: Vec<NewDeviceMessage>,
    pub complete_for: Option<UserId>,
}

impl DeviceMessageBatch {
    /// Bytes of content.
    pub fn content_bytes(&self) -> usize {
        self.messages.iter().map(|message| message.content.get().len()).sum()
    }
}

/// Payload of a client's `device_message`.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeviceMessageFields {
    /// Between 1 and 100, at most one with the same id for the same device.
    pub messages: Vec<TargetedFields>,
    /// Refused where it misses a device of this user.
    #[serde(default)]
    pub complete_for: Option<UserId>,
}

/// One message of a client's `device_message`.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[expect(missing_docs, reason = "the names are the wire's")]
pub struct TargetedFields {
    pub id: EntryId,
    pub user_id: UserId,
    pub device_id: DeviceId,
    pub content: Map<String, Value>,
}

impl DeviceMessageFields {
    /// Checks what needs no look at anything else.
    ///
    /// # Errors
    /// `invalid_request`, `too_large`.
    pub fn check(self, limits: &Limits) -> Result<DeviceMessageBatch, Failure> {
        if !(1..=DEVICE_MESSAGES_MAX).contains(&self.messages.len()) {
            return Err(Failure::invalid("messages", format!("must be between 1 and {DEVICE_MESSAGES_MAX}")));
        }
        let mut named = HashSet::new();
        let mut messages = Vec::with_capacity(self.messages.len());
        for (index, TargetedFields { id, user_id, device_id, content }) in self.messages.into_iter().enumerate() {
            if !named.insert((device_id, id)) {
                return Err(Failure::invalid(&format!("messages[{index}].id"), "stands for this device before"));
            }
            let content = canonical_json(&Value::Object(content));
            if content.get().len() > limits.message_content_bytes {
                return Err(too_large("message_content_bytes", limits.message_content_bytes));
            }
            messages.push(NewDeviceMessage { id, user_id, device_id, content });
        }
        Ok(DeviceMessageBatch { messages, complete_for: self.complete_for })
    }
}
