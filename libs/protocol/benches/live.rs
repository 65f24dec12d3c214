//! A message of the live plane: its preamble before the client's frame.

use bytes::Bytes;
use divan::{Bencher, black_box};
use entrenous_protocol::live::{LiveKind, LiveMessage, Preamble};

/// Bytes of the frame.
const BODY_BYTES: usize = 600;

fn main() {
    divan::main();
}

#[divan::bench]
fn encode(bencher: Bencher<'_, '_>) {
    let (preamble, body) = (Preamble::empty(LiveKind::Entry), vec![b'A'; BODY_BYTES]);
    bencher.bench(|| black_box(&preamble).encode(black_box(&body)));
}

#[divan::bench]
fn decode(bencher: Bencher<'_, '_>) {
    let message: Bytes = Preamble::empty(LiveKind::Entry).encode(&[b'A'; BODY_BYTES]);
    assert!(LiveMessage::decode(&message).is_some(), "a message");
    bencher.bench(|| LiveMessage::decode(black_box(&message)));
}
