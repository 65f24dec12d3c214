//! A PostgreSQL, a nats-server, replicas of the service, and a gateway that asks them.

use std::time::Duration;

use entrenous_bus::{Bus, NatsConfig, ServeOptions};
use entrenous_config::Secret;
use entrenous_delivery_tracker::{Config, MIGRATIONS, Service};
use entrenous_local_servers::permissions::Service as NatsService;
use entrenous_model::{DeviceId, UserId};
use entrenous_protocol::{
    Failure,
    rpc::{
        store::{Authors, Covered, ReadAuthors, ReadAuthorsRequest},
        tracker::{
            AdvanceCursors, AdvanceCursorsRequest, CursorAdvance, DeviceCursor, DeviceCursors, DeviceCursorsRequest,
        },
    },
};
use entrenous_runtime::{Readiness, Shutdown, Tasks};
use entrenous_test_support::{TestNats, TestPostgres, wait_for};
use tokio::task::JoinHandle;
use uuid::Uuid;

const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Who wrote what receipts are about.
pub(crate) const AUTHOR: u128 = 7;
/// The first of the conversations with many members.
pub(crate) const LARGE: u128 = 1 << 100;

pub(crate) struct Fixture {
    pub(crate) gateway: Bus,
    store: Bus,
    /// Ends what answers for the message store.
    pub(crate) stop: Shutdown,
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
        let store = Bus::connect(&credential(&nats, NatsService::MessageStore), "message-store").await.unwrap();
        let fixture = Self { gateway, store, nats, postgres, stop: Shutdown::new() };
        fixture.serve_store().await;
        fixture
    }

    /// Answers as the message store does: conversations from [`LARGE`] on have 257 members, the others two, of whom
    /// [`AUTHOR`] has written everything.
    pub(crate) async fn serve_store(&self) {
        let handler = async |request: ReadAuthorsRequest, _| Ok(request.receipts.into_iter().map(authors).collect());
        self.store
            .serve::<ReadAuthors, _, _>(&Tasks::new(), &self.stop, ServeOptions::default(), handler)
            .await
            .unwrap();
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

fn authors(covered: Covered) -> Authors {
    match covered.conversation_id.as_uuid().as_u128() {
        LARGE.. => Authors { member_count: 257, user_ids: Vec::new() },
        _ if covered.user_id == user(AUTHOR) => Authors { member_count: 2, user_ids: Vec::new() },
        _ => Authors { member_count: 2, user_ids: vec![user(AUTHOR)] },
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

pub(crate) fn user(number: u128) -> UserId {
    Uuid::from_u128(number).into()
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
        read_seq: 0,
        sent_seq: 0,
    }
}

/// The same device's user has read as much.
pub(crate) fn read(device: u128, conversation: u128, read_seq: u64) -> CursorAdvance {
    CursorAdvance { read_seq, ..moved(device, conversation, read_seq) }
}
