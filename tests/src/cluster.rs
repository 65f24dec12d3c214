//! All services as tasks of the test, each on lines to NATS and PostgreSQL that can be cut one by one.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use entrenous_client::Url;
use entrenous_local_servers::permissions::Service;
use entrenous_model::SystemClock;
use entrenous_runtime::{Readiness, Shutdown};
use entrenous_test_support::{Proxy, TestNats, TestPostgres, wait_for};
use tokio::task::JoinHandle;

/// 32 bytes in base64.
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// PostgreSQL, nats-server, and one of each service that a gateway and a store need.
#[derive(Debug)]
pub struct Cluster {
    /// The database of all services.
    pub postgres: TestPostgres,
    /// The broker.
    pub nats: TestNats,
    parts: Vec<(Service, Node)>,
    shutdown: Shutdown,
}

/// One running service.
#[derive(Debug)]
pub struct Node {
    /// Its line to NATS.
    pub nats: Proxy,
    /// Its line to PostgreSQL; gateways have none that they use.
    pub postgres: Proxy,
    addr: Option<SocketAddr>,
    readiness: Option<Readiness>,
    shutdown: Shutdown,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Cluster {
    /// The servers, identity, the tracker and presence; no store and no gateway yet.
    ///
    /// # Errors
    /// When a server or a service does not start.
    pub async fn start() -> anyhow::Result<Self> {
        Self::on(TestPostgres::with_schema("all", migrate).await?).await
    }

    /// The same, with the data of PostgreSQL below this folder.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub async fn start_in(folder: &Path) -> anyhow::Result<Self> {
        Self::on(TestPostgres::with_schema_in(folder, "all", migrate).await?).await
    }

    async fn on(postgres: TestPostgres) -> anyhow::Result<Self> {
        let nats = TestNats::with_permissions().await?;
        let mut cluster = Self { postgres, nats, parts: Vec::new(), shutdown: Shutdown::new() };
        for service in [Service::Identity, Service::DeliveryTracker, Service::Presence] {
            let node = cluster.node(service, &[]).await?;
            cluster.parts.push((service, node));
        }
        Ok(cluster)
    }

    /// Identity, the tracker or presence.
    ///
    /// # Panics
    /// For another service.
    pub fn part(&self, service: Service) -> &Node {
        let part = self.parts.iter().find(|(is, _)| *is == service);
        part.map_or_else(|| unreachable!("{} is started by the test", service.name()), |(_, node)| node)
    }

