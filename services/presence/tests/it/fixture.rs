//! A PostgreSQL, a nats-server, replicas of the service, and gateways that report and ask.

use std::{sync::Arc, time::Duration};

use entrenous_bus::{Bus, NatsConfig, subjects};
use entrenous_config::Secret;
use entrenous_local_servers::permissions::Service as NatsService;
use entrenous_model::{Clock, ConnectionId, Timestamp, UserId};
use entrenous_presence::{Config, MIGRATIONS, Service};
use entrenous_protocol::{
    Failure,
    rpc::presence::{GatewayReport, Status, Statuses, StatusesRequest},
};
use entrenous_runtime::{Readiness, Shutdown};
use entrenous_test_support::{TestNats, TestPostgres, wait_for};
use tokio::task::JoinHandle;
use uuid::Uuid;

const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A wall clock that stands still.
#[derive(Debug)]
struct StoppedClock(Timestamp);

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// So many seconds after the epoch.
pub(crate) fn moment(seconds: i64) -> Timestamp {
    chrono::DateTime::from_timestamp(seconds, 0).unwrap().into()
}

pub(crate) struct Fixture {
    pub(crate) gateway: Bus,
    pub(crate) nats: TestNats,
    pub(crate) postgres: TestPostgres,
}

/// A replica; stopped and found well at the end of a test by [`Replica::stop`].
pub(crate) struct Replica {
    readiness: Readiness,
    shutdown: Shutdown,
    task: JoinHandle<anyhow::Result<()>>,
}

/// What a gateway has told; numbers its reports.
pub(crate) struct Reporter {
    gateway: Bus,
    gateway_id: Uuid,
    number: u64,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        let migrate = async |url: String| entrenous_db::migrate(&url, MIGRATIONS).await.map(drop);
        let postgres = TestPostgres::with_schema("presence", migrate).await.unwrap();
        let nats = TestNats::with_permissions().await.unwrap();
        let config = NatsConfig {
            nats_url: nats.url(),
            nats_user: Some(NatsService::Gateway.name().to_owned()),
            nats_password: Some(Secret::new(TestNats::password(NatsService::Gateway))),
        };
        Self { gateway: Bus::connect(&config, "gateway").await.unwrap(), nats, postgres }
    }

    /// Starts a replica whose wall clock stands at `now`, and waits until it is ready.
    pub(crate) async fn replica(&self, now: Timestamp) -> Replica {
        let pairs = [
            ("DATABASE_URL", self.postgres.url()),
            ("DATABASE_CONNECTIONS_MAX", "2".to_owned()),
            ("NATS_URL", self.nats.url()),
            ("NATS_USER", NatsService::Presence.name().to_owned()),
            ("NATS_PASSWORD", TestNats::password(NatsService::Presence)),
            ("PRESENCE_WARM_UP_MS", "0".to_owned()),
        ];
        let config: Config =
            entrenous_config::from_pairs(&pairs.map(|(name, value)| (name.to_owned(), value))).unwrap();
        let service = Service::build(config).await.unwrap().with_clock(Arc::new(StoppedClock(now)));
        let (readiness, shutdown) = (service.readiness(), Shutdown::new());
        let task = tokio::spawn(service.serve(shutdown.clone()));
        let replica = Replica { readiness, shutdown, task };
        replica.becomes_ready(true).await;
        replica
    }

    pub(crate) fn reporter(&self, gateway: u128) -> Reporter {
        Reporter { gateway: self.gateway.clone(), gateway_id: Uuid::from_u128(gateway), number: 0 }
    }

    pub(crate) async fn statuses(&self, users: &[u128]) -> Result<Vec<Status>, Failure> {
        let user_ids = users.iter().map(|number| user(*number)).collect();
        self.gateway.call::<Statuses>(&StatusesRequest { user_ids }, ANSWER_MAX).await
    }

    pub(crate) async fn status_becomes(&self, wanted: Status) {
        let is_so = async || match self.gateway.call::<Statuses>(&asked(wanted.user_id), ANSWER_MAX).await {
            Ok(statuses) if statuses == [wanted.clone()] => Ok(()),
            other => Err(format!("{other:?}")),
        };
        wait_for("the status to change", is_so).await.unwrap();
    }
}

fn asked(user_id: UserId) -> StatusesRequest {
    StatusesRequest { user_ids: vec![user_id] }
}

impl Reporter {
    /// Lists every connection, as (user, connection).
    pub(crate) async fn full(&mut self, connected: &[(u128, u128)]) {
        self.send(true, connected, &[]).await;
    }

    /// Tells what changed.
    pub(crate) async fn delta(&mut self, connected: &[(u128, u128)], disconnected: &[(u128, u128)]) {
        self.send(false, connected, disconnected).await;
    }

    /// The next report gets lost.
    pub(crate) fn lose_one(&mut self) {
        self.number += 1;
    }

    async fn send(&mut self, is_full: bool, connected: &[(u128, u128)], disconnected: &[(u128, u128)]) {
        self.number += 1;
        let pairs = |pairs: &[(u128, u128)]| pairs.iter().map(|(who, what)| (user(*who), connection(*what))).collect();
        let report = GatewayReport {
            gateway_id: self.gateway_id,
            number: self.number,
            is_full,
            connected: pairs(connected),
            disconnected: pairs(disconnected),
        };
        self.gateway.broadcast(subjects::PRESENCE_REPORT, &report).await.unwrap();
    }
}

impl Replica {
    pub(crate) async fn becomes_ready(&self, is_wanted: bool) {
        let is_so = async || {
            let checks = self.readiness.checks();
            if checks.values().all(|is_good| *is_good) == is_wanted { Ok(()) } else { Err(format!("{checks:?}")) }
        };
        wait_for("the readiness to change", is_so).await.unwrap();
    }

    pub(crate) async fn stop(self) {
        self.shutdown.trigger();
        self.task.await.unwrap().unwrap();
    }
}

pub(crate) fn user(number: u128) -> UserId {
    Uuid::from_u128(number).into()
}

fn connection(number: u128) -> ConnectionId {
    Uuid::from_u128(number).into()
}

pub(crate) fn online(number: u128) -> Status {
    Status { user_id: user(number), is_online: true, last_seen_at: None }
}

pub(crate) fn offline(number: u128, last_seen_at: Option<Timestamp>) -> Status {
    Status { user_id: user(number), is_online: false, last_seen_at }
}
