//! What the service answers: one file for each method.

mod advance_cursors;
mod device_cursors;
mod device_messages;
mod entry_receipts;
mod read_cursors;

use std::{future::Future, sync::Arc};

use entrenous_bus::{Bus, BusError, Deadline, LivePublisher, ServeOptions};
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
    pub(crate) bus: Bus,
    pub(crate) live: LivePublisher,
    pub(crate) clock: Arc<dyn Clock>,
    /// For what goes on when its caller has given up.
    pub(crate) tasks: Tasks,
}

/// Serves every method until the stop.
pub(crate) async fn serve(context: &Context, bus: &Bus, tasks: &Tasks, stop: &Shutdown) -> Result<(), BusError> {
    macro_rules! serve {
        ($($method:ident => |$context:ident, $request:ident, $deadline:ident| $handle:expr,)*) => {$(
            let shared = context.clone();
            let options = ServeOptions { concurrency_max: CONCURRENCY_MAX };
            bus.serve::<tracker::$method, _, _>(tasks, stop, options, move |$request, $deadline| {
                let $context = shared.clone();
                answer::<tracker::$method, _>($deadline, $handle)
            })
            .await?;
        )*};
    }
    serve! {
        AdvanceCursors => |context, request, deadline| advance_cursors::handle(context, request, deadline),
        DeviceCursors => |context, request, deadline| device_cursors::handle(context, request),
        ReadCursors => |context, request, deadline| read_cursors::handle(context, request),
        EntryReceipts => |context, request, deadline| entry_receipts::handle(context, request),
        SendDeviceMessages => |context, request, deadline| device_messages::send(context, request),
        ReadDeviceQueues => |context, request, deadline| device_messages::queues(context, request),
        ReadDeviceMessages => |context, request, deadline| device_messages::read(context, request),
        AckDeviceMessages => |context, request, deadline| device_messages::acknowledge(context, request),
        RemoveDeviceQueue => |context, request, deadline| device_messages::remove(context, request),
    }
    Ok(())
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
