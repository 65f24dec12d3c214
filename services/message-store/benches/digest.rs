//! What the store computes for each message: the digest that its id stands for.
#![expect(clippy::expect_used, reason = "a benchmark that cannot be prepared ends")]

use divan::{Bencher, black_box};
use entrenous_message_store::digest::DigestKey;
use entrenous_protocol::{Limits, frame, frame::ClientFrame};

fn main() {
    divan::main();
}

#[divan::bench(args = [256, 4_096])]
fn digest(bencher: Bencher<'_, '_>, characters: usize) {
    let key = DigestKey::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").expect("32 bytes");
    let text = serde_json::json!({
        "type": "group_message", "id": uuid::Uuid::from_u128(7), "meta": {"target_id": uuid::Uuid::from_u128(9)},
        "payload": {"message_type": "text", "content": {"scheme": "load", "ciphertext": "A".repeat(characters)}},
    });
    let message = match frame::parse(&text.to_string(), &Limits::default()) {
        Ok((_, ClientFrame::GroupMessage { message, .. })) => Some(message),
        _ => None,
    };
    let message = message.expect("a message");
    bencher.bench(|| key.digest(black_box(&message)));
}
