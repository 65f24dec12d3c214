//! All services in one process, and REST calls on them.

use entrenous_gateway::Config;
use entrenous_model::SystemClock;
use entrenous_runtime::Shutdown;
use entrenous_test_support::{TestNats, TestPostgres, wait_for};
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};
use std::sync::Arc;
use uuid::Uuid;

pub(crate) const PASSWORD: &str = "correct horse battery";
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// An answer, with its body where it is JSON.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default();
        Self { status, headers, body }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The body of a success.
    pub(crate) fn ok(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{:#}", self.body);
        assert_eq!(self.header("cache-control"), Some("no-store"));
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"));
        self.body
    }

    /// Asserts that it is a whole problem of this status and code, and gives its fields.
    pub(crate) fn problem(&self, status: u16, code: &str) -> Vec<String> {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{:#}", self.body);
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!(self.body["status"], status);
        for member in ["type", "title", "detail"] {
            assert!(self.body[member].is_string(), "{member}: {:#}", self.body);
        }
        assert_eq!(self.header("www-authenticate"), (status == 401).then_some("Bearer"));
        assert_eq!(self.header("retry-after").is_some(), matches!(status, 429 | 503));
        let errors = self.body["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect()
    }
}

/// Somebody with a login.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub(crate) id: String,
    pub(crate) device_id: String,
    pub(crate) token: String,
    pub(crate) refresh_token: String,
}

pub(crate) struct Stack {
    pub(crate) base: String,
    pub(crate) http: reqwest::Client,
    shutdown: Shutdown,
    _postgres: TestPostgres,
    _nats: TestNats,
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

impl Stack {
    pub(crate) async fn start() -> Self {
        Self::with(&[], true).await
    }

    /// With these settings of the gateway; without the store, who asks it gets `unavailable`.
    pub(crate) async fn with(changes: &[(&str, &str)], has_store: bool) -> Self {
        let (postgres, nats) = tokio::join!(TestPostgres::with_schema("all", migrate), TestNats::with_permissions());
        let (postgres, nats, shutdown) = (postgres.unwrap(), nats.unwrap(), Shutdown::new());
        start_identity(&postgres, &nats, &shutdown).await;
        if has_store {
            start_store(&postgres, &nats, &shutdown).await;
        }
        start_tracker(&postgres, &nats, &shutdown).await;
        let base = start_gateway(&nats, &shutdown, changes).await;
        let stack = Self { base, http: reqwest::Client::new(), shutdown, _postgres: postgres, _nats: nats };
        let look = async || match stack.get("/readyz", None).await {
            Answer { status: 200, .. } => Ok(()),
            answer => Err(answer.body.to_string()),
        };
        wait_for("the gateway", look).await.unwrap();
        stack
    }

    pub(crate) fn request(&self, method: &str, path: &str, token: Option<&str>) -> reqwest::RequestBuilder {
        let request = self.http.request(method.parse::<Method>().unwrap(), format!("{}{path}", self.base));
        match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub(crate) async fn get(&self, path: &str, token: Option<&str>) -> Answer {
        Answer::of(self.request("GET", path, token).send().await.unwrap()).await
    }

    pub(crate) async fn delete(&self, path: &str, token: Option<&str>) -> Answer {
        Answer::of(self.request("DELETE", path, token).send().await.unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, token: Option<&str>, body: &Value) -> Answer {
        self.send("POST", path, token, body).await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, token: Option<&str>, body: &Value) -> Answer {
        Answer::of(self.request(method, path, token).json(body).send().await.unwrap()).await
    }

    /// A body as it stands.
    pub(crate) async fn raw(&self, method: &str, path: &str, token: &str, body: impl Into<Vec<u8>>) -> Answer {
        let request = self.request(method, path, Some(token)).header("content-type", "application/json");
        Answer::of(request.body(body.into()).send().await.unwrap()).await
    }

    pub(crate) async fn login(&self, username: &str) -> Person {
        let login = json!({"username": username, "password": PASSWORD, "device": {"name": "test"}});
        let tokens = self.post("/api/v1/auth/login", None, &login).await.ok(200);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Person {
            id: text(&tokens["user"]["id"]),
            device_id: text(&tokens["device_id"]),
            token: text(&tokens["access_token"]),
            refresh_token: text(&tokens["refresh_token"]),
        }
    }

    /// A new account and its first login.
    pub(crate) async fn person(&self, username: &str) -> Person {
        let account = json!({"username": username, "password": PASSWORD});
        self.post("/api/v1/auth/register", None, &account).await.ok(201);
        self.login(username).await
    }

    /// A group that this person owns.
    pub(crate) async fn group(&self, owner: &Person, members: &[&Person]) -> String {
        let members: Vec<&str> = members.iter().map(|member| member.id.as_str()).collect();
        let group = json!({"kind": "group", "title": "A group", "encryption": "none", "members": members});
        let group = self.post("/api/v1/conversations", Some(&owner.token), &group).await.ok(201);
        group["id"].as_str().unwrap().to_owned()
    }
}

/// A new id of a client's.
pub(crate) fn new_id() -> String {
    let id: Uuid = entrenous_model::IdGenerator.next();
    id.to_string()
}

/// A message in clear text.
pub(crate) fn message(text: &str) -> Value {
    json!({"id": new_id(), "content": {"text": text}})
}

async fn migrate(url: String) -> anyhow::Result<()> {
    entrenous_db::migrate(&url, entrenous_identity::MIGRATIONS).await?;
    entrenous_db::migrate(&url, entrenous_message_store::MIGRATIONS).await?;
    entrenous_db::migrate(&url, entrenous_delivery_tracker::MIGRATIONS).await?;
    Ok(())
}

fn settings<T: clap::Parser>(nats: &TestNats, user: &str, more: &[(&str, &str)]) -> T {
    let (url, password) = (nats.url(), format!("password-of-{user}"));
    let common = [("NATS_URL", url.as_str()), ("NATS_USER", user), ("NATS_PASSWORD", &password)];
    let pairs = common.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    entrenous_config::from_pairs(&pairs.collect::<Vec<_>>()).unwrap()
}

async fn start_identity(postgres: &TestPostgres, nats: &TestNats, shutdown: &Shutdown) {
    let more = [
        ("DATABASE_URL", postgres.url()),
        ("IDENTITY_KEY_ENCRYPTION_KEY", KEY.to_owned()),
        ("IDENTITY_HASH_MEMORY_KIB", "64".to_owned()),
        ("IDENTITY_HASH_ITERATIONS", "1".to_owned()),
    ];
    let more: Vec<(&str, &str)> = more.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let config = settings(nats, "identity", &more);
    let service = entrenous_identity::Service::build(&config, Arc::new(SystemClock)).await.unwrap();
    let readiness = service.readiness();
    tokio::spawn(service.serve(shutdown.clone()));
    wait_for("identity", async || if readiness.is_ready() { Ok(()) } else { Err("not ready") }).await.unwrap();
}

async fn start_store(postgres: &TestPostgres, nats: &TestNats, shutdown: &Shutdown) {
    let url = postgres.url();
    let config = settings(nats, "message-store", &[("DATABASE_URL", &url), ("ENTRY_DIGEST_KEY", KEY)]);
    let service = entrenous_message_store::Service::build(&config).await.unwrap();
    let readiness = service.readiness();
    tokio::spawn(service.serve(shutdown.clone()));
    wait_for("the store", async || if readiness.is_ready() { Ok(()) } else { Err("not ready") }).await.unwrap();
}

async fn start_tracker(postgres: &TestPostgres, nats: &TestNats, shutdown: &Shutdown) {
    let config = settings(nats, "delivery-tracker", &[("DATABASE_URL", &postgres.url())]);
    let service = entrenous_delivery_tracker::Service::build(&config).await.unwrap();
    let readiness = service.readiness();
    tokio::spawn(service.serve(shutdown.clone()));
    wait_for("the tracker", async || if readiness.is_ready() { Ok(()) } else { Err("not ready") }).await.unwrap();
}

async fn start_gateway(nats: &TestNats, shutdown: &Shutdown, changes: &[(&str, &str)]) -> String {
    let mut more = vec![
        ("GATEWAY_ADDR", "127.0.0.1:0"),
        ("GATEWAY_WORKERS", "1"),
        ("DRAIN_WAIT_MS", "0"),
        ("DRAIN_SPREAD_MS", "0"),
    ];
    more.extend(changes);
    let config: Config = settings(nats, "gateway", &more);
    let service = entrenous_gateway::Service::build(config).await.unwrap();
    let base = format!("http://{}", service.addr().unwrap());
    tokio::spawn(service.serve(shutdown.clone()));
    base
}
