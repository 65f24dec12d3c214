//! Any text that a client may send: parsing must end, not panic, and a refusal must itself be a frame.
#![no_main]

use std::sync::LazyLock;

use entrenous_protocol::{Limits, frame};
use libfuzzer_sys::fuzz_target;

static LIMITS: LazyLock<Limits> = LazyLock::new(Limits::default);

fuzz_target!(|text: &str| {
    match frame::parse(text, &LIMITS) {
        Ok((_, parsed)) => drop(format!("{parsed:?}")),
        Err(rejected) => {
            let refusal = rejected.failure.frame(rejected.id);
            assert!(refusal.starts_with('{') && refusal.ends_with('}'), "{refusal}");
        }
    }
});
