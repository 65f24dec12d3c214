//! The settings of a conversation, and a member's own: what may stand in them, and what a change comes to.

use std::ops::RangeInclusive;

use entrenous_protocol::{
    Code, Failure,
    entry::ConversationKind,
    message::too_large,
    rest::{ConversationPatch, CreateConversation, Posting},
};
use serde_json::{Map, Value};

use super::{rights::Action, words::words};

const TITLE_MAX: usize = 200;
const DESCRIPTION_MAX: usize = 2_000;
const METADATA_BYTES_MAX: usize = 4 * 1024;
/// A member's own settings.
const OWN_BYTES_MAX: usize = 4 * 1024;
/// Up to 100 years.
const RETENTION_SECONDS: RangeInclusive<u64> = 1..=100 * 365 * 24 * 3_600;
/// Up to a day.
const SLOW_MODE_SECONDS: RangeInclusive<u64> = 1..=24 * 3_600;

/// The settings of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) title: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) metadata: Map<String, Value>,
    pub(crate) retention_seconds: Option<u64>,
    pub(crate) slow_mode_seconds: Option<u64>,
    pub(crate) posting: Posting,
    pub(crate) history_visible: bool,
    pub(crate) max_members: u32,
    pub(crate) is_public: bool,
}

impl Settings {
    /// Those of a new conversation, which may have so many members at most.
    pub(crate) fn new(conversation: &CreateConversation, members_max: u32) -> Self {
        let is_channel = conversation.kind == ConversationKind::Channel;
        let posting = if is_channel { Posting::Moderators } else { Posting::Everyone };
        Self {
            title: conversation.title.clone(),
            description: conversation.description.clone(),
            metadata: conversation.metadata.clone().unwrap_or_default(),
            retention_seconds: conversation.retention_seconds,
            slow_mode_seconds: conversation.slow_mode_seconds,
            posting: conversation.posting.unwrap_or(posting),
            history_visible: conversation.history_visible,
            max_members: conversation.max_members.unwrap_or(members_max),
            is_public: conversation.is_public,
        }
    }

    /// The words by which a public channel is found.
    pub(crate) fn words(&self) -> Vec<String> {
        [&self.title, &self.description].into_iter().flatten().flat_map(|text| words(text)).collect()
    }

    /// Takes a change over. Gives what of it was not so before.
    pub(crate) fn change(&mut self, patch: ConversationPatch) -> ConversationPatch {
        ConversationPatch {
            title: take(&mut self.title, patch.title),
            description: take(&mut self.description, patch.description),
            metadata: take(&mut self.metadata, patch.metadata.map(Option::unwrap_or_default)).map(Some),
            retention_seconds: take(&mut self.retention_seconds, patch.retention_seconds),
            slow_mode_seconds: take(&mut self.slow_mode_seconds, patch.slow_mode_seconds),
            posting: take(&mut self.posting, patch.posting),
            history_visible: take(&mut self.history_visible, patch.history_visible),
            max_members: take(&mut self.max_members, patch.max_members),
            is_public: take(&mut self.is_public, patch.is_public),
        }
    }
}

fn take<T: Clone + PartialEq>(present: &mut T, wanted: Option<T>) -> Option<T> {
    let wanted = wanted.filter(|wanted| wanted != present)?;
    present.clone_from(&wanted);
    Some(wanted)
}

/// What a new conversation asks for, as a change.
pub(crate) fn asked(conversation: &CreateConversation) -> ConversationPatch {
    ConversationPatch {
        title: Some(conversation.title.clone()),
        description: Some(conversation.description.clone()),
        metadata: Some(conversation.metadata.clone()),
        retention_seconds: Some(conversation.retention_seconds),
        slow_mode_seconds: Some(conversation.slow_mode_seconds),
        posting: conversation.posting,
        history_visible: None,
        max_members: conversation.max_members,
        is_public: None,
    }
}

/// Whether the values may stand in settings of such a conversation.
pub(crate) fn check(kind: ConversationKind, patch: &ConversationPatch) -> Result<(), Failure> {
    let mut faults = Failure::new(Code::Invalid, "");
    let texts = [("title", &patch.title, TITLE_MAX), ("description", &patch.description, DESCRIPTION_MAX)];
    for (field, text, max) in texts {
        let Some(text) = text.as_ref().and_then(Option::as_ref) else {
            continue;
        };
        if text.chars().count() > max {
            faults = faults.with_error(field, format!("must be at most {max} characters"));
        }
        if text.contains('\0') {
            faults = faults.with_error(field, NUL);
        }
    }
    let numbers = [
        ("retention_seconds", patch.retention_seconds, RETENTION_SECONDS),
        ("slow_mode_seconds", patch.slow_mode_seconds, SLOW_MODE_SECONDS),
    ];
    for (field, number, range) in numbers {
        if number.flatten().is_some_and(|number| !range.contains(&number)) {
            faults = faults.with_error(field, format!("must be {} to {}", range.start(), range.end()));
        }
    }
    if patch.posting == Some(Posting::Moderators) && kind != ConversationKind::Channel {
        faults = faults.with_error("posting", "is for channels");
    }
    if patch.max_members == Some(0) {
        faults = faults.with_error("max_members", "must be 1 at least");
    }
    if let Some(metadata) = patch.metadata.as_ref().and_then(Option::as_ref) {
        if has_nul(metadata) {
            faults = faults.with_error("metadata", NUL);
        }
        if bytes(metadata) > METADATA_BYTES_MAX {
            return Err(too_large("metadata", METADATA_BYTES_MAX));
        }
    }
    if faults.errors.is_empty() { Ok(()) } else { Err(faults) }
}

