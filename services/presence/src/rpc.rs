//! What the service answers: one file for each method.

mod own_status;
mod statuses;

use std::future::Future;

use entrenous_bus::{Bus, BusError, Deadline, ServeOptions};
use entrenous_db::Database;
use entrenous_protocol::{Failure, rpc::Method, rpc::presence};
use entrenous_runtime::{Shutdown, Tasks};

use crate::{error::RequestError, metrics, shared::Shared};

/// Requests handled at once. More than the pool has connections: some wait for one, at most 6 s.
const CONCURRENCY_MAX: usize = 64;

/// What every method needs. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) database: Database,
    pub(crate) shared: Shared,
}

/// Serves every method until the stop.
pub(crate) async fn serve(context: &Context, bus: &Bus, tasks: &Tasks, stop: &Shutdown) -> Result<(), BusError> {
    let server = Server { context, bus, tasks, stop };
    server.method::<presence::Statuses, _, _>(statuses::handle).await?;
    server.method::<presence::SetStatus, _, _>(own_status::set).await?;
    server.method::<presence::GetOwnStatus, _, _>(own_status::get).await
}

struct Server<'a> {
    context: &'a Context,
    bus: &'a Bus,
    tasks: &'a Tasks,
    stop: &'a Shutdown,
}

impl Server<'_> {
    async fn method<M, H, F>(&self, handler: H) -> Result<(), BusError>
    where
        M: Method + 'static,
        H: Fn(Context, M::Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<M::Response, RequestError>> + Send + 'static,
    {
        let options = ServeOptions { concurrency_max: CONCURRENCY_MAX };
        let context = self.context.clone();
        let answer = move |request, deadline| answer::<M, _>(deadline, handler(context.clone(), request));
        self.bus.serve::<M, _, _>(self.tasks, self.stop, options, answer).await
    }
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
