//! One or more replicas of the service, and a gateway's view of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use diesel_async::SimpleAsyncConnection;
use entrenous_auth::{Claims, Verifier};
use entrenous_bus::{Bus, LiveEvent, LiveSubscription, NatsConfig};
use entrenous_config::Secret;
use entrenous_db::Database;
use entrenous_identity::{Config, MIGRATIONS, Service};
use entrenous_model::{Clock, DeviceId, IdGenerator, LoginId, SystemClock, Timestamp, UserId};
use entrenous_protocol::{
    Code, Failure,
    live::{LiveKind, LiveMessage, UserNotice},
    rest::{LoginDevice, Register, Tokens, User},
    rpc::{Done, Method, identity::*},
};
use entrenous_runtime::{Readiness, Shutdown};
use entrenous_test_support::{TestNats, TestPostgres, wait_for};

pub(crate) const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
pub(crate) const PASSWORD: &str = "correct horse battery";
pub(crate) const ADDRESS: &str = "203.0.113.7";
const CALL_MAX: Duration = Duration::from_secs(20);

/// The machine's clock, moved forward.
#[derive(Debug, Default)]
pub(crate) struct MovedClock(AtomicU64);

impl MovedClock {
    pub(crate) fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for MovedClock {
    fn now(&self) -> Timestamp {
        SystemClock.now() + Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

pub(crate) struct Replica {
    shutdown: Shutdown,
    readiness: Readiness,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Replica {
    pub(crate) async fn stop(self) {
        self.shutdown.trigger();
        self.task.await.unwrap().unwrap();
    }
}

pub(crate) struct Fixture {
    pub(crate) bus: Bus,
    pub(crate) clock: Arc<MovedClock>,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) postgres: TestPostgres,
    pub(crate) nats: TestNats,
    sql: Database,
}

impl Fixture {
    /// One replica with cheap passwords.
    pub(crate) async fn start() -> Self {
        Self::with(1, &[]).await
    }

    /// Some replicas, started at the same time.
    pub(crate) async fn with(replicas: usize, changes: &[(&str, &str)]) -> Self {
        let mut fixture = Self::without_service().await;
        let started = (0..replicas).map(|_| fixture.replica(changes));
        fixture.replicas = futures::future::join_all(started).await;
        fixture
    }

    pub(crate) async fn without_service() -> Self {
        let (postgres, nats) = tokio::join!(
            TestPostgres::with_schema("identity", async |url| {
                entrenous_db::migrate(&url, MIGRATIONS).await.map(drop)
            }),
            TestNats::with_permissions()
        );
        let (postgres, nats) = (postgres.unwrap(), nats.unwrap());
        let gateway = NatsConfig {
            nats_url: nats.url(),
            nats_user: Some("gateway".into()),
            nats_password: Some(Secret::new("password-of-gateway")),
        };
        let bus = Bus::connect(&gateway, "gateway").await.unwrap();
        let sql = Database::new(&config(&postgres, &nats, &[]).db, "test").unwrap();
        Self { bus, clock: Arc::default(), replicas: Vec::new(), postgres, nats, sql }
    }

    pub(crate) fn config(&self, changes: &[(&str, &str)]) -> Config {
        config(&self.postgres, &self.nats, changes)
    }

    /// Starts a replica and waits until it is ready.
    pub(crate) async fn replica(&self, changes: &[(&str, &str)]) -> Replica {
        let clock: Arc<dyn Clock> = self.clock.clone();
        let service = Service::build(&self.config(changes), clock).await.unwrap();
        let (shutdown, readiness) = (Shutdown::new(), service.readiness());
        let task = tokio::spawn(service.serve(shutdown.clone()));
        let replica = Replica { shutdown, readiness, task };
        replica.ready().await;
        replica
    }

    pub(crate) async fn call<M: Method>(&self, request: M::Request) -> Result<M::Response, Failure> {
        self.bus.call::<M>(&request, CALL_MAX).await
    }

    pub(crate) async fn register(&self, username: &str) -> User {
        self.call::<RegisterUser>(registration(username)).await.unwrap()
    }

    /// A user and a login on a new device.
    pub(crate) async fn user(&self, username: &str) -> (User, Tokens) {
        let user = self.register(username).await;
        let tokens = self.login(login_request(username)).await.unwrap().tokens;
        (user, tokens)
    }

    pub(crate) async fn login(&self, request: LoginRequest) -> Result<LoginGranted, Failure> {
        self.call::<Login>(request).await
    }

    pub(crate) async fn refresh(&self, refresh_token: &str) -> Result<Tokens, Failure> {
        self.call::<RefreshLogin>(RefreshRequest { refresh_token: refresh_token.to_owned() }).await
    }

    pub(crate) async fn revoked(&self) -> Vec<LoginId> {
        self.call::<RevokedLogins>(Done {}).await.unwrap()
    }

    /// What an access token says, checked as a gateway checks it.
    pub(crate) async fn claims(&self, tokens: &Tokens) -> Claims {
        self.verifier().await.verify(&tokens.access_token).unwrap()
    }

    pub(crate) async fn verifier(&self) -> Verifier {
        let verifier = Verifier::new("entrenous".into(), "entrenous".into()).with_clock(self.clock.clone());
        verifier.set_keys(&self.call::<Jwks>(Done {}).await.unwrap()).unwrap();
        verifier
    }

    pub(crate) async fn connection(&self) -> entrenous_db::Connection {
        self.sql.get().await.unwrap()
    }

    pub(crate) async fn execute(&self, sql: &str) -> diesel::QueryResult<()> {
        self.connection().await.batch_execute(sql).await
    }

    pub(crate) async fn count(&self, sql: &str) -> i64 {
        use diesel_async::RunQueryDsl;
        #[derive(diesel::QueryableByName)]
        struct Count {
            #[diesel(sql_type = diesel::sql_types::BigInt)]
            count: i64,
        }
        let mut connection = self.connection().await;
        let row: Count = diesel::sql_query(sql).get_result(&mut connection).await.unwrap();
        row.count
    }
}

impl Replica {
    pub(crate) async fn ready(&self) {
        let look =
            async || if self.readiness.is_ready() { Ok(()) } else { Err(format!("{:?}", self.readiness.checks())) };
        wait_for("readiness", look).await.unwrap();
    }

    pub(crate) fn readiness(&self) -> &Readiness {
        &self.readiness
    }
}

fn config(postgres: &TestPostgres, nats: &TestNats, changes: &[(&str, &str)]) -> Config {
    let (database_url, nats_url) = (postgres.url(), nats.url());
    let mut pairs = vec![
        ("DATABASE_URL", database_url.as_str()),
        ("NATS_URL", &nats_url),
        ("NATS_USER", "identity"),
        ("NATS_PASSWORD", "password-of-identity"),
        ("IDENTITY_KEY_ENCRYPTION_KEY", KEY),
        ("IDENTITY_HASH_MEMORY_KIB", "64"),
        ("IDENTITY_HASH_ITERATIONS", "1"),
        ("IDENTITY_MAINTENANCE_INTERVAL_MS", "50"),
    ];
    pairs.retain(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
    pairs.extend(changes);
    let pairs: Vec<_> = pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    entrenous_config::from_pairs(&pairs).unwrap()
}

pub(crate) fn registration(username: &str) -> RegisterRequest {
    let registration =
        Register { username: username.into(), password: PASSWORD.into(), email: None, display_name: None };
    RegisterRequest { user_id: IdGenerator.next(), registration }
}

pub(crate) fn login_request(username: &str) -> LoginRequest {
    LoginRequest {
        username: username.into(),
        password: PASSWORD.into(),
        device: LoginDevice { id: None, name: "phone".into(), platform: None },
        address: ADDRESS.into(),
    }
}

/// A login on a device that there is.
pub(crate) fn login_on(username: &str, device_id: DeviceId) -> LoginRequest {
    let mut request = login_request(username);
    request.device.id = Some(device_id);
    request
}

/// A login with a wrong password.
pub(crate) fn wrong_login(username: &str) -> LoginRequest {
    LoginRequest { password: "wrong password".into(), ..login_request(username) }
}

pub(crate) fn code<T>(result: Result<T, Failure>) -> Result<(), Code> {
    result.map(drop).map_err(|failure| failure.code)
}

pub(crate) fn fields<T>(result: Result<T, Failure>) -> Vec<String> {
    let failure = result.map(drop).unwrap_err();
    assert_eq!(failure.code, Code::Invalid);
    failure.errors.into_iter().map(|error| error.field).collect()
}

/// The next notice that logins of a user have ended.
pub(crate) async fn next_ended(live: &mut LiveSubscription, user_id: UserId) -> Vec<LoginId> {
    let search = async {
        loop {
            let Some(LiveEvent::Messages(messages)) = live.next().await else { continue };
            let is_notice = |message: &LiveMessage| message.preamble.kind == LiveKind::UserNotice;
            for message in messages.into_iter().filter(is_notice) {
                let notice: UserNotice = serde_json::from_slice(&message.body).unwrap();
                match notice {
                    UserNotice::LoginsEnded { mut login_ids } if message.preamble.subject == user_id.as_uuid() => {
                        login_ids.sort();
                        return login_ids;
                    }
                    _ => {}
                }
            }
        }
    };
    tokio::time::timeout(CALL_MAX, search).await.expect("a notice")
}