    /// A message store more.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn store(&self, settings: &[(&str, &str)]) -> anyhow::Result<Node> {
        self.node(Service::MessageStore, settings).await
    }

    /// A gateway more, with short patience, so that tests need not wait long; `settings` come first.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn gateway(&self, settings: &[(&str, &str)]) -> anyhow::Result<Node> {
        self.node(Service::Gateway, settings).await
    }

    async fn node(&self, service: Service, settings: &[(&str, &str)]) -> anyhow::Result<Node> {
        let nats = Proxy::start(address(&self.nats.url())?).await?;
        let postgres = Proxy::start(address(&self.postgres.url())?).await?;
        let mut pairs: BTreeMap<String, String> = BTreeMap::new();
        let mut set = |name: &str, value: String| drop(pairs.insert(name.to_owned(), value));
        set("NATS_URL", format!("nats://{}", nats.addr()));
        set("NATS_USER", service.name().to_owned());
        set("NATS_PASSWORD", TestNats::password(service));
        set("DATABASE_URL", through(&self.postgres.url(), postgres.addr())?);
        set("ENTRY_DIGEST_KEY", KEY.to_owned());
        set("IDENTITY_KEY_ENCRYPTION_KEY", KEY.to_owned());
        set("IDENTITY_HASH_MEMORY_KIB", "64".to_owned());
        set("IDENTITY_HASH_ITERATIONS", "1".to_owned());
        set("GATEWAY_ADDR", "127.0.0.1:0".to_owned());
        set("GATEWAY_WORKERS", "2".to_owned());
        set("DRAIN_WAIT_MS", "0".to_owned());
        set("DRAIN_SPREAD_MS", "500".to_owned());
        set("HEARTBEAT_INTERVAL_MS", "1000".to_owned());
        set("DEGRADED_AFTER_MS", "1500".to_owned());
        set("CUT_OFF_AFTER_MS", "5000".to_owned());
        for (name, value) in settings {
            set(name, (*value).to_owned());
        }
        let shutdown = self.shutdown.child();
        let pairs: Vec<(String, String)> = pairs.into_iter().collect();
        let (addr, readiness, task) = Box::pin(run(service, &pairs, shutdown.clone())).await?;
        let node = Node { nats, postgres, addr, readiness, shutdown, task };
        node.wait_ready().await?;
        Ok(node)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

type Running = (Option<SocketAddr>, Option<Readiness>, JoinHandle<anyhow::Result<()>>);

async fn run(service: Service, pairs: &[(String, String)], shutdown: Shutdown) -> anyhow::Result<Running> {
    use entrenous_config::from_pairs;
    Ok(match service {
        Service::Gateway => {
            let service = entrenous_gateway::Service::build(from_pairs(pairs)?).await?;
            (Some(service.addr()?), None, tokio::spawn(service.serve(shutdown)))
        }
        Service::Identity => {
            let service = entrenous_identity::Service::build(&from_pairs(pairs)?, Arc::new(SystemClock)).await?;
            (None, Some(service.readiness()), tokio::spawn(service.serve(shutdown)))
        }
        Service::MessageStore => {
            let service = entrenous_message_store::Service::build(&from_pairs(pairs)?).await?;
            (None, Some(service.readiness()), tokio::spawn(service.serve(shutdown)))
        }
        Service::DeliveryTracker => {
            (None, None, tokio::spawn(entrenous_delivery_tracker::run(from_pairs(pairs)?, shutdown)))
        }
        Service::Presence => (None, None, tokio::spawn(entrenous_presence::run(from_pairs(pairs)?, shutdown))),
    })
}

impl Node {
    /// Where clients reach this gateway.
    ///
    /// # Panics
    /// Where it is no gateway.
    pub fn addr(&self) -> SocketAddr {
        self.addr.unwrap_or_else(|| unreachable!("not a gateway"))
    }

    /// The same as a URL.
    ///
    /// # Panics
    /// Where it is no gateway.
    pub fn url(&self) -> Url {
        format!("http://{}", self.addr()).parse().unwrap_or_else(|_| unreachable!("an address makes a URL"))
    }

    /// Whether it says that it can do its work.
    pub async fn is_ready(&self) -> bool {
        let Some(addr) = self.addr else {
            return self.readiness.as_ref().is_none_or(Readiness::is_ready);
        };
        let answer = reqwest::get(format!("http://{addr}/readyz")).await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Waits until it can do its work.
    ///
    /// # Errors
    /// When it takes too long.
    pub async fn wait_ready(&self) -> anyhow::Result<()> {
        wait_for("a service", async || if self.is_ready().await { Ok(()) } else { Err("not ready") }).await
    }

    /// Stops it in order, as SIGTERM does.
    ///
    /// # Errors
    /// When it ends with an error, or not at all.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.trigger();
        tokio::time::timeout(Duration::from_secs(60), self.task).await.context("it does not stop")??
    }

    /// Lets it go as it stands: its lines are cut and nothing in it is finished. What a killed process leaves behind, it
    /// leaves behind too.
    pub fn kill(self) {
        self.nats.cut();
        self.postgres.cut();
        self.task.abort();
    }
}

async fn migrate(url: String) -> anyhow::Result<()> {
    entrenous_db::migrate(&url, entrenous_identity::MIGRATIONS).await?;
    entrenous_db::migrate(&url, entrenous_message_store::MIGRATIONS).await?;
    entrenous_db::migrate(&url, entrenous_delivery_tracker::MIGRATIONS).await?;
    entrenous_db::migrate(&url, entrenous_presence::MIGRATIONS).await?;
    Ok(())
}

fn address(url: &str) -> anyhow::Result<SocketAddr> {
    let url: Url = url.parse()?;
    let port = url.port().context("the server has no port")?;
    Ok(SocketAddr::from(([127, 0, 0, 1], port)))
}

fn through(url: &str, proxy: SocketAddr) -> anyhow::Result<String> {
    let mut url: Url = url.parse()?;
    url.set_host(Some("127.0.0.1"))?;
    url.set_port(Some(proxy.port())).map_err(|()| anyhow::anyhow!("the database's address has no port"))?;
    Ok(url.into())
}
