//! What the service answers: one file for each method.

mod advance_cursors;
mod device_cursors;

use std::{future::Future, sync::Arc};

use entrenous_bus::{Bus, BusError, Deadline, ServeOptions};
use entrenous_db::Database;
use entrenous_model::Clock;
use entrenous_protocol::{Failure, rpc::Method, rpc::tracker};
use entrenous_runtime::{Shutdown, Tasks};

use crate::{error::RequestError, metrics};

/// Requests handled at once by each method. More than the pool has connections: some wait for one, at most 6 s.
const CONCURRENCY_MAX: usize = 64;

/// What every method needs. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) database: Database,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Serves every method until the stop.
pub(crate) async fn serve(context: &Context, bus: &Bus, tasks: &Tasks, stop: &Shutdown) -> Result<(), BusError> {
    let options = ServeOptions { concurrency_max: CONCURRENCY_MAX };
    let (advance, list) = (context.clone(), context.clone());
    bus.serve::<tracker::AdvanceCursors, _, _>(tasks, stop, options.clone(), move |request, deadline| {
        answer::<tracker::AdvanceCursors, _>(deadline, advance_cursors::handle(advance.clone(), request))
    })
    .await?;
    bus.serve::<tracker::DeviceCursors, _, _>(tasks, stop, options, move |request, deadline| {
        answer::<tracker::DeviceCursors, _>(deadline, device_cursors::handle(list.clone(), request))
    })
    .await
}

async fn answer<M, F>(deadline: Deadline, work: F) -> Result<M::Response, Failure>
where
    M: Method,
    F: Future<Output = Result<M::Response, RequestError>>,
{
    let outcome = tokio::time::timeout_at(deadline.at(), work).await.unwrap_or(Err(RequestError::Late));
    outcome.map_err(|error| {
        metrics::request_failed(M::NAME, &error);
        error.failure()
    })
}
