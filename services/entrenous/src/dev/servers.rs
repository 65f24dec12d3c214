//! PostgreSQL and nats-server, kept running until the services are gone.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use entrenous_local_servers::{
    Nats, NatsSpec, NatsUser, Password, Postgres, PostgresSpec, ServerError, SyncInterval,
    permissions::{EVENTS_READER_PASSWORD_VARIABLE, Service},
};
use entrenous_runtime::Shutdown;
use tokio::task::JoinHandle;

use super::{data::DataFolder, plan::DATABASE_CONNECTIONS, processes::Processes, stop::Stop};

/// Connections that are left for people: migrations, `psql`.
const SPARE_CONNECTIONS: u16 = 20;

/// The wait before a server that does not start is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How often streams are written to the disk. They hold events that can be made again from the tables.
const SYNC_INTERVAL: Duration = Duration::from_secs(10);

/// Both servers, each with a task that starts it again when it dies.
#[derive(Debug)]
pub(crate) struct Servers {
    database_url: String,
    nats_url: String,
    postgres: Keeper,
    nats: Keeper,
}

#[derive(Debug)]
struct Keeper {
    end: Shutdown,
    task: JoinHandle<()>,
}

impl Servers {
    /// Starts both on the ports of the last run, if these are free.
    pub(crate) async fn start(data: &mut DataFolder, processes: &Arc<Processes>, stop: &Stop) -> anyhow::Result<Self> {
        let postgres_spec = postgres_spec(data)?;
        let nats_spec = nats_spec(data)?;
        // Before there are data that need them.
        data.save()?;
        let (postgres, nats) = tokio::join!(Postgres::start(&postgres_spec), Nats::start(&nats_spec));
        let (postgres, nats) = (postgres.context("PostgreSQL")?, nats.context("nats-server")?);
        Ok(Self {
            database_url: postgres.url(),
            nats_url: nats.url(),
            postgres: Keeper::keep(Spec::Postgres(postgres_spec), Server::Postgres(postgres), processes, stop),
            nats: Keeper::keep(Spec::Nats(nats_spec), Server::Nats(nats), processes, stop),
        })
    }

    /// Address of the database, with its password.
    pub(crate) fn database_url(&self) -> &str {
        &self.database_url
    }

    /// Address for clients of NATS.
    pub(crate) fn nats_url(&self) -> &str {
        &self.nats_url
    }

    /// Stops both in order.
    pub(crate) async fn end(self) {
        self.nats.end().await;
        self.postgres.end().await;
    }
}

fn postgres_spec(data: &mut DataFolder) -> anyhow::Result<PostgresSpec> {
    let password = data.secrets().password("DATABASE_PASSWORD")?;
    let mut spec = PostgresSpec::new(data.path().join("postgresql"), password);
    spec.port = Some(data.port("postgresql")?);
    spec.connections_max = DATABASE_CONNECTIONS + SPARE_CONNECTIONS;
    Ok(spec)
}

fn nats_spec(data: &mut DataFolder) -> anyhow::Result<NatsSpec> {
    let mut spec = NatsSpec::new(data.path().join("nats"));
    spec.port = Some(data.port("nats-server")?);
    spec.sync_interval = SyncInterval::Every(SYNC_INTERVAL);
    for service in Service::ALL {
        let password = Password::Plain(data.secrets().nats_password(service)?);
        spec.users.push(NatsUser::service(service, password));
    }
    let password = data.secrets().password(EVENTS_READER_PASSWORD_VARIABLE)?;
    spec.users.push(NatsUser::events_reader(Password::Plain(password)));
    Ok(spec)
}

/// How to start one of the two.
#[derive(Debug)]
enum Spec {
    Postgres(PostgresSpec),
    Nats(NatsSpec),
}

/// One of the two, running.
#[derive(Debug)]
enum Server {
    Postgres(Postgres),
    Nats(Nats),
}

impl Spec {
    fn name(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgresql",
            Self::Nats(_) => "nats-server",
        }
    }

    async fn start(&self) -> Result<Server, ServerError> {
        match self {
            Self::Postgres(spec) => Postgres::start(spec).await.map(Server::Postgres),
            Self::Nats(spec) => Nats::start(spec).await.map(Server::Nats),
        }
    }

    /// Until it succeeds.
    async fn start_persistently(&self) -> Server {
        loop {
            match self.start().await {
                Ok(server) => return server,
                Err(error) => tracing::error!(name = self.name(), %error, "cannot start again; trying on"),
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

impl Server {
    fn pid_and_port(&self) -> (u32, u16) {
        match self {
            Self::Postgres(server) => (server.pid(), server.port()),
            Self::Nats(server) => (server.pid(), server.port()),
        }
    }

    async fn wait_exit(&self) {
        match self {
            Self::Postgres(server) => server.wait_exit().await,
            Self::Nats(server) => server.wait_exit().await,
        }
    }

    async fn stop(self) {
        match self {
            Self::Postgres(server) => server.stop().await,
            Self::Nats(server) => server.stop().await,
        }
    }
}

impl Keeper {
    fn keep(spec: Spec, server: Server, processes: &Arc<Processes>, stop: &Stop) -> Self {
        let end = Shutdown::new();
        let task = tokio::spawn(keep(spec, server, Arc::clone(processes), end.clone(), stop.clone()));
        Self { end, task }
    }

    async fn end(self) {
        self.end.trigger();
        if let Err(error) = self.task.await {
            tracing::warn!(%error, "a keeper ended in disorder");
        }
    }
}

/// Until the end is asked for, or everything is in a hurry; services that are stopping still need their servers.
async fn keep(spec: Spec, mut server: Server, processes: Arc<Processes>, end: Shutdown, stop: Stop) {
    loop {
        let (pid, port) = server.pid_and_port();
        processes.set(spec.name(), pid, port);
        tokio::select! {
            () = server.wait_exit() => {}
            () = end.triggered() => {
                // Given up halfway in a hurry: dropping the server ends it.
                stop.unless_hurried(server.stop()).await;
                break;
            }
            () = stop.hurried() => break,
        }
        processes.remove(spec.name());
        tracing::warn!(name = spec.name(), pid, "a server ended: starting it again");
        // Its folder is locked as long as it is not dropped.
        drop(server);
        server = tokio::select! {
            restarted = spec.start_persistently() => restarted,
            () = end.triggered() => return,
            () = stop.hurried() => return,
        };
    }
    processes.remove(spec.name());
}
