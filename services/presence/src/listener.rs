//! Hears gateways and replicas, asks for what was missed, and lets time pass.

use std::time::Duration;

use entrenous_bus::{Bus, subjects};
use entrenous_protocol::rpc::presence::ListRequest;
use entrenous_runtime::Shutdown;
use futures::{StreamExt, stream::BoxStream};
use tokio::time::MissedTickBehavior;

use crate::{metrics, shared::Shared};

/// How often leases and graces are looked at, and lists asked for.
const TICK: Duration = Duration::from_millis(500);

/// Hands on what is broadcast until the stop.
pub(crate) async fn hear<T>(mut heard: BoxStream<'static, T>, take: impl Fn(T), stop: Shutdown) {
    loop {
        tokio::select! {
            () = stop.triggered() => return,
            one = heard.next() => match one {
                Some(one) => take(one),
                None => return,
            },
        }
    }
}

/// Lets time pass until the stop. While this process is cut off from NATS time stands still: nobody can be heard, so
/// silence means nothing.
pub(crate) async fn keep_time(shared: Shared, bus: Bus, stop: Shutdown) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut interruptions = bus.state().interruptions();
    loop {
        tokio::select! {
            () = stop.triggered() => return,
            _ = interval.tick() => {}
        }
        if !bus.state().is_connected() {
            continue;
        }
        if bus.state().interruptions() != interruptions {
            interruptions = bus.state().interruptions();
            shared.resume();
        }
        shared.advance();
        for gateway_id in shared.incomplete() {
            ask(&bus, Some(gateway_id)).await;
        }
    }
}

/// Asks a gateway, or all of them, to say everything again.
pub(crate) async fn ask(bus: &Bus, gateway_id: Option<uuid::Uuid>) {
    if let Err(error) = bus.broadcast(subjects::PRESENCE_LIST, &ListRequest { gateway_id }).await {
        metrics::background_failed("ask", &error);
    }
}
