//! The request plane: own correlation table over one inbox per process.
//!
//! async-nats' own `request` keeps a slot for ever when no answer comes (nats-io/nats.rs issue 1617).

mod waiting;

use std::{future::Future, sync::Arc, time::Duration};

use async_nats::{Client, HeaderMap, Message, StatusCode};
use bytes::Bytes;
use entrenous_protocol::{
    Code, Failure,
    rpc::{Method, Reply},
};
use entrenous_runtime::{Shutdown, Tasks, trace};
use futures::StreamExt;
use tokio::{sync::Semaphore, time::Instant};
use tracing::{Instrument as _, Span};

use crate::{Bus, BusError, ConnectionState, subjects};
use waiting::{Answer, Waiting};

/// Header: how long the caller waits, in milliseconds from when it sent the request.
const TIMEOUT_HEADER: &str = "Entrenous-Timeout-Ms";
/// How long a round trip to the server may take.
const FENCE_MAX: Duration = Duration::from_secs(5);
/// How long the server may take to hand over the last requests at a stop.
const DRAIN_MAX: Duration = Duration::from_secs(3);
/// A request without the header is given this long.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// Asks over one connection.
#[derive(Debug)]
pub(crate) struct Calls {
    client: Client,
    inbox: String,
    waiting: Waiting,
}

impl Calls {
    pub(crate) async fn start(
        client: Client,
        service: &'static str,
        state: &ConnectionState,
    ) -> Result<Arc<Self>, BusError> {
        let inbox = subjects::inbox(service, &format!("{:016x}", rand::random::<u64>()));
        let answers =
            client.subscribe(format!("{inbox}.*")).await.map_err(|error| BusError::Subscribe(error.into()))?;
        let calls = Arc::new(Self { client, inbox, waiting: Waiting::default() });
        tokio::spawn(route_answers(Arc::downgrade(&calls), answers));
        tokio::spawn(fail_when_interrupted(Arc::downgrade(&calls), state.clone()));
        Ok(calls)
    }

    /// A round trip: returns when the server has taken everything that this connection sent before. (A request that
    /// nobody serves is answered at once by the server itself; `flush` of async-nats only hands bytes to the kernel.)
    pub(crate) async fn fence(&self) -> Result<(), BusError> {
        let subject = subjects::rpc("nobody", "fence");
        match self.request(subject, HeaderMap::new(), Bytes::new(), FENCE_MAX).await {
            Ok(_) | Err(BusError::NoResponders) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sends a request and awaits its answer.
    pub(crate) async fn request(
        &self,
        subject: String,
        mut headers: HeaderMap,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, BusError> {
        // Before the look at the connection: an interruption after that look tells it.
        let call = self.waiting.ask();
        if self.client.connection_state() != async_nats::connection::State::Connected {
            // It would wait in the client's buffer and be carried out when nobody waits for it any more.
            return Err(BusError::Interrupted);
        }
        headers.insert(TIMEOUT_HEADER, timeout.as_millis().to_string());
        if let Some(parent) = trace::parent_of(&Span::current()) {
            headers.insert(trace::HEADER, parent);
        }
        let reply = format!("{}.{}", self.inbox, call.number());
        let answer = async {
            self.client
                .publish_with_reply_and_headers(subject, reply, headers, body)
                .await
                .map_err(|error| BusError::Publish(error.into()))?;
            call.answer().await
        };
        tokio::time::timeout(timeout, answer).await.unwrap_or(Err(BusError::Timeout))
    }
}

/// Ends with the last user of the table, so that the connection can close.
async fn route_answers(calls: std::sync::Weak<Calls>, mut answers: async_nats::Subscriber) {
    while let Some(message) = answers.next().await {
        let Some(calls) = calls.upgrade() else { return };
        let Some(number) = message.subject.rsplit('.').next().and_then(|number| number.parse().ok()) else {
            continue;
        };
        calls.waiting.answer(number, answer_of(message));
    }
}

async fn fail_when_interrupted(calls: std::sync::Weak<Calls>, state: ConnectionState) {
    let mut known = state.interruptions();
    loop {
        known = state.interrupted_since(known).await;
        match calls.upgrade() {
            Some(calls) => calls.waiting.interrupt(),
            None => return,
        }
    }
}

fn answer_of(message: Message) -> Answer {
    match message.status {
        Some(StatusCode::NO_RESPONDERS) => Err(BusError::NoResponders),
        _ => Ok(message.payload),
    }
}

/// When the caller of a request gives up.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// So long from now.
    pub fn after(timeout: Duration) -> Self {
        Self(Instant::now() + timeout)
    }

    /// What is left; zero when it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// The moment itself.
    pub fn at(self) -> Instant {
        self.0
    }
}

/// How a method is served.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Requests handled at once; those above are answered `unavailable` at once, so that the caller asks elsewhere.
    pub concurrency_max: usize,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self { concurrency_max: 256 }
    }
}

