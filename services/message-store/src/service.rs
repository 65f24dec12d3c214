//! From settings to a running service, and its orderly stop.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use entrenous_bus::Bus;
use entrenous_db::{Database, DbConfig, DbError};
use entrenous_model::{IdGenerator, SystemClock};
use entrenous_runtime::{AdminServer, Readiness, Shutdown, Tasks};
use tokio::time::Instant;

use crate::{
    Config, SERVICE,
    digest::DigestKey,
    drain, expire,
    metrics::Metrics,
    moderation::Moderation,
    publish::{Incarnation, Means, Publisher},
    recount,
    rpc::{self, Bounds, KnownDirects, KnownEncryptions},
    scheduler,
    store::{devices, feed, search},
    tidy,
};

/// How often it is looked whether PostgreSQL and NATS are there, and whether the incarnation is another one.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// How often the feed's partitions are made for the next hour.
const PARTITIONS_INTERVAL: Duration = Duration::from_secs(60);
/// How long a commit itself may take.
const COMMIT_MAX: Duration = Duration::from_secs(5);
/// In place of a `statement_timeout` that is switched off.
const STATEMENT_MAX: Duration = Duration::from_secs(600);

/// Runs the service until the stop.
///
/// # Errors
/// When a setting is wrong, NATS is away at the start, a port is taken, or a part that it cannot do without ended by itself.
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
    /// Connections that everything but appends may use at once.
    others_max: usize,
    digest_key: DigestKey,
    moderation: Moderation,
    search_language: String,
    scheduled_kept_days: u16,
    tasks: Tasks,
    bounds: Bounds,
    late_max: Duration,
    publishes: bool,
}

impl Service {
    /// Binds the admin port and connects. PostgreSQL may be away: the service is not ready until it comes.
    ///
    /// # Errors
    /// When a setting is wrong, NATS is away or the admin port is taken.
    pub async fn build(config: &Config) -> anyhow::Result<Self> {
        let digest_key = DigestKey::parse(config.entry_digest_key.expose())?;
        let bounds = Bounds {
            group_members: config.group_members_max.get(),
            channel_members: config.channel_members_max.get(),
            conversations_per_user: config.conversations_per_user_max.get(),
            scheduled_messages: config.scheduled_messages_max.get(),
        };
        let tasks = Tasks::new();
        let moderation = Moderation::new(&config.moderation, &tasks)?;
        let readiness = Readiness::new();
        for check in ["serving", "database", "nats"] {
            readiness.set(check, false);
        }
        let admin = AdminServer::bind(config.process.admin_addr, readiness.clone())?;
        let database = Database::new(&config.db, SERVICE)?;
        let bus = Bus::connect(&config.nats, SERVICE).await?;
        let connections = config.db.database_connections_max.get();
        let others_max = connections - connections / 4;
        let late_max = late_max(&config.db);
        Ok(Self {
            admin,
            readiness,
            bus,
            database,
            others_max,
            digest_key,
            moderation,
            search_language: config.search_language.clone(),
            scheduled_kept_days: config.scheduled_messages_kept_days,
            tasks,
            bounds,
            late_max,
            publishes: true,
        })
    }

    /// For tests: commits, and does nothing afterwards: no publishing, no marks, no sweeping, as if the process died at that
    /// moment each time.
    #[must_use]
    pub fn dying_after_commits(self) -> Self {
        Self { publishes: false, ..self }
    }

