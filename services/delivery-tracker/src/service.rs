//! From settings to a running service, and its orderly stop.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use entrenous_bus::Bus;
use entrenous_db::Database;
use entrenous_model::SystemClock;
use entrenous_runtime::{AdminServer, Readiness, Shutdown, Tasks};

use crate::{Config, SERVICE, expiry, metrics, rpc};

/// How often it is looked whether PostgreSQL and NATS are there.
const READINESS_INTERVAL: Duration = Duration::from_secs(2);

/// Runs the service until the stop.
///
/// # Errors
/// When NATS is away at the start, a port is taken, or a part that it cannot do without ended by itself.
pub async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    Service::build(&config).await?.serve(shutdown).await
}

/// The service, connected and not yet serving.
#[derive(Debug)]
pub struct Service {
    admin: AdminServer,
    readiness: Readiness,
    bus: Bus,
    database: Database,
}

impl Service {
    /// Binds the admin port and connects. PostgreSQL may be away: the service is not ready until it comes.
    ///
    /// # Errors
    /// When NATS is away or the admin port is taken.
    pub async fn build(config: &Config) -> anyhow::Result<Self> {
        let readiness = Readiness::new();
        for check in ["serving", "database", "nats"] {
            readiness.set(check, false);
        }
        let admin = AdminServer::bind(config.process.admin_addr, readiness.clone())?;
        let database = Database::new(&config.db, SERVICE)?;
        let bus = Bus::connect(&config.nats, SERVICE).await?;
        Ok(Self { admin, readiness, bus, database })
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
    /// When a part that the service cannot do without ended by itself.
    pub async fn serve(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self { admin, readiness, bus, database } = self;
        // A child, so that the end of a vital task stops this service and can be told from being asked to stop.
        let stop = shutdown.child();
        let admin_stop = Shutdown::new();
        let admin = tokio::spawn(admin.serve(admin_stop.clone()));
        let tasks = Tasks::new();
        metrics::describe();
        let live = bus.live_publisher().await?;
        let clock = Arc::new(SystemClock);
        let context = rpc::Context { database: database.clone(), bus: bus.clone(), live, clock, tasks: tasks.clone() };
        rpc::serve(&context, &bus, &tasks, &stop).await.context("cannot serve requests")?;
        let expiry = expiry::run(database.clone(), Arc::clone(&context.clock), stop.clone());
        tasks.spawn_vital("expiry", stop.clone(), expiry);
        readiness.set("serving", true);
        let watch = watch_readiness(readiness.clone(), bus.clone(), database.clone(), stop.clone());
        tasks.spawn_vital("readiness", stop.clone(), watch);

        stop.triggered().await;
        readiness.set("serving", false);
        if !tasks.end().await {
            tracing::warn!("requests were still under way at the end");
        }
        bus.close().await;
        database.close();
        admin_stop.trigger();
        admin.await.context("the admin port's task")?.context("the admin port")?;
        anyhow::ensure!(shutdown.is_triggered(), "a vital task ended by itself");
        Ok(())
    }
}

async fn watch_readiness(readiness: Readiness, bus: Bus, database: Database, stop: Shutdown) {
    let mut interval = tokio::time::interval(READINESS_INTERVAL);
    loop {
        tokio::select! {
            () = stop.triggered() => return,
            _ = interval.tick() => {}
        }
        readiness.set("nats", bus.state().is_connected());
        tokio::select! {
            () = stop.triggered() => return,
            is_reachable = database.is_reachable() => readiness.set("database", is_reachable),
        }
    }
}
