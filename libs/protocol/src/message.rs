//! A new message: what a client sends, checked, and in the one form in which the log keeps it.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use entrenous_model::{EntryId, MediaId, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{
    Code, Failure,
    entry::MessageType,
    limits::{Limits, MENTIONS_MAX, METADATA_BYTES_MAX},
};

/// A message that passed every check that needs no state.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NewMessage {
    /// Made by the client; the idempotency key.
    pub id: EntryId,
    /// What it is.
    pub message_type: MessageType,
    /// Known fields alone, in a fixed order: the form that is stored.
    pub content: Box<RawValue>,
    /// Whether the content is declared as ciphertext.
    pub is_sealed: bool,
    /// The message that this one answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<EntryId>,
    /// The message whose thread this one stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<EntryId>,
    /// Media named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<MediaId>,
    /// Users named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<UserId>,
    /// An object of the client's; `{}` where there is none. Keys are sorted, so that equal values are equal texts.
    pub metadata: Box<RawValue>,
    /// Ed25519 by the device, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// Prints sizes, never content.
impl fmt::Debug for NewMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewMessage")
            .field("id", &self.id)
            .field("content_bytes", &self.content.get().len())
            .finish_non_exhaustive()
    }
}

/// The fields as a client may send them: in a frame's payload, or as the body of `POST …/messages`.
#[derive(Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[schema(as = NewMessage, example = json!({
    "id": "01936b2e-4f00-7000-8000-000000000001", "content": {"text": "Soup at noon?"}, "mls": null, "send_at": null
}))]
pub struct MessageFields {
    /// Made by the client as UUIDv7. In a frame the frame's own id counts.
    #[schema(required = true)]
    pub id: Option<EntryId>,
    /// `text` where absent.
    #[serde(default)]
    pub message_type: MessageType,
    /// Ciphertext in `e2ee`, text in `none`.
    pub content: ContentFields,
    /// The message that this one answers.
    pub reply_to: Option<EntryId>,
    /// The message whose thread this one stands in.
    pub thread_id: Option<EntryId>,
    /// Up to 10 media ids.
    pub attachments: Option<Vec<MediaId>>,
    /// Users named.
    pub mentions: Option<Vec<UserId>>,
    /// Object of up to 4 KiB.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Value>,
    /// Ed25519 by the device's signing key, base64.
    pub signature: Option<String>,
    /// An MLS commit; refused until the server orders commits.
    #[schema(value_type = Option<Object>)]
    pub mls: Option<Value>,
    /// When to send it, a year ahead at most; at once where that has passed.
    pub send_at: Option<Timestamp>,
}

/// `content` as a client may send it.
#[derive(Deserialize, Serialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[expect(missing_docs, reason = "the names are the wire's; docs/protocol.md, section 4, explains them")]
pub struct ContentFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ciphertext: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<TextFormat>,
}

/// How clear text is to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TextFormat {
    /// As it stands.
    Plain,
    /// Markdown.
    Markdown,
}

const SCHEME_BYTES_MAX: usize = 64;
const NONCE_BYTES_MAX: usize = 256;
const SESSION_ID_BYTES_MAX: usize = 256;
const SIGNATURE_BYTES: usize = 64;

impl MessageFields {
    /// Checks everything that needs no state and brings the message into its stored form. `send_at` is the caller's to heed.
    ///
    /// # Errors
    /// `invalid_request` naming every field at fault, or `too_large` naming the limit.
    pub fn check(self, id: EntryId, limits: &Limits) -> Result<NewMessage, Failure> {
        let mut faults = Failure::new(Code::Invalid, "");
        let is_sealed = self.content.check(&mut faults);
        self.content.check_size(limits)?;
        let attachments = self.attachments.unwrap_or_default();
        if attachments.len() > limits.attachments_per_message {
            return Err(too_large("attachments_per_message", limits.attachments_per_message));
        }
        let mentions = self.mentions.unwrap_or_default();
        if mentions.len() > MENTIONS_MAX {
            return Err(too_large("mentions", MENTIONS_MAX));
        }
        let metadata = check_metadata(self.metadata, &mut faults)?;
        check_signature(self.signature.as_deref(), &mut faults);
        if self.mls.is_some_and(|mls| !mls.is_null()) {
            faults = faults.with_error("mls", "commits are not supported by this server yet");
        }
        if !faults.errors.is_empty() {
            return Err(faults);
        }
        Ok(NewMessage {
            id,
            message_type: self.message_type,
            content: serde_json::value::to_raw_value(&self.content).map_err(|_| Failure::internal())?,
            is_sealed,
            reply_to: self.reply_to,
            thread_id: self.thread_id,
            attachments,
            mentions,
            metadata,
            signature: self.signature,
        })
    }
}

