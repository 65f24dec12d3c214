//! One live entry to all connections of a worker that have its conversation live: from the message of NATS to their queues.

use std::cell::RefCell;

use divan::{Bencher, counter::ItemsCount};
use entrenous_gateway::audience::Audience;

fn main() {
    divan::main();
}

#[divan::bench(args = [1, 100, 10_000])]
fn fan_out(bencher: Bencher<'_, '_>, connections: u32) {
    let frame = serde_json::json!({
        "type": "group_message", "id": uuid::Uuid::from_u128(7), "payload": {"content": {"ciphertext": "A".repeat(344)}},
        "meta": {"timestamp": 1_700_000_000_000_i64},
    });
    let frame = frame.to_string();
    let audience = RefCell::new(Audience::of(connections.into()));
    bencher
        .counter(ItemsCount::new(connections))
        .with_inputs(|| audience.borrow_mut().next_entry(&frame))
        .bench_local_values(|entry| audience.borrow_mut().forward(&entry));
    assert!(audience.borrow().is_up_to_date(), "entries were not forwarded");
}
