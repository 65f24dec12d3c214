//! What people do with messages that exist: edit, delete, react, pin. Checked, and in the form in which the store takes it.

use std::fmt;

use entrenous_model::{ConversationId, EntryId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{
    Code, Failure,
    limits::{Limits, REACTION_BYTES_MAX},
    message::{self, ContentFields},
};

/// One act. All but [`Act::Delete`] for oneself are entries of the log; a reaction in a channel is none.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// New content for one's own message.
    Edit(NewEdit),
    /// Takes a message back, for everyone or for oneself.
    Delete {
        /// Which.
        message_id: EntryId,
        /// For whom.
        scope: DeleteScope,
    },
    /// Reacts.
    React(Reaction),
    /// Takes a reaction back.
    Unreact(Reaction),
    /// Pins a message.
    Pin {
        /// Which.
        message_id: EntryId,
    },
    /// Takes the pin away.
    Unpin {
        /// Which.
        message_id: EntryId,
    },
}

impl Act {
    /// The message concerned.
    pub const fn message_id(&self) -> EntryId {
        match self {
            Self::Edit(NewEdit { message_id, .. })
            | Self::Delete { message_id, .. }
            | Self::React(Reaction { message_id, .. })
            | Self::Unreact(Reaction { message_id, .. })
            | Self::Pin { message_id }
            | Self::Unpin { message_id } => *message_id,
        }
    }

    /// Bytes of what the client wrote.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Edit(edit) => edit.content.get().len() + edit.metadata.as_ref().map_or(0, |text| text.get().len()),
            _ => 0,
        }
    }
}

/// For whom a message is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeleteScope {
    /// Everyone: the content is erased for good.
    #[default]
    All,
    /// Oneself, on all of one's devices.
    Me,
}

/// A reaction to a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Reaction {
    /// To which.
    pub message_id: EntryId,
    /// What, usually an emoji.
    pub reaction: String,
}

impl Reaction {
    /// Checks the reaction.
    ///
    /// # Errors
    /// `invalid_request`.
    pub fn check(message_id: EntryId, reaction: String) -> Result<Self, Failure> {
        if reaction.trim().is_empty() {
            return Err(Failure::invalid("reaction", "must not be empty"));
        }
        if reaction.len() > REACTION_BYTES_MAX {
            return Err(Failure::invalid("reaction", format!("must be at most {REACTION_BYTES_MAX} bytes")));
        }
        if reaction.chars().any(char::is_control) {
            return Err(Failure::invalid("reaction", "must not contain control characters"));
        }
        Ok(Self { message_id, reaction })
    }
}

/// `content` of a `reaction` or `unreaction` entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReactionContent {
    /// What, usually an emoji.
    pub reaction: String,
}

/// New content for a message, checked.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NewEdit {
    /// Of which.
    pub message_id: EntryId,
    /// In the stored form.
    pub content: Box<RawValue>,
    /// Whether the content is declared as ciphertext.
    pub is_sealed: bool,
    /// In the stored form; none: stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Box<RawValue>>,
    /// Ed25519 by the device, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// Prints sizes, never content.
impl fmt::Debug for NewEdit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewEdit")
            .field("message_id", &self.message_id)
            .field("content_bytes", &self.content.get().len())
            .finish_non_exhaustive()
    }
}

/// An edit as a client may send it: in a frame's payload, or as the body of `PATCH …/messages/{message_id}`.
#[derive(Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[schema(as = EditMessage)]
pub struct EditFields {
    /// The edit's own id, made by the client as UUIDv7. In a frame the frame's own id counts.
    pub id: Option<EntryId>,
    /// Ciphertext in `e2ee`, text in `none`.
    pub content: ContentFields,
    /// Object of up to 4 KiB; absent: stays as it is.
    #[schema(value_type = Object)]
    pub metadata: Option<Value>,
    /// Ed25519 by the device's signing key, base64.
    pub signature: Option<String>,
}

impl EditFields {
    /// Checks everything that needs no state and brings the edit into its stored form.
    ///
    /// # Errors
    /// `invalid_request` naming every field at fault, or `too_large` naming the limit.
    pub fn check(self, message_id: EntryId, limits: &Limits) -> Result<NewEdit, Failure> {
        let mut faults = Failure::new(Code::Invalid, "");
        let is_sealed = self.content.check(&mut faults);
        self.content.check_size(limits)?;
        let metadata = match self.metadata {
            None | Some(Value::Null) => None,
            metadata => Some(message::check_metadata(metadata, &mut faults)?),
        };
        message::check_signature(self.signature.as_deref(), &mut faults);
        if !faults.errors.is_empty() {
            return Err(faults);
        }
        let content = serde_json::value::to_raw_value(&self.content).map_err(|_| Failure::internal())?;
        Ok(NewEdit { message_id, content, is_sealed, metadata, signature: self.signature })
    }
}

/// The payload of `edit_message`.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EditPayload {
    /// Where.
    pub conversation_id: ConversationId,
    /// Which message.
    pub message_id: EntryId,
    /// What it is to be.
    #[serde(flatten)]
    pub fields: EditFields,
}

/// The payload of `delete_message`.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeletePayload {
    /// Where.
    pub conversation_id: ConversationId,
    /// Which message.
    pub message_id: EntryId,
    /// For whom; `all` where absent.
    #[serde(default)]
    pub scope: Option<DeleteScope>,
}

/// The payload of `add_reaction` and `remove_reaction`.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReactionPayload {
    /// Where.
    pub conversation_id: ConversationId,
    /// To which message.
    pub message_id: EntryId,
    /// What, usually an emoji; up to 64 bytes.
    pub reaction: String,
}

/// The payload of `pin_message` and `unpin_message`.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PinPayload {
    /// Where.
    pub conversation_id: ConversationId,
    /// Which message.
    pub message_id: EntryId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reactions_are_short_and_visible() {
        let check = |text: &str| Reaction::check(EntryId::from(uuid::Uuid::nil()), text.to_owned());
        for good in ["👍", "👩‍👩‍👧‍👦", ":party:", "+1"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", " ", "a\0", "a\nb", &"x".repeat(REACTION_BYTES_MAX + 1)] {
            assert_eq!(check(bad).unwrap_err().code, Code::Invalid, "{bad:?}");
        }
    }

    #[test]
    fn an_edit_is_checked_like_a_message() {
        let check = |json: &str| {
            let fields: EditFields = serde_json::from_str(json).unwrap();
            fields.check(EntryId::from(uuid::Uuid::nil()), &Limits::default())
        };
        let edit = check(r#"{"content":{"text":"b"}}"#).unwrap();
        assert!(!edit.is_sealed && edit.metadata.is_none());
        for bad in [
            r#"{"content":{}}"#,
            r#"{"content":{"text":"a\u0000b"}}"#,
            r#"{"content":{"text":"b"},"metadata":7}"#,
            r#"{"content":{"text":"b"},"signature":"aGk="}"#,
        ] {
            assert_eq!(check(bad).unwrap_err().code, Code::Invalid, "{bad}");
        }
    }
}
