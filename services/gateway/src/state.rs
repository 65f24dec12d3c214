//! What all workers of a gateway share.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use entrenous_auth::Claims;
use entrenous_bus::Bus;
use entrenous_model::{DeviceId, IdGenerator, LoginId, SystemClock, UserId};
use entrenous_protocol::{
    Code, Failure, Limits,
    rpc::{Method, identity, store},
};
use entrenous_runtime::Readiness;
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

use crate::{
    admitted::Admitted, config::Config, presence::PresenceBook, receipts::Receipts, sends::Sends, store::StoreReads,
    tokens::Tokens, typing::HiddenFrom, worker::WorkerEvent,
};

/// How long a request to another service may take.
pub const CALL_MAX: Duration = Duration::from_secs(5);
/// How long a login that ended is remembered: longer than any of its tokens lives.
const REVOKED_KEPT: Duration = Duration::from_secs(16 * 60);

/// What all workers share.
#[derive(Debug)]
pub struct Gateway {
    /// NATS.
    pub bus: Bus,
    /// Settings.
    pub config: Config,
    /// Limits in force.
    pub limits: Limits,
    /// Whether the gateway can do its work.
    pub readiness: Readiness,
    /// Messages on their way to the store.
    pub sends: Sends,
    /// Questions of new connections to the store.
    pub store: StoreReads,
    /// Delivery receipts on their way to the tracker.
    pub receipts: Receipts,
    /// Connects and disconnects on their way to presence.
    pub presence: PresenceBook,
    /// Makes ids.
    pub ids: IdGenerator,
    /// Tells the time.
    pub clock: SystemClock,
    /// Whose access tokens are taken.
    pub tokens: Tokens,
    /// From whom it is hidden that somebody types.
    pub(crate) typing_hidden: HiddenFrom,
    admitted: Admitted,
    revoked: RwLock<HashMap<LoginId, Instant>>,
    workers: Mutex<Vec<mpsc::Sender<WorkerEvent>>>,
    is_draining: AtomicBool,
    is_degraded: AtomicBool,
    hears_nats: AtomicBool,
    /// The list of logins that ended is to be read again at once.
    pub revocations_due: Notify,
}

impl Gateway {
    /// Puts the parts together; nothing runs yet.
    pub fn new(
        bus: Bus,
        config: Config,
        readiness: Readiness,
        sends: Sends,
        store: StoreReads,
        tokens: Tokens,
    ) -> Self {
        Self {
            limits: config.limits(),
            bus,
            config,
            readiness,
            sends,
            store,
            receipts: Receipts::default(),
            presence: PresenceBook::default(),
            ids: IdGenerator,
            clock: SystemClock,
            tokens,
            typing_hidden: HiddenFrom::default(),
            admitted: Admitted::default(),
            revoked: RwLock::default(),
            workers: Mutex::default(),
            is_draining: AtomicBool::new(false),
            is_degraded: AtomicBool::new(false),
            hears_nats: AtomicBool::new(true),
            revocations_due: Notify::new(),
        }
    }

    /// Asks a service.
    ///
    /// # Errors
    /// The service's, or `unavailable`.
    pub async fn call<M: Method>(&self, request: &M::Request) -> Result<M::Response, Failure> {
        self.bus.call::<M>(request, CALL_MAX).await
    }

    /// Who a token speaks for. The first token of an outside issuer's login makes it known to identity.
    ///
    /// # Errors
    /// `token_expired`, `unauthenticated`; `unavailable` when the keys cannot be had; those of
    /// [`identity::AdmitLogin`].
    pub async fn authenticate(&self, token: &str) -> Result<Claims, Failure> {
        let claims = self.tokens.verify(&self.bus, token).await?;
        if self.tokens.are_outside() && !self.admitted.contains(&claims) {
            self.admit(&claims).await?;
        }
        if self.is_revoked(claims.sid) {
            return Err(Failure::new(Code::Unauthenticated, "the login has ended"));
        }
        Ok(claims)
    }

    async fn admit(&self, claims: &Claims) -> Result<(), Failure> {
        let request = identity::AdmitLoginRequest {
            user_id: claims.sub,
            device_id: claims.device_id,
            login_id: claims.sid,
            username: claims.username.clone(),
            role: claims.role,
        };
        if self.call::<identity::AdmitLogin>(&request).await?.is_new_device {
            self.note_device(claims.sub, claims.device_id).await;
        }
        // Before it is looked whether the login has ended: its end takes it out again.
        self.admitted.insert(claims);
        Ok(())
    }

    /// Tells the store where a new device's first `sync` begins. The login stands without it: the store notes a device that
    /// it does not know when it attaches.
    pub async fn note_device(&self, user_id: UserId, device_id: DeviceId) {
        let device = store::AddDeviceRequest { user_id, device_id };
        if let Err(failure) = self.call::<store::AddDevice>(&device).await {
            tracing::warn!(device.id = %device_id, error = %failure, "the store was not told of a new device");
        }
    }

    /// Whether a login ended lately.
    pub fn is_revoked(&self, login: LoginId) -> bool {
        self.revoked.read().unwrap_or_else(PoisonError::into_inner).contains_key(&login)
    }

    /// Remembers logins that ended, and gives those that were news.
    pub fn note_revoked(&self, logins: &[LoginId]) -> Vec<LoginId> {
        let now = Instant::now();
        let mut revoked = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
        revoked.retain(|_, noted_at| now.duration_since(*noted_at) < REVOKED_KEPT);
        let news = logins.iter().copied().filter(|login| revoked.insert(*login, now).is_none()).collect();
        drop(revoked);
        self.admitted.forget(logins);
        news
    }

    /// No connection is let in any more.
    pub fn start_draining(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Whether the gateway stops.
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Live messages may be missing, or none is any more.
    pub fn set_degraded(&self, is_degraded: bool) {
        self.is_degraded.store(is_degraded, Ordering::Relaxed);
    }

    /// Whether live messages may be missing.
    pub fn is_degraded(&self) -> bool {
        self.is_degraded.load(Ordering::Relaxed)
    }

    /// Whether anything comes from NATS.
    pub fn set_hears_nats(&self, hears_nats: bool) {
        self.hears_nats.store(hears_nats, Ordering::Relaxed);
    }

    /// Whether anything came from NATS lately.
    pub fn hears_nats(&self) -> bool {
        self.hears_nats.load(Ordering::Relaxed)
    }

    /// A worker that came up.
    pub fn add_worker(&self, worker: mpsc::Sender<WorkerEvent>) {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
    }

    /// All workers.
    pub fn workers(&self) -> Vec<mpsc::Sender<WorkerEvent>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells all workers something. A worker never waits for a client, so this takes no time to speak of.
    pub async fn tell_workers(&self, event: WorkerEvent) {
        for worker in self.workers() {
            // A worker that is gone has no connections.
            let _ = worker.send(event.clone()).await;
        }
    }
}
