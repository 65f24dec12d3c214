//! From settings to a running service, and its orderly stop.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use entrenous_bus::{Bus, BusError, subjects};
use entrenous_db::Database;
use entrenous_model::{Clock, IdGenerator, SystemClock};
use entrenous_runtime::{AdminServer, Readiness, Shutdown, Tasks};
use uuid::Uuid;

use crate::{Config, SERVICE, choices, last_seen, listener, metrics, replicas, rpc, shared::Shared, teller};

/// How often it is looked whether PostgreSQL and NATS are there.
const READINESS_INTERVAL: Duration = Duration::from_secs(2);
/// How often a new process looks whether it knows enough to answer.
const WARM_UP_INTERVAL: Duration = Duration::from_millis(100);
/// A process that has listened for so long answers with what it knows: gateways give their lists within a second or two.
const WARM_UP_MAX: Duration = Duration::from_secs(20);

/// Runs the service until the stop.
///
/// # Errors
/// When NATS is away at the start, a port is taken, or a part that it cannot do without ended by itself.
pub async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    Service::build(config).await?.serve(shutdown).await
}

/// The service, connected and not yet listening.
#[derive(Debug)]
pub struct Service {
    config: Config,
    clock: Arc<dyn Clock>,
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
    pub async fn build(config: Config) -> anyhow::Result<Self> {
        let readiness = Readiness::new();
        for check in ["serving", "database", "nats"] {
            readiness.set(check, false);
        }
        let admin = AdminServer::bind(config.process.admin_addr, readiness.clone())?;
        let database = Database::new(&config.db, SERVICE)?;
        let bus = Bus::connect(&config.nats, SERVICE).await?;
        Ok(Self { config, clock: Arc::new(SystemClock), admin, readiness, bus, database })
    }

    /// Takes the wall clock from elsewhere.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Where the admin port is.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin.addr()
    }

    /// Whether it can do its work.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Listens, answers once it knows enough, and works until the stop: then takes no more requests, finishes those that
    /// it has, writes what is left to write, and closes its connections.
    ///
    /// # Errors
    /// When a part that the service cannot do without ended by itself.
    pub async fn serve(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self { config, clock, admin, readiness, bus, database } = self;
        // A child, so that the end of a vital task stops this service and can be told from being asked to stop.
        let stop = shutdown.child();
        let admin_stop = Shutdown::new();
        let admin = tokio::spawn(admin.serve(admin_stop.clone()));
        let tasks = Tasks::new();
        metrics::describe();
        let replica_id = IdGenerator.next();
        let shared = Shared::new(&config, replica_id, clock);
        let context = rpc::Context { database: database.clone(), shared: shared.clone() };
        let parts = Parts { context: &context, bus: &bus, tasks: &tasks, stop: &stop };
        parts.listen().await.context("cannot hear gateways and replicas")?;
        parts.start(replica_id);
        listener::ask(&bus, None).await;
        let watch = watch_readiness(readiness.clone(), bus.clone(), database.clone(), stop.clone());
        tasks.spawn_vital("readiness", stop.clone(), watch);

        if warmed_up(&shared, config.warm_up(), &stop).await {
            rpc::serve(&context, &bus, &tasks, &stop).await.context("cannot serve requests")?;
            shared.set_ready(true);
            readiness.set("serving", true);
        }
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

/// What the tasks need.
struct Parts<'a> {
    context: &'a rpc::Context,
    bus: &'a Bus,
    tasks: &'a Tasks,
    stop: &'a Shutdown,
}

impl Parts<'_> {
    /// Hears from here on what is broadcast.
    async fn listen(&self) -> Result<(), BusError> {
        let Self { context, bus, tasks, stop } = *self;
        let (to_reports, to_replicas) = (context.shared.clone(), context.shared.clone());
        let reports = bus.hear(subjects::PRESENCE_REPORT).await?;
        let replicas = bus.hear(subjects::PRESENCE_REPLICA).await?;
        let hear = listener::hear(reports, move |report| to_reports.report(report), stop.clone());
        tasks.spawn_vital("reports", stop.clone(), hear);
        let hear = listener::hear(replicas, move |beat| to_replicas.hear_replica(beat), stop.clone());
        tasks.spawn_vital("replicas", stop.clone(), hear);
        Ok(())
    }

    fn start(&self, replica_id: Uuid) {
        let Self { context, bus, tasks, stop } = *self;
        let rpc::Context { database, shared } = context;
        let parts = || (shared.clone(), database.clone(), stop.clone());
        let time = listener::keep_time(shared.clone(), bus.clone(), stop.clone());
        tasks.spawn_vital("time", stop.clone(), time);
        tasks.spawn_vital("beat", stop.clone(), replicas::beat(shared.clone(), bus.clone(), stop.clone()));
        let (shared, database, stop) = parts();
        tasks.spawn_vital("choices", stop.clone(), choices::learn(shared, database, stop));
        let (shared, database, stop) = parts();
        tasks.spawn_vital("tell", stop.clone(), teller::tell(shared, database, bus.clone(), replica_id, stop));
        let (shared, database, stop) = parts();
        tasks.spawn_vital("last_seen", stop.clone(), last_seen::write(shared, database, stop));
    }
}

/// Waits until every gateway must have reported, and all that did have reported in full; false when the stop came first.
async fn warmed_up(shared: &Shared, warm_up: Duration, stop: &Shutdown) -> bool {
    let listened = async {
        tokio::time::sleep(warm_up).await;
        while !shared.incomplete().is_empty() {
            tokio::time::sleep(WARM_UP_INTERVAL).await;
        }
    };
    tokio::select! {
        () = stop.triggered() => false,
        _ = tokio::time::timeout(WARM_UP_MAX, listened) => true,
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
