//! Moves what presence is told, and what it tells.

use std::{sync::Arc, time::Duration};

use entrenous_bus::{BusError, subjects};
use entrenous_protocol::rpc::presence::{ListRequest, REPORT_INTERVAL_SECONDS, StatusReport};
use entrenous_runtime::Shutdown;
use futures::{StreamExt, stream::BoxStream};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{state::Gateway, worker::WorkerEvent};

/// How long changes are gathered.
const GATHER: Duration = Duration::from_millis(100);
/// A sign of life.
const REPORT_INTERVAL: Duration = Duration::from_secs(REPORT_INTERVAL_SECONDS);
/// How often everything is told without being asked for: what presence left out for want of room has another chance.
const LIST_INTERVAL: Duration = Duration::from_secs(300);

/// Tells and hears presence until the stop. At the stop everything has ended, and is told.
pub(crate) async fn run(gateway: Arc<Gateway>, shutdown: Shutdown) {
    let gateway_id: Uuid = gateway.ids.next();
    let Ok((statuses, lists)) = listen(&gateway, gateway_id).await else { return };
    let told = tell(&gateway, gateway_id, &shutdown);
    tokio::select! {
        () = told => {}
        () = hear_statuses(&gateway, statuses) => {}
        () = hear_lists(&gateway, gateway_id, lists) => {}
    }
}

type Heard = (BoxStream<'static, StatusReport>, BoxStream<'static, ListRequest>);

async fn listen(gateway: &Gateway, gateway_id: Uuid) -> Result<Heard, BusError> {
    let statuses = gateway.bus.hear(&subjects::presence_status(gateway_id)).await?;
    Ok((statuses, gateway.bus.hear(subjects::PRESENCE_LIST).await?))
}

async fn hear_statuses(gateway: &Gateway, mut statuses: BoxStream<'static, StatusReport>) {
    while let Some(report) = statuses.next().await {
        let changed = gateway.presence.hear(report);
        if changed.is_empty() {
            continue;
        }
        let changed: Arc<[_]> = changed.into();
        for worker in gateway.workers() {
            // Nobody else has to wait for a worker that is behind; it looks at everything when it is told.
            let _ = worker.send(WorkerEvent::Statuses(Arc::clone(&changed))).await;
        }
    }
}

async fn hear_lists(gateway: &Gateway, gateway_id: Uuid, mut lists: BoxStream<'static, ListRequest>) {
    while let Some(request) = lists.next().await {
        if request.gateway_id.is_none_or(|wanted| wanted == gateway_id) {
            gateway.presence.need_list();
        }
    }
}

async fn tell(gateway: &Gateway, gateway_id: Uuid, shutdown: &Shutdown) {
    let state = gateway.bus.state();
    let mut interruptions = state.interruptions();
    gateway.presence.need_list();
    let mut list_at = Instant::now() + LIST_INTERVAL;
    loop {
        let is_last = shutdown.is_triggered();
        if state.interruptions() != interruptions || Instant::now() >= list_at {
            interruptions = state.interruptions();
            list_at = Instant::now() + LIST_INTERVAL;
            gateway.presence.need_list();
        }
        if state.is_connected() {
            report(gateway, gateway_id).await;
        }
        if is_last {
            return;
        }
        let news = async {
            gateway.presence.has_news().await;
            tokio::time::sleep(GATHER).await;
        };
        tokio::select! {
            () = shutdown.triggered() => {}
            () = news => {}
            () = tokio::time::sleep(REPORT_INTERVAL) => {}
        }
    }
}

async fn report(gateway: &Gateway, gateway_id: Uuid) {
    for report in gateway.presence.take_reports(gateway_id) {
        if let Err(error) = gateway.bus.broadcast(subjects::PRESENCE_REPORT, &report).await {
            tracing::warn!(%error, "presence was not told");
        }
    }
}