    /// Where the admin port is.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin.addr()
    }

    /// Whether it can do its work.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Serves until the stop: then takes no more requests, finishes those that it has, publishes what they stored, and
    /// closes its connections.
    ///
    /// # Errors
    /// When a part that the service cannot do without ended by itself.
    pub async fn serve(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self { admin, readiness, bus, database, others_max, digest_key, bounds, late_max, publishes, .. } = self;
        let Self { moderation, search_language, scheduled_kept_days, tasks, .. } = self;
        // A child, so that the end of a vital task stops this service and can be told from being asked to stop.
        let stop = shutdown.child();
        let admin_stop = Shutdown::new();
        let admin = tokio::spawn(admin.serve(admin_stop.clone()));
        let metrics = Metrics::describe();
        let incarnation = Incarnation::default();
        let watch = Watch {
            readiness: readiness.clone(),
            bus: bus.clone(),
            database: database.clone(),
            incarnation: incarnation.clone(),
            search_language,
        };
        {
            let clock = Arc::new(SystemClock);
            let means = Means {
                bus: bus.clone(),
                database: database.clone(),
                clock: clock.clone(),
                incarnation: incarnation.clone(),
                metrics,
                late_max,
            };
            let publisher =
                if publishes { Publisher::start(means, &tasks, &stop).await? } else { Publisher::lost(metrics) };
            let context = rpc::Context {
                database: database.share(others_max),
                appends: database.clone(),
                bus: bus.clone(),
                tasks: tasks.clone(),
                clock,
                ids: IdGenerator,
                metrics,
                digest_key,
                publisher,
                incarnation,
                known_directs: KnownDirects::default(),
                known_encryptions: KnownEncryptions::default(),
                moderation: Arc::new(moderation),
                bounds,
                due_sooner: Arc::default(),
                late_max,
            };
            rpc::serve(&context, &bus, &tasks, &stop).await.context("cannot serve requests")?;
            if publishes {
                tasks.spawn_vital("scheduler", stop.clone(), scheduler::run(context, stop.clone()));
            }
            // The context ends here: what publishes ends when the last handler has.
        }
        readiness.set("serving", true);
        if publishes {
            let draining = drain::run(database.clone(), bus.clone(), metrics, stop.clone());
            tasks.spawn_vital("drain", stop.clone(), draining);
        }
        tasks.spawn_vital("recount", stop.clone(), recount::run(database.clone(), metrics, stop.clone()));
        tasks.spawn_vital("expire", stop.clone(), expire::run(database.clone(), metrics, stop.clone()));
        let tidying = tidy::run(database.clone(), metrics, scheduled_kept_days, stop.clone());
        tasks.spawn_vital("tidy", stop.clone(), tidying);
        tasks.spawn_vital("watch", stop.clone(), watch.run(stop.clone()));

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

/// Looks after what changes by itself.
struct Watch {
    readiness: Readiness,
    bus: Bus,
    database: Database,
    incarnation: Incarnation,
    search_language: String,
}

/// How long after its time a feed row may become visible, at most. Whoever writes one gives up when the request's time is
/// over, before the commit is sent; a process that stands still in between is cut off by PostgreSQL after
/// `idle_in_transaction_session_timeout`, which is the statement timeout; then comes the commit itself. (Where commits wait
/// for a synchronous standby that is away, nobody is told that they are done, and they are swept when they are.)
fn late_max(config: &DbConfig) -> Duration {
    let idle = match config.database_statement_timeout_ms {
        0 => STATEMENT_MAX,
        timeout_ms => Duration::from_millis(u64::from(timeout_ms)),
    };
    rpc::REQUEST_MAX + idle + COMMIT_MAX
}

impl Watch {
    async fn run(self, stop: Shutdown) {
        let mut interval = tokio::time::interval(WATCH_INTERVAL);
        let mut partitions_due = Instant::now();
        let mut is_language_chosen = false;
        loop {
            tokio::select! {
                () = stop.triggered() => return,
                _ = interval.tick() => {}
            }
            self.readiness.set("nats", self.bus.state().is_connected());
            let is_due = Instant::now() >= partitions_due;
            tokio::select! {
                () = stop.triggered() => return,
                outcome = self.look(is_due, &mut is_language_chosen) => {
                    self.readiness.set("database", outcome.is_ok());
                    match outcome {
                        Ok(()) if is_due => partitions_due = Instant::now() + PARTITIONS_INTERVAL,
                        Ok(()) => {}
                        Err(error) => tracing::debug!(%error, "the database does not answer"),
                    }
                }
            }
        }
    }

    async fn look(&self, make_partitions: bool, is_language_chosen: &mut bool) -> Result<(), DbError> {
        let mut connection = self.database.get().await?;
        self.incarnation.set(devices::read_incarnation(&mut connection).await?);
        if !*is_language_chosen {
            let chosen = search::choose_language(&mut connection, &self.search_language).await;
            chosen.inspect_err(|error| tracing::error!(%error, "SEARCH_LANGUAGE cannot be used"))?;
            *is_language_chosen = true;
        }
        if make_partitions {
            // Without them rows go to the default partition: no reason not to be ready.
            let made = feed::make_partitions(&mut connection).await;
            let _ = made.inspect_err(|error| tracing::warn!(%error, "no new partitions of the feed"));
        }
        Ok(())
    }
}
