//! Messages that are sent later.

use std::fmt;

use entrenous_model::{ConversationId, DeviceId, EntryId, MediaId, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{
    Failure, NewMessage,
    entry::{MessageType, stored_names},
    limits::Limits,
    message::{ContentFields, MessageFields},
    rest::present,
};

/// How far ahead a message may be scheduled.
pub const SCHEDULE_AHEAD_DAYS: i64 = 366;

/// A message that waits for its time, as its author sees it.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[expect(missing_docs, reason = "the names are the wire's; docs/protocol.md, section 4, explains them")]
pub struct ScheduledMessage {
    pub id: EntryId,
    pub conversation_id: ConversationId,
    pub sender_id: UserId,
    pub sender_device_id: DeviceId,
    pub message_type: MessageType,
    #[schema(value_type = Object)]
    pub content: Box<RawValue>,
    pub reply_to: Option<EntryId>,
    pub thread_id: Option<EntryId>,
    pub attachments: Vec<MediaId>,
    pub mentions: Vec<UserId>,
    #[schema(value_type = Object)]
    pub metadata: Box<RawValue>,
    pub signature: Option<String>,
    pub send_at: Timestamp,
    pub state: ScheduledState,
    pub created_at: Timestamp,
}

/// Prints the id, never content.
impl fmt::Debug for ScheduledMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScheduledMessage").field("id", &self.id).field("state", &self.state).finish_non_exhaustive()
    }
}

/// Where a scheduled message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ScheduledState {
    /// It is sent at its time.
    Waiting,
    /// At its time the conversation's epoch was a later one than its content's: it needs new content.
    Stale,
    /// At its time its author could not send it.
    Failed,
}

stored_names! {
    ScheduledState { Waiting = "waiting", Stale = "stale", Failed = "failed" }
}

/// What became of a scheduled message at its time: the `event` of a `notification`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ScheduledEvent {
    /// It was sent.
    #[serde(rename = "scheduled_sent")]
    Sent,
    /// Its epoch was over.
    #[serde(rename = "schedule_stale")]
    Stale,
    /// It could not be sent.
    #[serde(rename = "schedule_failed")]
    Failed,
}

/// `PATCH /api/v1/scheduled/{message_id}`. A field that is absent stays; `null` clears what a message may be without. Where
/// something changes that a signature covers, the signature goes unless a new one comes.
#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct SchedulePatch {
    /// When it is sent; at once where that has passed.
    pub send_at: Option<Timestamp>,
    /// Ciphertext in `e2ee`, text in `none`.
    pub content: Option<ContentFields>,
    /// What it is.
    pub message_type: Option<MessageType>,
    /// The message that this one answers.
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<EntryId>)]
    pub reply_to: Option<Option<EntryId>>,
    /// The message whose thread this one stands in.
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<EntryId>)]
    pub thread_id: Option<Option<EntryId>>,
    /// Up to 10 media ids.
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<Vec<MediaId>>)]
    pub attachments: Option<Option<Vec<MediaId>>>,
    /// Users named.
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<Vec<UserId>>)]
    pub mentions: Option<Option<Vec<UserId>>>,
    /// Object of up to 4 KiB.
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Option<Value>>,
    /// Ed25519 by the device's signing key, base64.
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    pub signature: Option<Option<String>>,
}

/// A change of a scheduled message that passed every check that needs no state.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ScheduleChange {
    /// Another time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_at: Option<Timestamp>,
    /// Which fields change.
    pub fields: Vec<ChangedField>,
    /// Their new values; what else stands here means nothing.
    pub values: NewMessage,
}

/// A field of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "named like the fields of NewMessage")]
pub enum ChangedField {
    Content,
    MessageType,
    ReplyTo,
    ThreadId,
    Attachments,
    Mentions,
    Metadata,
    Signature,
}

