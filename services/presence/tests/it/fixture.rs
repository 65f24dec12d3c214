//! A PostgreSQL, a nats-server, replicas of the service, and gateways that report and ask.

use std::{sync::Arc, time::Duration};

use entrenous_bus::{Bus, NatsConfig, subjects};
use entrenous_config::Secret;
use entrenous_local_servers::permissions::Service as NatsService;
use entrenous_model::{Clock, ConnectionId, Timestamp, UserId};
use entrenous_presence::{Config, MIGRATIONS, Service};
use entrenous_protocol::{
    Failure,
    rpc::presence::{
        GatewayReport, ListPart, ListRequest, SetStatus, SetStatusRequest, StatusReport, Statuses, StatusesRequest,
    },
    status::{ChosenStatus, OwnStatus, PresenceStatus, StatusChoice, UserStatus},
};
use entrenous_runtime::{Readiness, Shutdown};
use entrenous_test_support::{TestNats, TestPostgres, wait_for};
use futures::{StreamExt, stream::BoxStream};
use tokio::{runtime::Runtime, task::JoinHandle};
use uuid::Uuid;

const ANSWER_MAX: Duration = Duration::from_secs(10);
const WAIT_MAX: Duration = Duration::from_secs(30);

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
    /// How long replicas believe a silent gateway to be there.
    pub(crate) lease_ms: u64,
}

/// A replica; stopped and found well at the end of a test by [`Replica::stop`].
pub(crate) struct Replica {
    readiness: Readiness,
    shutdown: Shutdown,
    task: JoinHandle<anyhow::Result<()>>,
    runtime: Runtime,
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
        Self { gateway: Bus::connect(&config, "gateway").await.unwrap(), nats, postgres, lease_ms: 15_000 }
    }

    /// Starts a replica whose wall clock stands at `now`, and waits until it is ready.
    pub(crate) async fn replica(&self, now: Timestamp) -> Replica {
        let replica = self.start_replica(now, 15_000).await;
        replica.becomes_ready(true).await;
        replica
    }

    /// Starts a replica with a grace of so many milliseconds.
    pub(crate) async fn start_replica(&self, now: Timestamp, grace_ms: u64) -> Replica {
        let pairs = [
            ("DATABASE_URL", self.postgres.url()),
            ("DATABASE_CONNECTIONS_MAX", "2".to_owned()),
            ("NATS_URL", self.nats.url()),
            ("NATS_USER", NatsService::Presence.name().to_owned()),
            ("NATS_PASSWORD", TestNats::password(NatsService::Presence)),
            ("PRESENCE_WARM_UP_MS", "0".to_owned()),
            ("PRESENCE_GRACE_MS", grace_ms.to_string()),
            ("PRESENCE_LEASE_MS", self.lease_ms.to_string()),
        ];
        let config: Config =
            entrenous_config::from_pairs(&pairs.map(|(name, value)| (name.to_owned(), value))).unwrap();
        // A runtime of its own, so that everything of it can die at once.
        let runtime = Runtime::new().unwrap();
        let service = runtime.spawn(Service::build(config)).await.unwrap().unwrap();
        let service = service.with_clock(Arc::new(StoppedClock(now)));
        let (readiness, shutdown) = (service.readiness(), Shutdown::new());
        let task = runtime.spawn(service.serve(shutdown.clone()));
        Replica { readiness, shutdown, task, runtime }
    }

    pub(crate) fn reporter(&self, gateway: u128) -> Reporter {
        Reporter { gateway: self.gateway.clone(), gateway_id: Uuid::from_u128(gateway), number: 0 }
    }

    pub(crate) async fn statuses(&self, users: &[u128]) -> Result<Vec<UserStatus>, Failure> {
        let user_ids = users.iter().map(|number| user(*number)).collect();
        self.gateway.call::<Statuses>(&StatusesRequest { user_ids }, ANSWER_MAX).await
    }

    pub(crate) async fn choose(&self, number: u128, status: ChosenStatus) -> OwnStatus {
        let request = SetStatusRequest { user_id: user(number), choice: StatusChoice { status, text: None } };
        self.gateway.call::<SetStatus>(&request, ANSWER_MAX).await.unwrap()
    }

    /// Waits until a replica asks for a gateway's list.
    pub(crate) async fn lists(&self) -> BoxStream<'static, ListRequest> {
        self.gateway.hear(subjects::PRESENCE_LIST).await.unwrap()
    }

    pub(crate) async fn status_becomes(&self, wanted: UserStatus) {
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

    /// Hears what replicas tell this gateway.
    pub(crate) async fn hear(&self) -> Told {
        Told(self.gateway.hear(&subjects::presence_status(self.gateway_id)).await.unwrap())
    }

    /// Watches these users, besides those of before.
    pub(crate) async fn watch(&mut self, users: &[u128]) {
        self.number += 1;
        let watched = users.iter().map(|number| user(*number)).collect();
        let report = GatewayReport { watched, ..self.empty() };
        self.gateway.broadcast(subjects::PRESENCE_REPORT, &report).await.unwrap();
    }

    /// Lists everything, users who left so many milliseconds ago and watched users too.
    pub(crate) async fn list(&mut self, connected: &[(u128, u128)], departed: &[(u128, u64)], watched: &[u128]) {
        self.number += 1;
        let report = GatewayReport {
            list: Some(ListPart { is_first: true, is_last: true }),
            connected: connected.iter().map(|(who, what)| (user(*who), connection(*what))).collect(),
            departed: departed.iter().map(|(who, millis)| (user(*who), *millis)).collect(),
            watched: watched.iter().map(|number| user(*number)).collect(),
            ..self.empty()
        };
        self.gateway.broadcast(subjects::PRESENCE_REPORT, &report).await.unwrap();
    }

    fn empty(&self) -> GatewayReport {
        GatewayReport { gateway_id: self.gateway_id, number: self.number, ..GatewayReport::default() }
    }

    /// The next report gets lost.
    pub(crate) fn lose_one(&mut self) {
        self.number += 1;
    }

    async fn send(&mut self, is_full: bool, connected: &[(u128, u128)], disconnected: &[(u128, u128)]) {
        self.number += 1;
        let pairs = |pairs: &[(u128, u128)]| pairs.iter().map(|(who, what)| (user(*who), connection(*what))).collect();
        let report = GatewayReport {
            list: is_full.then_some(ListPart { is_first: true, is_last: true }),
            connected: pairs(connected),
            disconnected: pairs(disconnected),
            ..self.empty()
        };
        self.gateway.broadcast(subjects::PRESENCE_REPORT, &report).await.unwrap();
    }
}

