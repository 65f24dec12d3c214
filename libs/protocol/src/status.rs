//! Presence as people see and set it (docs/protocol.md, section 5).
#![expect(missing_docs, reason = "the names are the wire's and docs/protocol.md explains them")]

use entrenous_model::{Timestamp, UserId};
use serde::{Deserialize, Serialize};

use crate::Failure;

/// Characters of a status' text.
pub const STATUS_TEXT_MAX: usize = 200;
/// Users whose status one connection watches.
pub const WATCHED_MAX: usize = 1_000;

/// What others see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PresenceStatus {
    Online,
    Away,
    Busy,
    #[default]
    Offline,
}

/// What a user chose to show while they are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ChosenStatus {
    #[default]
    Online,
    Away,
    Busy,
    /// Looks offline.
    Invisible,
}

impl ChosenStatus {
    /// What others see while the user is there.
    pub fn shown(self) -> PresenceStatus {
        match self {
            Self::Online => PresenceStatus::Online,
            Self::Away => PresenceStatus::Away,
            Self::Busy => PresenceStatus::Busy,
            Self::Invisible => PresenceStatus::Offline,
        }
    }

    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Away => "away",
            Self::Busy => "busy",
            Self::Invisible => "invisible",
        }
    }

    /// The inverse of [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Online, Self::Away, Self::Busy, Self::Invisible].into_iter().find(|status| status.as_str() == text)
    }
}

/// A user's status.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UserStatus {
    pub user_id: UserId,
    pub status: PresenceStatus,
    pub text: Option<String>,
    /// Of who is offline, where it may be known.
    pub last_seen_at: Option<Timestamp>,
}

impl UserStatus {
    /// Of whom nothing may be seen.
    pub fn hidden(user_id: UserId) -> Self {
        Self { user_id, status: PresenceStatus::Offline, text: None, last_seen_at: None }
    }
}

/// One's own status: what others see, and what was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OwnStatus {
    #[serde(flatten)]
    pub status: UserStatus,
    pub chosen: ChosenStatus,
}

/// `PUT /users/me/status`, and the payload of `status_update` from a client.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StatusChoice {
    pub status: ChosenStatus,
    /// Shown beside the status, at most [`STATUS_TEXT_MAX`] characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl StatusChoice {
    /// The choice as it is kept: an empty text is none.
    ///
    /// # Errors
    /// `invalid_request` for a text that is too long or has NUL.
    pub fn check(self) -> Result<Self, Failure> {
        let text = self.text.filter(|text| !text.is_empty());
        if text.as_ref().is_some_and(|text| text.chars().count() > STATUS_TEXT_MAX) {
            return Err(Failure::invalid("text", format!("must be at most {STATUS_TEXT_MAX} characters")));
        }
        if text.as_ref().is_some_and(|text| text.contains('\0')) {
            return Err(Failure::invalid("text", "must not contain NUL"));
        }
        Ok(Self { text, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_bounded_in_characters() {
        let choice = |text: &str| StatusChoice { status: ChosenStatus::Busy, text: Some(text.to_owned()) };
        assert!(choice(&"é".repeat(STATUS_TEXT_MAX)).check().is_ok());
        assert!(choice(&"é".repeat(STATUS_TEXT_MAX + 1)).check().is_err());
        assert!(choice("a\0b").check().is_err());
        assert_eq!(choice("").check().unwrap().text, None);
    }

    #[test]
    fn chosen_statuses_are_parsed_as_they_are_written() {
        for status in [ChosenStatus::Online, ChosenStatus::Away, ChosenStatus::Busy, ChosenStatus::Invisible] {
            assert_eq!(ChosenStatus::parse(status.as_str()), Some(status));
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
        assert_eq!(ChosenStatus::parse("offline"), None);
    }
}
