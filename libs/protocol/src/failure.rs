//! One error type for all three places where errors travel: problem bodies, `error` frames, replies between services.

use entrenous_model::EntryId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::Code;

/// A field that does not validate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FieldError {
    /// Path of the field, such as `device.name`.
    pub field: String,
    /// What is wrong with it, for a developer.
    pub message: String,
}

/// What went wrong, ready to be shown to a client. Never holds causes, SQL, paths or other people's data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[error("{code}: {detail}")]
pub struct Failure {
    /// The code. On the wire between services its Rust name, since two share `invalid_request`.
    #[serde(with = "code_name")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub code: Code,
    /// For a developer; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Fields that do not validate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// When trying again makes sense, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Further members of the payload or problem body, such as `epoch`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
}

mod code_name {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::Code;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(code: &Code, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{code:?}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Code, D::Error> {
        let name = String::deserialize(deserializer)?;
        // A newer service may know more codes: what we do not know is a fault of the server's.
        Ok(Code::ALL.iter().copied().find(|code| format!("{code:?}") == name).unwrap_or(Code::Internal))
    }
}

impl Failure {
    /// A failure with a text for developers.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), errors: Vec::new(), retry_after_ms: None, extra: Map::new() }
    }

    /// One field that does not validate.
    pub fn invalid(field: &str, message: impl Into<String>) -> Self {
        Self::new(Code::Invalid, "").with_error(field, message)
    }

    /// Adds a field that does not validate.
    #[must_use]
    pub fn with_error(mut self, field: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        if self.detail.is_empty() {
            self.detail = format!("{field}: {message}");
        }
        self.errors.push(FieldError { field: field.to_owned(), message });
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn with_retry_after_ms(mut self, retry_after_ms: u64) -> Self {
        self.retry_after_ms = Some(retry_after_ms);
        self
    }

    /// What does not exist, or is not for the caller to know: the two look alike.
    pub fn not_found() -> Self {
        Self::new(Code::NotFound, "")
    }

    /// A part of the server is away; asks to try again in a second.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(Code::Unavailable, detail).with_retry_after_ms(1_000)
    }

    /// A fault of ours. Its cause goes to the log, never to the client.
    pub fn internal() -> Self {
        Self::new(Code::Internal, "")
    }

    /// The `application/problem+json` body. Source: RFC 9457 3.
    pub fn problem(&self) -> Value {
        let mut body = self.members();
        body.insert("type".into(), json!("about:blank"));
        body.insert("status".into(), json!(self.code.status()));
        Value::Object(body)
    }

    /// The `error` frame for a client's frame with this id.
    pub fn frame(&self, id: Option<EntryId>) -> String {
        let mut payload = self.members();
        if let Some(retry_after_ms) = self.retry_after_ms {
            payload.insert("retry_after_ms".into(), json!(retry_after_ms));
        }
        json!({"type": "error", "id": id, "payload": payload, "meta": {}}).to_string()
    }

    fn members(&self) -> Map<String, Value> {
        let mut members = self.extra.clone();
        members.insert("code".into(), json!(self.code.as_str()));
        members.insert("title".into(), json!(self.code.title()));
        members.insert("detail".into(), json!(self.detail));
        if !self.errors.is_empty() {
            members.insert("errors".into(), json!(self.errors));
        }
        members
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn travels_between_services_without_loss() {
        let failure = Failure::invalid("username", "too short").with_retry_after_ms(5);
        let text = serde_json::to_string(&failure).unwrap();
        assert_eq!(serde_json::from_str::<Failure>(&text).unwrap(), failure);
    }

    #[test]
    fn problem_and_frame_name_the_same_code() {
        let failure = Failure::new(Code::NotFound, "no such thing");
        assert_eq!(failure.problem()["code"], "not_found");
        assert_eq!(failure.problem()["status"], 404);
        let frame: Value = serde_json::from_str(&failure.frame(None)).unwrap();
        assert_eq!(frame["payload"]["code"], "not_found");
        assert_eq!(frame["id"], Value::Null);
    }
}