impl Bus {
    /// Asks a service. Every method may be repeated without harm, and core NATS may lose a request (to a replica that has
    /// just died, or just left): without an answer in half the time it is asked once more.
    ///
    /// # Errors
    /// As [`Bus::call_once`].
    pub async fn call<M: Method>(&self, request: &M::Request, timeout: Duration) -> Result<M::Response, Failure> {
        let body = Bytes::from(serde_json::to_vec(request).map_err(|error| internal::<M>(&error))?);
        match self.ask::<M>(body.clone(), timeout / 2).await {
            Err(BusError::Timeout) => answer_of_method::<M>(self.ask::<M>(body, timeout / 2).await),
            answer => answer_of_method::<M>(answer),
        }
    }

    /// Asks a service once, for callers who repeat by themselves.
    ///
    /// # Errors
    /// The service's answer; `unavailable` when nobody answers, the time is over or the connection broke (outcome
    /// unknown); `internal` when the answer cannot be read.
    pub async fn call_once<M: Method>(&self, request: &M::Request, timeout: Duration) -> Result<M::Response, Failure> {
        let body = serde_json::to_vec(request).map_err(|error| internal::<M>(&error))?;
        answer_of_method::<M>(self.ask::<M>(body.into(), timeout).await)
    }

    async fn ask<M: Method>(&self, body: Bytes, timeout: Duration) -> Result<Bytes, BusError> {
        self.calls.request(subjects::rpc(M::SERVICE, M::NAME), HeaderMap::new(), body, timeout).await
    }

    /// Serves a method on the service's queue group until the stop; requests under way then are finished.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn serve<M, H, F>(
        &self,
        tasks: &Tasks,
        shutdown: &Shutdown,
        options: ServeOptions,
        handler: H,
    ) -> Result<(), BusError>
    where
        M: Method + 'static,
        H: Fn(M::Request, Deadline) -> F + Send + Sync + 'static,
        F: Future<Output = Result<M::Response, Failure>> + Send + 'static,
    {
        let requests = self
            .client
            .queue_subscribe(subjects::rpc(M::SERVICE, M::NAME), M::SERVICE.to_owned())
            .await
            .map_err(|error| BusError::Subscribe(error.into()))?;
        // The subscription must stand at the server before the service says that it is ready.
        self.calls.fence().await?;
        let server = Server::<M, H> {
            client: self.client.clone(),
            tasks: tasks.clone(),
            handler: Arc::new(handler),
            slots: Arc::new(Semaphore::new(options.concurrency_max)),
            method: std::marker::PhantomData,
        };
        tasks.spawn_vital(M::NAME, shutdown.clone(), server.run(requests, shutdown.clone()));
        Ok(())
    }
}

