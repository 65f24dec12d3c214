//! Making connections: TLS, the password's proof and settings, which together cost far more than most statements.
//!
//! After PostgreSQL was away every caller wants a connection at once and gives up soon. So only a few are made at a time,
//! and what its caller no longer waits for is kept for the next one: else nobody would ever get one.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use diesel::ConnectionError;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection, pooled_connection::PoolableConnection};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::sync::{Semaphore, oneshot};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Connections being made at once by one process.
const AT_ONCE: usize = 2;
/// How long making one may take: a server that hangs must not hold the slots.
const MAKE_MAX: Duration = Duration::from_secs(3);

type Made = diesel::ConnectionResult<AsyncPgConnection>;

/// Makes the connections of a pool.
pub(crate) struct Connector {
    settings: String,
    slots: Arc<Semaphore>,
    /// Made for somebody who no longer waits.
    spare: Mutex<Vec<AsyncPgConnection>>,
}

impl Connector {
    pub(crate) fn new(application: &str, statement_timeout_ms: u32) -> Self {
        // Every statement is short. With JIT one whose plan has no index counts as dear under `enable_seqscan = off`, and
        // is compiled each time: 20 ms and more.
        let settings = format!(
            "SET application_name = '{application}'; SET statement_timeout = {statement_timeout_ms}; \
             SET idle_in_transaction_session_timeout = {statement_timeout_ms}; SET jit = off"
        );
        Self { settings, slots: Arc::new(Semaphore::new(AT_ONCE)), spare: Mutex::default() }
    }

    /// A connection, new or spare.
    pub(crate) async fn connect(self: Arc<Self>, url: String) -> Made {
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(|error| bad(&error))?;
        if let Some(spare) = self.take_spare() {
            return Ok(spare);
        }
        let (wanted, made) = oneshot::channel();
        // A task of its own, which goes on when the caller gives up.
        tokio::spawn(async move {
            let made = tokio::time::timeout(MAKE_MAX, self.make(&url)).await.unwrap_or_else(|late| Err(bad(&late)));
            if let Err(Ok(unwanted)) = wanted.send(made) {
                self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(unwanted);
            }
            drop(slot);
        });
        made.await.unwrap_or_else(|error| Err(bad(&error)))
    }

    fn take_spare(&self) -> Option<AsyncPgConnection> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| spare.pop()).find_map(|mut one| (!one.is_broken()).then_some(one))
    }

    async fn make(&self, url: &str) -> Made {
        let mut connection = establish(url).await?;
        connection.batch_execute(&self.settings).await.map_err(ConnectionError::CouldntSetupConfiguration)?;
        Ok(connection)
    }
}

/// A connection outside any pool, over TLS where the server offers it.
pub(crate) async fn establish(url: &str) -> Made {
    let (client, connection) = tokio_postgres::connect(url, tls()?).await.map_err(|error| bad(&error))?;
    AsyncPgConnection::try_from_client_and_connection(client, connection).await
}

/// Read once: the roots that the system trusts are many.
fn tls() -> diesel::ConnectionResult<MakeRustlsConnect> {
    static TLS: OnceLock<MakeRustlsConnect> = OnceLock::new();
    if let Some(tls) = TLS.get() {
        return Ok(tls.clone());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(BuilderVerifierExt::with_platform_verifier)
        .map_err(|error| bad(&error))?
        .with_no_client_auth();
    Ok(TLS.get_or_init(|| MakeRustlsConnect::new(config)).clone())
}

fn bad(error: &dyn std::fmt::Display) -> ConnectionError {
    ConnectionError::BadConnection(error.to_string())
}
