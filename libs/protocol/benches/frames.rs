//! A chat message: from the client's text to what is stored, and from the log to the text that everybody gets.
#![expect(clippy::expect_used, reason = "a benchmark that cannot be prepared ends")]

use divan::{Bencher, black_box};
use entrenous_protocol::{Entry, Limits, entry::ConversationKind, frame, message::canonical_json};

fn main() {
    divan::main();
}

fn chat_message(characters: usize) -> String {
    serde_json::json!({
        "type": "chat_message", "id": uuid::Uuid::from_u128(7), "meta": {"target_id": uuid::Uuid::from_u128(9)},
        "payload": {"message_type": "text", "content": {"scheme": "load", "ciphertext": "A".repeat(characters)}},
    })
    .to_string()
}

#[divan::bench(args = [344, 4_096])]
fn decode_chat_message(bencher: Bencher<'_, '_>, characters: usize) {
    let (text, limits) = (chat_message(characters), Limits::default());
    assert!(frame::parse(&text, &limits).is_ok(), "a message");
    bencher.bench(|| frame::parse(black_box(&text), &limits));
}

#[divan::bench(args = [344, 4_096])]
fn encode_chat_message(bencher: Bencher<'_, '_>, characters: usize) {
    let id = uuid::Uuid::from_u128(7);
    let entry = serde_json::json!({
        "id": id, "conversation_id": id, "seq": 7, "kind": "message", "sender_id": id, "sender_device_id": id,
        "message_type": "text", "content": {"scheme": "load", "ciphertext": "A".repeat(characters)}, "reply_to": null,
        "thread_id": null, "attachments": [], "mentions": [], "metadata": {}, "signature": null,
        "sent_at": "2026-01-01T00:00:00.000Z", "edited_at": null, "edit_count": 0, "deleted": false, "expires_at": null,
    });
    let entry: Entry = serde_json::from_str(&entry.to_string()).expect("an entry");
    bencher.bench(|| black_box(&entry).frame(ConversationKind::Direct, id));
}

#[divan::bench(args = [344, 4_096])]
fn canonical_content(bencher: Bencher<'_, '_>, characters: usize) {
    let content = serde_json::json!({"scheme": "load", "ciphertext": "A".repeat(characters), "nonce": "B"});
    bencher.bench(|| canonical_json(black_box(&content)));
}
