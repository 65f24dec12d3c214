//! Any bytes on the live plane: decoding must not panic, and what was decoded must encode to the same bytes, but for
//! the reserved ones.
#![no_main]

use bytes::Bytes;
use entrenous_protocol::live::LiveMessage;
use libfuzzer_sys::fuzz_target;

/// Where the reserved bytes are, in the table of `entrenous_protocol::live`.
const RESERVED: std::ops::Range<usize> = 4..8;

fuzz_target!(|data: &[u8]| {
    let Some(message) = LiveMessage::decode(&Bytes::copy_from_slice(data)) else {
        return;
    };
    let mut expected = data.to_vec();
    expected[RESERVED].fill(0);
    assert_eq!(message.preamble.encode(&message.body).as_ref(), expected);
});
