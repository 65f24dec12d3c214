//! Frames that stand as examples for all: the description of the API is held against the same ones.

use entrenous_protocol::{Limits, frame};
use serde_json::Value;

#[test]
fn every_example_is_taken() {
    let frames: Vec<Value> = serde_json::from_str(include_str!("data/client-frames.json")).unwrap();
    for example in frames {
        assert!(frame::parse(&example.to_string(), &Limits::default()).is_ok(), "{example}");
    }
}
