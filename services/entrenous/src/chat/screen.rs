//! How things look on the terminal. Pure.

use entrenous_model::Timestamp;
use entrenous_protocol::{
    Entry,
    entry::{EntryKind, MemberChange, MemberContent},
    rest::Conversation,
};
use serde::Deserialize;

/// What an entry is to the person at the terminal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// Somebody said something.
    Said(String),
    /// Somebody did something.
    Note(&'static str),
    /// The members changed.
    Member(MemberContent),
    /// Nothing to see.
    Nothing,
}

/// What to show of an entry.
pub(super) fn shown(entry: &Entry) -> Shown {
    match entry.kind {
        _ if entry.deleted => Shown::Note("took a message back"),
        EntryKind::Message => Shown::Said(text_of(entry)),
        EntryKind::Edit => Shown::Said(format!("(edited) {}", text_of(entry))),
        EntryKind::Deletion => Shown::Note("took a message back"),
        EntryKind::Pin => Shown::Note("pinned a message"),
        EntryKind::Unpin => Shown::Note("took a pin away"),
        EntryKind::Settings => Shown::Note("changed the settings"),
        EntryKind::Member => member(entry).map_or(Shown::Nothing, Shown::Member),
        EntryKind::Reaction | EntryKind::Unreaction => Shown::Nothing,
    }
}

fn text_of(entry: &Entry) -> String {
    #[derive(Deserialize)]
    struct Content {
        text: Option<String>,
    }
    let content = entry.content.as_ref().and_then(|content| serde_json::from_str::<Content>(content.get()).ok());
    content.and_then(|content| content.text).map_or_else(|| "[not readable here]".to_owned(), |text| printable(&text))
}

fn member(entry: &Entry) -> Option<MemberContent> {
    serde_json::from_str(entry.content.as_ref()?.get()).ok()
}

/// What happened to whom, in words.
pub(super) fn member_text(change: MemberChange, who: &str, by: &str) -> String {
    match change {
        MemberChange::Created => format!("{by} began this group"),
        MemberChange::Joined => format!("{who} joined"),
        MemberChange::Added => format!("{by} added {who}"),
        MemberChange::Left => format!("{who} left"),
        MemberChange::Removed => format!("{by} removed {who}"),
        MemberChange::Banned => format!("{by} banned {who}"),
        MemberChange::Role => format!("{by} changed the role of {who}"),
    }
}

/// One message.
pub(super) fn said(at: Timestamp, name: &str, text: &str) -> String {
    format!("{} {}: {text}", clock(at), printable(name))
}

/// One note.
pub(super) fn note(at: Timestamp, text: &str) -> String {
    format!("{} * {text}", clock(at))
}

fn clock(at: Timestamp) -> String {
    at.to_string().get(11..16).unwrap_or_default().to_owned()
}

/// One conversation in the list.
pub(super) fn conversation_line(conversation: &Conversation) -> String {
    let name = match (&conversation.title, &conversation.peer) {
        (Some(title), _) => printable(title),
        (None, Some(peer)) => format!("with {}", peer.username),
        (None, None) => "(no title)".to_owned(),
    };
    let encryption = conversation.encryption;
    format!("{}  {}  {encryption}  {} unread  {name}", conversation.id, conversation.kind, conversation.unread_count)
}

/// Text of others without what a terminal would obey: control characters and changes of the writing direction.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\n' => out.push_str("\n      "),
            '\t' => out.push(' '),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            char if char.is_control() => out.push('\u{fffd}'),
            char => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str, content: &str) -> Entry {
        serde_json::from_str(&format!(
            r#"{{"id":"01900000-0000-7000-8000-000000000001","conversation_id":"01900000-0000-7000-8000-000000000002",
            "seq":1,"kind":"{kind}","sender_id":"01900000-0000-7000-8000-000000000003","sender_device_id":null,
            "content":{content},"reply_to":null,"thread_id":null,"attachments":[],"mentions":[],"metadata":{{}},
            "signature":null,"sent_at":"2026-11-20T10:30:00.123Z","edited_at":null,"edit_count":0,"deleted":false,
            "expires_at":null}}"#
        ))
        .unwrap()
    }

    #[test]
    fn messages_of_others_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\u{7}\r\u{202e}c\u{9b}d"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c\u{fffd}d");
        assert_eq!(printable("a\nb"), "a\n      b");
    }

    #[test]
    fn what_cannot_be_read_is_said_so() {
        let sealed = entry("message", r#"{"scheme":"mls","ciphertext":"aGk="}"#);
        assert_eq!(shown(&sealed), Shown::Said("[not readable here]".into()));
        let clear = entry("message", r#"{"text":"hi"}"#);
        assert_eq!(shown(&clear), Shown::Said("hi".into()));
        assert_eq!(said(clear.sent_at, "bob", "hi"), "10:30 bob: hi");
        assert_eq!(shown(&entry("member", "{}")), Shown::Nothing);
    }
}
