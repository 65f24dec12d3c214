//! Hears the gateways and lets time pass.

use std::time::Duration;

use entrenous_bus::ConnectionState;
use entrenous_protocol::rpc::presence::GatewayReport;
use entrenous_runtime::Shutdown;
use futures::{StreamExt, stream::BoxStream};

use crate::shared::Shared;

/// How often leases and graces are looked at.
const TICK: Duration = Duration::from_millis(500);

/// Hears reports until the stop.
pub(crate) async fn hear(shared: Shared, mut reports: BoxStream<'static, GatewayReport>, stop: Shutdown) {
    loop {
        tokio::select! {
            () = stop.triggered() => return,
            report = reports.next() => match report {
                Some(report) => shared.report(report),
                None => return,
            },
        }
    }
}

/// Lets time pass until the stop. While this process is cut off from NATS time stands still: nobody can be heard, so
/// silence means nothing.
pub(crate) async fn keep_time(shared: Shared, state: ConnectionState, stop: Shutdown) {
    let mut interval = tokio::time::interval(TICK);
    let mut interruptions = state.interruptions();
    loop {
        tokio::select! {
            () = stop.triggered() => return,
            _ = interval.tick() => {}
        }
        if !state.is_connected() {
            continue;
        }
        if state.interruptions() != interruptions {
            interruptions = state.interruptions();
            shared.resume();
        }
        shared.advance();
    }
}
