//! A PostgreSQL, a nats-server, replicas of the service, and a gateway that asks them.

use std::time::Duration;

use entrenous_bus::{Bus, NatsConfig};
use entrenous_config::Secret;
use entrenous_delivery_tracker::{Config, MIGRATIONS, Service};
use entrenous_local_servers::permissions::Service as NatsService;
use entrenous_model::DeviceId;
use entrenous_protocol::{
    Failure,
    rpc::tracker::{
        AdvanceCursors, AdvanceCursorsRequest, CursorAdvance, DeviceCursor, DeviceCursors, DeviceCursorsRequest,
    },
};
use entrenous_runtime::{Readiness, Shutdown};
use entrenous_test_support::{TestNats, TestPostgres, wait_for};
use tokio::task::JoinHandle;
use uuid::Uuid;

const ANSWER_MAX: Duration = Duration::from_secs(10);

pub(crate) struct Fixture {
    pub(crate) gateway: Bus,
    pub(crate) nats: TestNats,
    pub(crate) postgres: TestPostgres,
}

/// A replica; stopped and found well at the end of a test by [`Replica::stop`].
pub(crate) struct Replica {
    pub(crate) readiness: Readiness,
    shutdown: Shutdown,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        let migrate = async |url: String| entrenous_db::migrate(&url, MIGRATIONS).await.map(drop);
        let postgres = TestPostgres::with_schema("delivery", migrate).await.unwrap();
        let nats = TestNats::with_permissions().await.unwrap();
        let gateway = Bus::connect(&credential(&nats, NatsService::Gateway), "gateway").await.unwrap();
        Self { gateway, nats, postgres }
    }

    /// Starts a replica and waits until it is ready.
    pub(crate) async fn replica(&self) -> Replica {
        let pairs = [
            ("DATABASE_URL", self.postgres.url()),
            ("DATABASE_CONNECTIONS_MAX", "4".to_owned()),
            ("NATS_URL", self.nats.url()),
            ("NATS_USER", NatsService::DeliveryTracker.name().to_owned()),
            ("NATS_PASSWORD", TestNats::password(NatsService::DeliveryTracker)),
        ];
        let config: Config =
            entrenous_config::from_pairs(&pairs.map(|(name, value)| (name.to_owned(), value))).unwrap();
        let service = Service::build(&config).await.unwrap();
        let (readiness, shutdown) = (service.readiness(), Shutdown::new());
        let task = tokio::spawn(service.serve(shutdown.clone()));
        let replica = Replica { readiness, shutdown, task };
        replica.becomes_ready(true).await;
        replica
    }

    pub(crate) async fn advance(&self, cursors: Vec<CursorAdvance>) -> Result<(), Failure> {
        advance(&self.gateway, cursors).await
    }

    /// Where a device stands, sorted by conversation.
    pub(crate) async fn cursors(&self, device_id: DeviceId) -> Result<Vec<DeviceCursor>, Failure> {
        let mut cursors = self.gateway.call::<DeviceCursors>(&DeviceCursorsRequest { device_id }, ANSWER_MAX).await?;
        cursors.sort_by_key(|cursor| cursor.conversation_id);
        Ok(cursors)
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

pub(crate) async fn advance(gateway: &Bus, cursors: Vec<CursorAdvance>) -> Result<(), Failure> {
    gateway.call::<AdvanceCursors>(&AdvanceCursorsRequest { cursors }, ANSWER_MAX).await.map(drop)
}

fn credential(nats: &TestNats, service: NatsService) -> NatsConfig {
    NatsConfig {
        nats_url: nats.url(),
        nats_user: Some(service.name().to_owned()),
        nats_password: Some(Secret::new(TestNats::password(service))),
    }
}

pub(crate) fn device(number: u128) -> DeviceId {
    Uuid::from_u128(number).into()
}

pub(crate) fn cursor(conversation: u128, delivered_seq: u64) -> DeviceCursor {
    DeviceCursor { conversation_id: Uuid::from_u128(conversation).into(), delivered_seq }
}

pub(crate) fn moved(device: u128, conversation: u128, delivered_seq: u64) -> CursorAdvance {
    CursorAdvance {
        user_id: Uuid::from_u128(1_000 + device).into(),
        device_id: Uuid::from_u128(device).into(),
        conversation_id: Uuid::from_u128(conversation).into(),
        delivered_seq,
    }
}