/// What a gateway is told.
pub(crate) struct Told(BoxStream<'static, StatusReport>);

impl Told {
    /// The next report.
    pub(crate) async fn next(&mut self) -> StatusReport {
        tokio::time::timeout(WAIT_MAX, self.0.next()).await.unwrap().unwrap()
    }

    /// Waits until this is told; gives the replica that told it.
    pub(crate) async fn status(&mut self, wanted: &UserStatus) -> Uuid {
        loop {
            let report = self.next().await;
            if report.statuses.contains(wanted) {
                return report.replica_id;
            }
        }
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

    /// Dies without a word, like a process that is killed.
    pub(crate) fn kill(self) {
        self.runtime.shutdown_background();
    }

    pub(crate) async fn stop(self) {
        self.shutdown.trigger();
        self.task.await.unwrap().unwrap();
        self.runtime.shutdown_background();
    }
}

pub(crate) fn user(number: u128) -> UserId {
    Uuid::from_u128(number).into()
}

fn connection(number: u128) -> ConnectionId {
    Uuid::from_u128(number).into()
}

pub(crate) fn online(number: u128) -> UserStatus {
    shows(number, PresenceStatus::Online)
}

pub(crate) fn shows(number: u128, status: PresenceStatus) -> UserStatus {
    UserStatus { status, ..UserStatus::hidden(user(number)) }
}

pub(crate) fn offline(number: u128, last_seen_at: Option<Timestamp>) -> UserStatus {
    UserStatus { last_seen_at, ..UserStatus::hidden(user(number)) }
}