const NUL: &str = "must not contain NUL";

/// Metadata in its stored form.
pub(crate) fn check_metadata(metadata: Option<Value>, faults: &mut Failure) -> Result<Box<RawValue>, Failure> {
    let mut fault = |message: &str| *faults = faults.clone().with_error("metadata", message);
    let metadata = match metadata {
        None | Some(Value::Null) => Value::Object(serde_json::Map::new()),
        Some(object @ Value::Object(_)) => object,
        Some(_) => {
            fault("must be an object");
            Value::Null
        }
    };
    let metadata = canonical_json(&metadata);
    if metadata.get().len() > METADATA_BYTES_MAX {
        return Err(too_large("metadata", METADATA_BYTES_MAX));
    }
    if has_nul(metadata.get()) {
        fault(NUL);
    }
    Ok(metadata)
}

pub(crate) fn check_signature(signature: Option<&str>, faults: &mut Failure) {
    if signature.is_some_and(|text| STANDARD.decode(text).map_or(true, |bytes| bytes.len() != SIGNATURE_BYTES)) {
        *faults = faults.clone().with_error("signature", "must be 64 bytes in base64");
    }
}

impl ContentFields {
    /// Whether the content is ciphertext; notes what is wrong with it.
    pub(crate) fn check(&self, faults: &mut Failure) -> bool {
        let mut fault = |field: &str, message: &str| *faults = faults.clone().with_error(field, message);
        let sealed = self.ciphertext.is_some() || self.scheme.is_some();
        match (sealed, &self.text) {
            (true, Some(_)) => fault("content.text", "must not stand beside ciphertext"),
            (false, None) => fault("content", "needs scheme and ciphertext, or text"),
            (true, None) => self.check_sealed(&mut fault),
            (false, Some(text)) => {
                if text.is_empty() {
                    fault("content.text", "must not be empty");
                }
                if text.contains('\0') {
                    fault("content.text", NUL);
                }
            }
        }
        sealed
    }

    fn check_sealed(&self, fault: &mut impl FnMut(&str, &str)) {
        match self.scheme.as_deref() {
            None | Some("") => fault("content.scheme", "is required"),
            Some(scheme) if scheme.len() > SCHEME_BYTES_MAX => fault("content.scheme", "is longer than 64 bytes"),
            Some(scheme) if scheme.contains('\0') => fault("content.scheme", NUL),
            Some(_) => {}
        }
        match self.ciphertext.as_deref() {
            None | Some("") => fault("content.ciphertext", "is required"),
            Some(ciphertext) if STANDARD.decode(ciphertext).is_err() => {
                fault("content.ciphertext", "must be base64 with padding");
            }
            Some(_) => {}
        }
        if let Some(nonce) = &self.nonce
            && (nonce.len() > NONCE_BYTES_MAX || STANDARD.decode(nonce).is_err())
        {
            fault("content.nonce", "must be base64 with padding, at most 256 characters");
        }
        if let Some(session_id) = &self.session_id
            && (session_id.len() > SESSION_ID_BYTES_MAX || session_id.contains('\0'))
        {
            fault("content.session_id", "must be at most 256 bytes without NUL");
        }
        if self.format.is_some() {
            fault("content.format", "belongs to clear text");
        }
        if self.epoch.is_some_and(|epoch| i64::try_from(epoch).is_err()) {
            fault("content.epoch", "is too large");
        }
    }