impl SchedulePatch {
    /// Checks everything that needs no state.
    ///
    /// # Errors
    /// As [`MessageFields::check`].
    pub fn check(self, id: EntryId, limits: &Limits) -> Result<ScheduleChange, Failure> {
        let given = [
            (ChangedField::Content, self.content.is_some()),
            (ChangedField::MessageType, self.message_type.is_some()),
            (ChangedField::ReplyTo, self.reply_to.is_some()),
            (ChangedField::ThreadId, self.thread_id.is_some()),
            (ChangedField::Attachments, self.attachments.is_some()),
            (ChangedField::Mentions, self.mentions.is_some()),
            (ChangedField::Metadata, self.metadata.is_some()),
            (ChangedField::Signature, self.signature.is_some()),
        ];
        let mut fields: Vec<_> = given.into_iter().filter_map(|(field, is_given)| is_given.then_some(field)).collect();
        let is_signed = |field: &ChangedField| *field != ChangedField::Metadata;
        if fields.iter().any(is_signed) && !fields.contains(&ChangedField::Signature) {
            fields.push(ChangedField::Signature);
        }
        let values = MessageFields {
            id: None,
            message_type: self.message_type.unwrap_or_default(),
            content: self.content.unwrap_or_else(some_content),
            reply_to: self.reply_to.flatten(),
            thread_id: self.thread_id.flatten(),
            attachments: self.attachments.flatten(),
            mentions: self.mentions.flatten(),
            metadata: self.metadata.flatten(),
            signature: self.signature.flatten(),
            mls: None,
            send_at: None,
        };
        Ok(ScheduleChange { send_at: self.send_at, fields, values: values.check(id, limits)? })
    }
}

/// What passes every check, in the place of what does not change.
fn some_content() -> ContentFields {
    ContentFields {
        scheme: None,
        ciphertext: None,
        nonce: None,
        session_id: None,
        epoch: None,
        text: Some("-".to_owned()),
        format: None,
    }
}

impl ScheduleChange {
    /// The message with the change.
    #[must_use]
    pub fn apply(&self, mut message: NewMessage) -> NewMessage {
        let values = self.values.clone();
        for field in &self.fields {
            match field {
                ChangedField::Content => {
                    message.content.clone_from(&values.content);
                    message.is_sealed = values.is_sealed;
                }
                ChangedField::MessageType => message.message_type = values.message_type,
                ChangedField::ReplyTo => message.reply_to = values.reply_to,
                ChangedField::ThreadId => message.thread_id = values.thread_id,
                ChangedField::Attachments => message.attachments.clone_from(&values.attachments),
                ChangedField::Mentions => message.mentions.clone_from(&values.mentions),
                ChangedField::Metadata => message.metadata.clone_from(&values.metadata),
                ChangedField::Signature => message.signature.clone_from(&values.signature),
            }
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    fn id() -> EntryId {
        "01900000-0000-7000-8000-000000000001".parse().unwrap()
    }

    fn message() -> NewMessage {
        let signature = "A".repeat(86) + "==";
        let fields = serde_json::json!({
            "content": {"text": "a"}, "mentions": [id()], "metadata": {"a": 1}, "signature": signature,
        });
        serde_json::from_value::<MessageFields>(fields).unwrap().check(id(), &Limits::default()).unwrap()
    }

    fn changed(patch: &str) -> Result<NewMessage, Failure> {
        let patch: SchedulePatch = serde_json::from_str(patch).unwrap();
        let change = patch.check(id(), &Limits::default())?;
        // As it travels between services.
        let change: ScheduleChange = serde_json::from_str(&serde_json::to_string(&change).unwrap()).unwrap();
        Ok(change.apply(message()))
    }

    #[test]
    fn what_is_absent_stays_and_null_clears() {
        let same = changed(r#"{"send_at":"2030-01-01T00:00:00Z"}"#).unwrap();
        assert_eq!(serde_json::to_value(&same).unwrap(), serde_json::to_value(message()).unwrap());
        let other = changed(r#"{"content":{"text":"b"},"mentions":null}"#).unwrap();
        assert_eq!((other.content.get(), other.mentions.len()), (r#"{"text":"b"}"#, 0));
        assert_eq!(other.metadata.get(), r#"{"a":1}"#);
        assert!(!other.is_sealed);
        assert_eq!(changed(r#"{"metadata":null}"#).unwrap().metadata.get(), "{}");
    }

    #[test]
    fn a_signature_goes_with_what_it_covers() {
        assert!(changed(r#"{"metadata":{}}"#).unwrap().signature.is_some());
        assert!(changed(r#"{"content":{"text":"b"}}"#).unwrap().signature.is_none());
        let signed = format!(r#"{{"content":{{"text":"b"}},"signature":"{}=="}}"#, "B".repeat(85) + "A");
        assert!(changed(&signed).unwrap().signature.is_some());
    }

    #[test]
    fn values_are_checked_as_those_of_a_message() {
        for bad in [r#"{"content":{}}"#, r#"{"signature":"x"}"#, r#"{"metadata":[]}"#] {
            assert_eq!(changed(bad).unwrap_err().code, Code::Invalid, "{bad}");
        }
    }
}
