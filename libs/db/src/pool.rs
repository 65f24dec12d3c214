//! Connections, pooled, with a bounded wait.

use std::{
    num::NonZeroUsize,
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use diesel_async::{
    AsyncPgConnection, SimpleAsyncConnection,
    pooled_connection::{
        AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
        deadpool::{Object, Pool},
    },
};
use entrenous_config::Secret;
use futures::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::connect::Connector;

/// How long making a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// How long a caller waits for a free connection before it is told that there is none.
const WAIT_MAX: Duration = Duration::from_secs(3);

/// Settings of the database.
#[derive(Debug, Clone, clap::Args)]
pub struct DbConfig {
    /// Where PostgreSQL is: `postgres://user:password@host:port/database?sslmode=…` (TLS unless `sslmode=disable`, or where the server offers none and `sslmode` is not `require`).
    #[arg(long, env)]
    pub database_url: Secret,
    /// Connections at most.
    #[arg(long, env, default_value = "16")]
    pub database_connections_max: NonZeroUsize,
    /// A statement that runs longer is ended by PostgreSQL.
    #[arg(long, env, default_value_t = 10_000)]
    pub database_statement_timeout_ms: u32,
}

/// Why there is no connection, or why a statement failed.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// All connections are in use, or none can be made.
    #[error("no database connection")]
    NoConnection(#[source] diesel_async::pooled_connection::deadpool::PoolError),
    /// All connections that work of this kind may have are in use.
    #[error("no database connection is left for this")]
    ShareUsedUp,
    /// The pool cannot be set up.
    #[error("the database pool cannot be set up")]
    Setup(#[source] deadpool::managed::BuildError),
    /// A statement failed.
    #[error("database statement failed")]
    Query(#[from] diesel::result::Error),
}

impl DbError {
    /// Whether the same statement may succeed if it is tried again soon.
    pub fn is_transient(&self) -> bool {
        use diesel::result::{DatabaseErrorKind, Error};
        match self {
            Self::NoConnection(_) | Self::ShareUsedUp => true,
            Self::Query(Error::DatabaseError(kind, info)) => {
                matches!(
                    kind,
                    DatabaseErrorKind::SerializationFailure
                        | DatabaseErrorKind::ClosedConnection
                        | DatabaseErrorKind::UnableToSendCommand
                ) || is_shutdown_message(info.message())
            }
            Self::Setup(_) | Self::Query(_) => false,
        }
    }
}

/// What a server says that stops, crashes or gave up on a lock or deadline: nothing was decided.
fn is_shutdown_message(message: &str) -> bool {
    [
        "deadlock detected",
        "lock timeout",
        "statement timeout",
        "terminating connection",
        "connection closed",
        "the database system is",
        "error communicating with the server",
    ]
    .iter()
    .any(|part| message.contains(part))
}

/// A connection from the pool; goes back when dropped.
pub struct Connection {
    connection: Object<AsyncPgConnection>,
    // After the connection, so that it is free when the next one may have it.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Deref for Connection {
    type Target = AsyncPgConnection;

    fn deref(&self) -> &AsyncPgConnection {
        &self.connection
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut AsyncPgConnection {
        &mut self.connection
    }
}

/// The pool. Cheap to clone.
#[derive(Clone)]
pub struct Database {
    pool: Pool<AsyncPgConnection>,
    share: Option<Arc<Semaphore>>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("status", &self.pool.status()).finish_non_exhaustive()
    }
}

impl Database {
    /// Sets the pool up; connections are made when they are needed.
    ///
    /// `application` is shown by `pg_stat_activity`.
    ///
    /// # Errors
    /// When the pool cannot be set up; not when PostgreSQL is away.
    pub fn new(config: &DbConfig, application: &'static str) -> Result<Self, DbError> {
        let connector = Arc::new(Connector::new(application, config.database_statement_timeout_ms));
        let mut manager = ManagerConfig::default();
        // A broken connection shows itself at its first use, and every write can be repeated: no round trip for it.
        manager.recycling_method = RecyclingMethod::Fast;
        manager.custom_setup = Box::new(move |url| Arc::clone(&connector).connect(url.to_owned()).boxed());
        let manager = AsyncDieselConnectionManager::new_with_config(config.database_url.expose(), manager);
        let pool = Pool::builder(manager)
            .max_size(config.database_connections_max.get())
            // The one used last: its backend has its plans and tables still in the processor's caches.
            .queue_mode(deadpool::managed::QueueMode::Lifo)
            .wait_timeout(Some(WAIT_MAX))
            .create_timeout(Some(CONNECT_MAX))
            .recycle_timeout(Some(CONNECT_MAX))
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .map_err(DbError::Setup)?;
        Ok(Self { pool, share: None })
    }

    /// The same pool, for work that must leave some of it to others: at most so many connections at once, one at least.
    #[must_use]
    pub fn share(&self, connections: usize) -> Self {
        Self { pool: self.pool.clone(), share: Some(Arc::new(Semaphore::new(connections.max(1)))) }
    }

    /// A connection.
    ///
    /// # Errors
    /// [`DbError::NoConnection`] after at most 6 s, [`DbError::ShareUsedUp`] after 3 s.
    pub async fn get(&self) -> Result<Connection, DbError> {
        let permit = match &self.share {
            Some(share) => Some(permit_of(share).await?),
            None => None,
        };
        let connection = self.pool.get().await.map_err(DbError::NoConnection)?;
        let status = self.pool.status();
        metrics::gauge!("chat_db_connections_total").set(count(status.size));
        metrics::gauge!("chat_db_connections_active").set(count(status.size.saturating_sub(status.available)));
        Ok(Connection { connection, _permit: permit })
    }

    /// Whether PostgreSQL answers.
    pub async fn is_reachable(&self) -> bool {
        match self.get().await {
            Ok(mut connection) => connection.batch_execute("SELECT 1").await.is_ok(),
            Err(_) => false,
        }
    }

    /// Drops all connections and gives none any more.
    pub fn close(&self) {
        self.pool.close();
    }
}

async fn permit_of(share: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, DbError> {
    let permit = tokio::time::timeout(WAIT_MAX, Arc::clone(share).acquire_owned()).await;
    permit.ok().and_then(Result::ok).ok_or(DbError::ShareUsedUp)
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a count of connections")]
fn count(connections: usize) -> f64 {
    connections as f64
}