    pub(crate) fn check_size(&self, limits: &Limits) -> Result<(), Failure> {
        let bytes = match (&self.ciphertext, &self.text) {
            (Some(ciphertext), _) => {
                let padding = ciphertext.bytes().rev().take(2).take_while(|byte| *byte == b'=').count();
                (ciphertext.len() / 4 * 3).saturating_sub(padding)
            }
            (None, Some(text)) => text.len(),
            (None, None) => 0,
        };
        if bytes > limits.message_content_bytes {
            return Err(too_large("message_content_bytes", limits.message_content_bytes));
        }
        Ok(())
    }
}

/// `too_large` that names the limit and its value.
pub fn too_large(limit: &str, value: usize) -> Failure {
    Failure::new(Code::TooLarge, format!("{limit}: at most {value}"))
}

/// Whether JSON text holds the escape of NUL.
pub fn has_nul(json: &str) -> bool {
    // serde_json writes NUL as \u0000; an escaped backslash before "u0000" is text, not NUL.
    let mut rest = json.as_bytes();
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        if rest.get(at..at + 6) == Some(br"\u0000") {
            return true;
        }
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    false
}

/// JSON text with sorted keys and no blanks: equal values give equal texts.
pub fn canonical_json(value: &Value) -> Box<RawValue> {
    fn write(value: &Value, out: &mut String) {
        match value {
            Value::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    write(item, out);
                }
                out.push(']');
            }
            Value::Object(members) => {
                let mut sorted: Vec<_> = members.iter().collect();
                sorted.sort_unstable_by_key(|(key, _)| key.as_str());
                out.push('{');
                for (index, (key, item)) in sorted.into_iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    out.push_str(&Value::from(key.as_str()).to_string());
                    out.push(':');
                    write(item, out);
                }
                out.push('}');
            }
            scalar => out.push_str(&scalar.to_string()),
        }
    }
    let mut text = String::new();
    write(value, &mut text);
    RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str) -> Result<NewMessage, Failure> {
        let fields: MessageFields = serde_json::from_str(json).unwrap();
        fields.check("01900000-0000-7000-8000-000000000001".parse().unwrap(), &Limits::default())
    }

    #[test]
    fn content_is_either_sealed_or_clear() {
        assert!(check(r#"{"content":{"scheme":"mls","ciphertext":"aGk="}}"#).unwrap().is_sealed);
        assert!(!check(r#"{"content":{"text":"hi"}}"#).unwrap().is_sealed);
        for bad in [
            r#"{"content":{}}"#,
            r#"{"content":{"scheme":"mls"}}"#,
            r#"{"content":{"ciphertext":"aGk="}}"#,
            r#"{"content":{"scheme":"mls","ciphertext":"aGk"}}"#,
            r#"{"content":{"scheme":"mls","ciphertext":"aGk=","text":"hi"}}"#,
            r#"{"content":{"text":"a\u0000b"}}"#,
            r#"{"content":{"text":"hi"},"metadata":[]}"#,
            r#"{"content":{"text":"hi"},"metadata":{"a":"\u0000"}}"#,
            r#"{"content":{"text":"hi"},"signature":"aGk="}"#,
        ] {
            assert_eq!(check(bad).unwrap_err().code, Code::Invalid, "{bad}");
        }
    }

    #[test]
    fn an_escaped_backslash_before_u0000_is_no_nul() {
        assert!(check(r#"{"content":{"text":"hi"},"metadata":{"a":"\\u0000"}}"#).is_ok());
    }

    #[test]
    fn the_limit_counts_decoded_bytes() {
        let limit = Limits::default().message_content_bytes;
        let sealed = |bytes: usize| {
            check(&format!(r#"{{"content":{{"scheme":"x","ciphertext":"{}"}}}}"#, STANDARD.encode(vec![7; bytes])))
        };
        assert!(sealed(limit).is_ok());
        assert_eq!(sealed(limit + 1).unwrap_err().code, Code::TooLarge);
    }

    #[test]
    fn equal_values_are_equal_texts() {
        let one = canonical_json(&serde_json::json!({"b": [1, {"d": 2, "c": 3}], "a": null}));
        assert_eq!(one.get(), r#"{"a":null,"b":[1,{"c":3,"d":2}]}"#);
    }
}
