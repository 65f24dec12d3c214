//! What the service answers: one file for each method or small group of them.

mod acts;
pub(crate) mod append;
mod attach;
mod change;
mod channels;
mod conversations;
mod create;
mod directs;
mod history;
mod invites;
mod joins;
mod members;
mod people;
mod privacy;
mod ranges;
mod reads;
mod roles;
mod scheduled;
mod screen;
mod search;
mod settings;
mod unread;

use std::{future::Future, sync::Arc, time::Duration};

use entrenous_bus::{Bus, BusError, Deadline, ServeOptions};
use entrenous_db::{Database, DbError};
use entrenous_model::{Clock, IdGenerator};
use entrenous_protocol::{Failure, rpc::Method, rpc::store};
use entrenous_runtime::{Shutdown, Tasks};
use tokio::{sync::Notify, time::Instant};

use crate::{
    digest::DigestKey,
    error::RequestError,
    metrics::Metrics,
    moderation::Moderation,
    publish::{Incarnation, Publisher},
    store::devices,
};

/// Requests handled at once by each method. More than the pool has connections: some wait for one, a few seconds at most.
const CONCURRENCY_MAX: usize = 256;

/// How long a request may take, whatever time its caller gives.
pub(crate) const REQUEST_MAX: Duration = Duration::from_secs(10);

/// What every method needs. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// For everything but appends, which must find a connection when reads want them all.
    pub(crate) database: Database,
    /// For appends.
    pub(crate) appends: Database,
    pub(crate) bus: Bus,
    pub(crate) tasks: Tasks,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: IdGenerator,
    pub(crate) metrics: Metrics,
    pub(crate) digest_key: DigestKey,
    pub(crate) publisher: Publisher,
    pub(crate) incarnation: Incarnation,
    pub(crate) known_directs: directs::KnownDirects,
    pub(crate) known_encryptions: screen::KnownEncryptions,
    pub(crate) moderation: Arc<Moderation>,
    pub(crate) bounds: Bounds,
    /// Wakes whoever sends scheduled messages: something may be due sooner.
    pub(crate) due_sooner: Arc<Notify>,
    /// How long after its time a feed row may become visible, at most.
    pub(crate) late_max: Duration,
}

/// Limits in force.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) group_members: u32,
    pub(crate) channel_members: u32,
    pub(crate) conversations_per_user: u32,
    pub(crate) scheduled_messages: u32,
}

pub(crate) use directs::KnownDirects;
pub(crate) use screen::KnownEncryptions;

impl Context {
    /// A connection, within the time that the caller gives.
    async fn connection(&self, deadline: Deadline) -> Result<entrenous_db::Connection, RequestError> {
        connection_of(&self.database, deadline).await
    }

    /// A connection for what sends need.
    async fn append_connection(&self, deadline: Deadline) -> Result<entrenous_db::Connection, RequestError> {
        connection_of(&self.appends, deadline).await
    }

    /// Does a write in a task of its own, so that a caller who gives up cannot end it half-way; what it has to publish it
    /// publishes itself.
    fn write<T, F>(&self, deadline: Deadline, work: F) -> impl Future<Output = Result<T, RequestError>> + use<T, F>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, RequestError>> + Send + 'static,
    {
        // Begun before anybody awaits it, so that the work, which is large, is not moved about with its caller.
        let task = self.tasks.spawn(work);
        async move { tokio::time::timeout_at(deadline.at(), task).await.map_err(|_| RequestError::Late)?? }
    }

    /// Measures a statement or transaction.
    async fn measured<T>(&self, operation: &'static str, work: impl Future<Output = T>) -> T {
        let start = Instant::now();
        let result = work.await;
        self.metrics.statement(operation, start.elapsed());
        result
    }

    /// The incarnation, read where it is not known yet: live frames carry it.
    async fn know_incarnation(&self, connection: &mut entrenous_db::Connection) -> Result<(), DbError> {
        if self.incarnation.get() == 0 {
            self.incarnation.set(devices::read_incarnation(connection).await?);
        }
        Ok(())
    }

    fn now(&self) -> chrono::DateTime<chrono::Utc> {
        self.clock.now().as_datetime()
    }
}

async fn connection_of(database: &Database, deadline: Deadline) -> Result<entrenous_db::Connection, RequestError> {
    let connection = tokio::time::timeout_at(deadline.at(), database.get()).await;
    Ok(connection.map_err(|_| RequestError::Late)??)
}

/// Serves every method until the stop.
pub(crate) async fn serve(context: &Context, bus: &Bus, tasks: &Tasks, stop: &Shutdown) -> Result<(), BusError> {
    macro_rules! serve {
        ($($method:ident => $handle:path,)*) => {$(
            let handler = context.clone();
            let options = ServeOptions { concurrency_max: CONCURRENCY_MAX };
            bus.serve::<store::$method, _, _>(tasks, stop, options, move |request, deadline| {
                let deadline = Deadline::after(deadline.remaining().min(REQUEST_MAX));
                answer::<store::$method, _>(handler.metrics, deadline, $handle(handler.clone(), request, deadline))
            })
            .await?;
        )*};
    }
    serve! {
        Append => append::handle,
        Act => acts::handle,
        Create => create::handle,
        GetConversation => conversations::get,
        ListConversations => conversations::list,
        ListMembers => conversations::members,
        AddMember => members::add,
        RemoveMember => members::remove,
        UpdateConversation => settings::update,
        DeleteConversation => settings::delete,
        SetOwnSettings => settings::set_own,
        SetRole => roles::set,
        BanMember => roles::ban,
        UnbanMember => roles::unban,
        ListBans => roles::list_bans,
        CreateInvite => invites::create,
        ListInvites => invites::list,
        RevokeInvite => invites::revoke,
        Join => joins::join,
        ListChannels => joins::list_channels,
        History => history::list,
        GetMessage => history::get,
        ListPins => history::pins,
        ListReactions => history::reactions,
        Search => search::handle,
        ReadUnread => unread::read,
        ListUnread => unread::list,
        ReadAuthors => unread::authors,
        ReadRanges => ranges::handle,
        ReadMemberships => reads::memberships,
        Heads => reads::heads,
        ChangedSince => reads::changed_since,
        CheckConnections => reads::check_connections,
        Attach => attach::handle,
        AddDevice => attach::add_device,
        TakePrivacy => privacy::take,
        ReadVisible => privacy::visible,
        ReadBlocked => privacy::blocked,
        Schedule => scheduled::schedule,
        ListScheduled => scheduled::list,
        ChangeScheduled => scheduled::change,
        CancelScheduled => scheduled::cancel,
    }
    Ok(())
}

async fn answer<M, F>(metrics: Metrics, deadline: Deadline, work: F) -> Result<M::Response, Failure>
where
    M: Method,
    F: Future<Output = Result<M::Response, RequestError>>,
{
    let start = Instant::now();
    let outcome = tokio::time::timeout_at(deadline.at(), work).await.unwrap_or(Err(RequestError::Late));
    metrics.answered(M::NAME, start.elapsed());
    outcome.map_err(|error| {
        metrics.request_failed(M::NAME, &error);
        error.failure()
    })
}

/// How long `identity` may take to answer.
const IDENTITY_MAX: Duration = Duration::from_secs(2);