fn answer_of_method<M: Method>(answer: Result<Bytes, BusError>) -> Result<M::Response, Failure> {
    let answer = answer.map_err(|error| {
        tracing::debug!(service = M::SERVICE, method = M::NAME, %error, "request failed");
        Failure::unavailable(format!("{} does not answer", M::SERVICE))
    })?;
    match serde_json::from_slice::<Reply<M::Response>>(&answer).map_err(|error| internal::<M>(&error))? {
        Reply::Ok(response) => Ok(response),
        Reply::Err(failure) => Err(failure),
    }
}

struct Server<M, H> {
    client: Client,
    tasks: Tasks,
    handler: Arc<H>,
    slots: Arc<Semaphore>,
    method: std::marker::PhantomData<fn() -> M>,
}

impl<M, H, F> Server<M, H>
where
    M: Method + 'static,
    H: Fn(M::Request, Deadline) -> F + Send + Sync + 'static,
    F: Future<Output = Result<M::Response, Failure>> + Send + 'static,
{
    async fn run(self, mut requests: async_nats::Subscriber, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.triggered() => break,
                message = requests.next() => match message {
                    Some(message) => self.accept(message).await,
                    None => return,
                },
            }
        }
        // Those that have come are answered too. What is on its way when we leave is lost: its caller asks again.
        let drained = async {
            if requests.drain().await.is_ok() {
                while let Some(message) = requests.next().await {
                    self.accept(message).await;
                }
            }
        };
        // A server that is away says nothing more, and its callers ask elsewhere.
        let _ = tokio::time::timeout(DRAIN_MAX, drained).await;
    }

    async fn accept(&self, message: Message) {
        let Some(reply) = message.reply.clone() else {
            return;
        };
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            metrics::counter!("chat_errors_total", "type" => "rpc_overload", "severity" => "warning").increment(1);
            let overload = encode::<M>(&Reply::Err(Failure::unavailable("overloaded")));
            respond(&self.client, reply, overload).await;
            return;
        };
        let deadline = Deadline::after(timeout_of(&message));
        let (client, handler) = (self.client.clone(), Arc::clone(&self.handler));
        let span = tracing::trace_span!(target: trace::TARGET, "serve", service = M::SERVICE, method = M::NAME);
        if let Some(parent) = header(&message, trace::HEADER) {
            trace::follow(&span, parent);
        }
        let work = async move {
            let answer = match serde_json::from_slice::<M::Request>(&message.payload) {
                // Boxed: what is spawned is moved about a few times, and handlers are large.
                Ok(request) => match Box::pin(handler(request, deadline)).await {
                    Ok(response) => Reply::Ok(response),
                    Err(failure) => Reply::Err(failure),
                },
                Err(error) => Reply::Err(internal::<M>(&error)),
            };
            let answer = encode::<M>(&answer);
            respond(&client, reply, answer).await;
            drop(slot);
        };
        self.tasks.spawn(work.instrument(span));
    }
}

fn timeout_of(message: &Message) -> Duration {
    let milliseconds = header(message, TIMEOUT_HEADER).and_then(|value| value.parse().ok());
    milliseconds.map_or(TIMEOUT_DEFAULT, Duration::from_millis)
}

pub(crate) fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    message.headers.as_ref()?.get(name).map(async_nats::HeaderValue::as_str)
}

fn encode<M: Method>(answer: &Reply<M::Response>) -> Vec<u8> {
    serde_json::to_vec(answer).unwrap_or_else(|error| {
        serde_json::to_vec(&Reply::<M::Response>::Err(internal::<M>(&error))).unwrap_or_default()
    })
}

async fn respond(client: &Client, reply: async_nats::Subject, answer: Vec<u8>) {
    if let Err(error) = client.publish(reply, answer.into()).await {
        tracing::debug!(%error, "an answer was not sent");
    }
}

fn internal<M: Method>(error: &dyn std::error::Error) -> Failure {
    tracing::error!(service = M::SERVICE, method = M::NAME, %error, "a request or answer cannot be read or written");
    Failure::new(Code::Internal, "")
}
