//! From settings to a running service, and its orderly stop.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use entrenous_bus::Bus;
use entrenous_db::Database;
use entrenous_model::{Clock, SystemClock};
use entrenous_runtime::{AdminServer, Readiness, Shutdown, Tasks};

use crate::{
    Config, SERVICE,
    domain::{rotation::Rotation, secrets::Secrets},
    keyring::Keyring,
    maintenance, metrics,
    passwords::Passwords,
    privacy, rpc,
    state::{AppState, Parts},
};

/// Runs the service until the stop.
///
/// # Errors
/// When NATS is away at the start, a port is taken, or a part that it cannot do without ended by itself.
pub async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    Service::build(&config, Arc::new(SystemClock)).await?.serve(shutdown).await
}

/// The service, connected and not yet serving.
#[derive(Debug)]
pub struct Service {
    admin: AdminServer,
    readiness: Readiness,
    bus: Bus,
    state: AppState,
    maintenance_interval: Duration,
}

impl Service {
    /// Binds the admin port and connects. PostgreSQL may be away: the service is not ready until it comes.
    ///
    /// # Errors
    /// When a setting is wrong, NATS is away or the admin port is taken.
    pub async fn build(config: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        config.validate()?;
        metrics::describe();
        let readiness = Readiness::new();
        for check in ["serving", "database", "nats", "keys"] {
            readiness.set(check, false);
        }
        let admin = AdminServer::bind(config.process.admin_addr, readiness.clone())?;
        let bus = Bus::connect(&config.nats, SERVICE).await?;
        let state = build_state(config, &bus, clock).await?;
        let maintenance_interval = Duration::from_millis(u64::from(config.identity_maintenance_interval_ms));
        Ok(Self { admin, readiness, bus, state, maintenance_interval })
    }

    /// Where the admin port is.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin.addr()
    }

    /// Whether it can do its work.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Serves until the stop: then takes no more requests, finishes those that it has, and closes its connections.
    ///
    /// # Errors
    /// When a part that the service cannot do without ended by itself, or the signing keys in the database were sealed
    /// with another secret.
    pub async fn serve(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self { admin, readiness, bus, state, maintenance_interval } = self;
        // A child, so that the end of a vital task stops this service and can be told from being asked to stop.
        let stop = shutdown.child();
        let admin_stop = Shutdown::new();
        let admin = tokio::spawn(admin.serve(admin_stop.clone()));
        let tasks = Tasks::new();
        let maintained = maintenance::look_after_keys(&state).await;
        if maintained.is_ok() {
            rpc::serve(&state, &bus, &tasks, &stop).await.context("cannot serve requests")?;
            readiness.set("serving", true);
            spawn_maintenance(&state, &bus, &readiness, maintenance_interval, &tasks, &stop);
            stop.triggered().await;
            readiness.set("serving", false);
        }
        if !tasks.end().await {
            tracing::warn!("requests were still under way at the end");
        }
        // Announcements that are still in the buffer.
        if let Err(error) = state.live().fence().await {
            tracing::warn!(error = metrics::chain(&error), "announcements may be lost");
        }
        bus.close().await;
        state.database().close();
        admin_stop.trigger();
        admin.await.context("the admin port's task")?.context("the admin port")?;
        maintained.context("the signing keys")?;
        anyhow::ensure!(shutdown.is_triggered(), "a vital task ended by itself");
        Ok(())
    }
}

fn spawn_maintenance(
    state: &AppState,
    bus: &Bus,
    readiness: &Readiness,
    interval: Duration,
    tasks: &Tasks,
    stop: &Shutdown,
) {
    let maintenance = maintenance::run(state.clone(), readiness.clone(), interval, stop.clone());
    tasks.spawn_vital("maintenance", stop.clone(), maintenance);
    tasks.spawn_vital("privacy", stop.clone(), privacy::run(state.clone(), interval, stop.clone()));
    let watch = maintenance::watch_readiness(state.clone(), bus.clone(), readiness.clone(), stop.clone());
    tasks.spawn_vital("readiness", stop.clone(), watch);
}

async fn build_state(config: &Config, bus: &Bus, clock: Arc<dyn Clock>) -> anyhow::Result<AppState> {
    let limits = config.limits();
    let secrets = Secrets::parse(&config.identity_key_encryption_key).context("IDENTITY_KEY_ENCRYPTION_KEY")?;
    let rotation = Rotation {
        every: Duration::from_secs(u64::from(config.identity_key_rotation_seconds)),
        publish_ahead: Duration::from_secs(u64::from(config.identity_key_publish_ahead_seconds)),
        access_token: limits.access_token,
    };
    let (cost, running_max, waiting_max) =
        (config.hash_cost(), config.identity_hashes_max.get(), config.identity_hash_queue_max);
    let passwords = tokio::task::spawn_blocking(move || Passwords::new(cost, running_max, waiting_max)).await??;
    Ok(AppState::new(Parts {
        database: Database::new(&config.db, SERVICE)?,
        bus: bus.clone(),
        live: bus.live_publisher().await?,
        keyring: Keyring::new(rotation),
        passwords,
        secrets,
        clock,
        limits,
        tokens: config.tokens.clone(),
    }))
}
