//! Tells gateways of the users that they watch.

use std::time::Duration;

use entrenous_bus::{Bus, subjects};
use entrenous_db::Database;
use entrenous_protocol::rpc::presence::StatusReport;
use entrenous_runtime::Shutdown;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use crate::{domain::DueReport, metrics, shared::Shared, statuses};

/// How long changes are gathered. With the bound of a report it is also the budget: 10,000 statuses a second to a gateway.
const TICK: Duration = Duration::from_millis(100);

/// Tells until the stop.
pub(crate) async fn tell(shared: Shared, database: Database, bus: Bus, replica_id: Uuid, stop: Shutdown) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.triggered() => return,
            _ = interval.tick() => {}
        }
        if !bus.state().is_connected() {
            continue;
        }
        for report in shared.due_reports() {
            tell_one(&shared, &database, &bus, replica_id, report).await;
        }
    }
}

/// What could not be told is told later.
async fn tell_one(shared: &Shared, database: &Database, bus: &Bus, replica_id: Uuid, due: DueReport) {
    let DueReport { gateway_id, number, user_ids } = due;
    let statuses = statuses::read(shared, database, &user_ids).await.unwrap_or_else(|error| {
        metrics::background_failed("statuses", &error);
        shared.still_untold(gateway_id, &user_ids);
        Vec::new()
    });
    let report = StatusReport { replica_id, number, statuses };
    match bus.broadcast(&subjects::presence_status(gateway_id), &report).await {
        Ok(()) => metrics::statuses_told(report.statuses.len()),
        Err(error) => {
            metrics::background_failed("tell", &error);
            shared.still_untold(gateway_id, &user_ids);
        }
    }
}
