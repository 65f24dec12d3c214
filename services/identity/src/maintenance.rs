//! What happens by itself: keys change, old rows go, health is looked at.

use std::time::Duration;

use entrenous_bus::Bus;
use entrenous_db::DbError;
use entrenous_runtime::{Readiness, Shutdown};

use crate::{keyring::KeyringError, metrics::chain, state::AppState, store};

/// How soon it is tried again when the database is away and there is no key yet.
const RETRY: Duration = Duration::from_millis(500);
/// How often it is looked whether PostgreSQL and NATS are there.
const READINESS_INTERVAL: Duration = Duration::from_secs(2);

/// Looks after the keys and deletes old rows until the stop, or until the keys turn out not to be ours.
pub(crate) async fn run(state: AppState, readiness: Readiness, interval: Duration, stop: Shutdown) {
    loop {
        let keys = look_after_keys(&state).await;
        let has_key = state.keyring().signer(state.now()).is_some();
        readiness.set("keys", has_key);
        if keys.is_err() {
            return;
        }
        if has_key {
            delete_expired(&state).await;
        }
        tokio::select! {
            () = stop.triggered() => return,
            () = tokio::time::sleep(if has_key { interval } else { RETRY.min(interval) }) => {}
        }
    }
}

/// An error that passes is only told of.
pub(crate) async fn look_after_keys(state: &AppState) -> Result<(), KeyringError> {
    match state.keyring().maintain(state.database(), state.secrets(), state.now()).await {
        Ok(()) => Ok(()),
        Err(error) if error.is_transient() => {
            tracing::warn!(error = chain(&error), "signing keys not looked after");
            Ok(())
        }
        Err(error) => {
            tracing::error!(error = chain(&error), "signing keys cannot be used");
            Err(error)
        }
    }
}

async fn delete_expired(state: &AppState) {
    let deleted = async {
        let mut connection = state.database().get().await?;
        store::expired::delete(&mut connection, state.limits().failed_logins_window, state.now()).await?;
        Ok::<_, DbError>(())
    };
    if let Err(error) = deleted.await {
        tracing::warn!(error = chain(&error), "old rows not deleted");
    }
}

/// Looks whether PostgreSQL and NATS are there, until the stop.
pub(crate) async fn watch_readiness(state: AppState, bus: Bus, readiness: Readiness, stop: Shutdown) {
    let mut interval = tokio::time::interval(READINESS_INTERVAL);
    loop {
        tokio::select! {
            () = stop.triggered() => return,
            _ = interval.tick() => {}
        }
        readiness.set("nats", bus.state().is_connected());
        tokio::select! {
            () = stop.triggered() => return,
            is_reachable = state.database().is_reachable() => readiness.set("database", is_reachable),
        }
    }
}