const NUL: &str = "must not contain NUL";

/// What one must be allowed to do for a change: of what is asked, and of what is not so yet.
pub(crate) fn needed(asked: &ConversationPatch, changed: &ConversationPatch) -> Vec<Action> {
    let only_retention =
        ConversationPatch { retention_seconds: asked.retention_seconds, ..ConversationPatch::default() };
    let mut needed = vec![if *asked == only_retention { Action::ChangeRetention } else { Action::ChangeSettings }];
    if changed.is_public.is_some() || changed.max_members.is_some() {
        needed.push(Action::ChangeReach);
    }
    needed
}

/// Merges into a member's own settings: a key that is absent stays, `null` removes it.
pub(crate) fn merge_own(
    mut present: Map<String, Value>,
    patch: Map<String, Value>,
) -> Result<Map<String, Value>, Failure> {
    if has_nul(&patch) {
        return Err(Failure::invalid("settings", NUL));
    }
    for (key, value) in patch {
        if value.is_null() {
            present.remove(&key);
        } else {
            present.insert(key, value);
        }
    }
    if bytes(&present) > OWN_BYTES_MAX {
        return Err(too_large("settings", OWN_BYTES_MAX));
    }
    Ok(present)
}

fn bytes(object: &Map<String, Value>) -> usize {
    serde_json::to_vec(object).map_or(usize::MAX, |text| text.len())
}

fn has_nul(object: &Map<String, Value>) -> bool {
    object.iter().any(|(key, value)| key.contains('\0') || value_has_nul(value))
}

fn value_has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(value_has_nul),
        Value::Object(members) => has_nul(members),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn patch(value: Value) -> ConversationPatch {
        from_value(value).unwrap()
    }

    fn object(value: Value) -> Map<String, Value> {
        from_value(value).unwrap()
    }

    fn settings() -> Settings {
        let kind = ConversationKind::Channel;
        Settings::new(&CreateConversation { title: Some("a".to_owned()), ..CreateConversation::of(kind) }, 10)
    }

    #[test]
    fn only_what_was_not_so_is_a_change() {
        let mut settings = settings();
        let asked = patch(json!({
            "title": "a", "description": null, "metadata": {"k": 1}, "retention_seconds": 60, "max_members": 10,
            "is_public": true,
        }));
        let changed = settings.change(asked.clone());
        assert_eq!(changed, patch(json!({"metadata": {"k": 1}, "retention_seconds": 60, "is_public": true})));
        assert_eq!(settings.change(asked), ConversationPatch::default());
        assert_eq!(settings.change(patch(json!({"metadata": null}))), patch(json!({"metadata": {}})));
        assert_eq!(settings.change(patch(json!({"title": null}))), patch(json!({"title": null})));
        assert_eq!((settings.title, settings.retention_seconds), (None, Some(60)));
    }

    #[test]
    fn what_may_not_stand_there_is_named() {
        let refused = |value| {
            let refusal = check(ConversationKind::Group, &patch(value)).unwrap_err();
            refusal.errors.into_iter().map(|error| error.field).collect::<Vec<_>>()
        };
        let bad = json!({"title": "x".repeat(201), "description": "\0", "posting": "moderators", "max_members": 0,
                         "retention_seconds": 0, "slow_mode_seconds": 86_401, "metadata": {"a": ["\0"]}});
        let fields =
            ["title", "description", "retention_seconds", "slow_mode_seconds", "posting", "max_members", "metadata"];
        assert_eq!(refused(bad), fields);
        let large = patch(json!({"metadata": {"a": "x".repeat(METADATA_BYTES_MAX)}}));
        assert_eq!(check(ConversationKind::Group, &large).unwrap_err().code, Code::TooLarge);
        assert!(check(ConversationKind::Group, &patch(json!({"retention_seconds": null, "title": null}))).is_ok());
    }

    #[test]
    fn own_settings_are_merged_by_key() {
        let present = object(json!({"archived": true, "pinned": {"a": null}}));
        let merged = merge_own(present.clone(), object(json!({"archived": null, "muted_until": null, "x": [null]})));
        assert_eq!(merged.unwrap(), object(json!({"pinned": {"a": null}, "x": [null]})));
        assert_eq!(merge_own(present.clone(), object(json!({"a": "\0"}))).unwrap_err().code, Code::Invalid);
        let large = object(json!({"a": "x".repeat(OWN_BYTES_MAX - 40)}));
        assert_eq!(merge_own(present, large).unwrap_err().code, Code::TooLarge);
        assert!(merge_own(Map::new(), object(json!({"a": "x".repeat(OWN_BYTES_MAX - 8)}))).is_ok());
    }
}
