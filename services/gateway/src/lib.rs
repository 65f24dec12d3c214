#![doc = include_str!("../README.md")]

mod admitted;
#[cfg(feature = "bench")]
pub mod audience;
mod config;
mod connection;
mod fanout;
mod gather;
mod http;
mod live;
pub mod openapi;
mod presence;
mod receipts;
mod routes;
mod sends;
mod state;
mod store;
mod store_clock;
mod tokens;
mod typing;
mod worker;

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use actix_web::{App, HttpServer, web};
use anyhow::Context;
use entrenous_bus::{Bus, LiveSubscription};
use entrenous_protocol::rpc::{Done, identity::RevokedLogins};
use entrenous_runtime::{AdminServer, Readiness, Shutdown, Tasks};
use tokio::time::Instant;

pub use config::Config;
use state::Gateway;
use tokens::Tokens;
use worker::{Worker, WorkerEvent};

/// How often the list of logins that ended is read again, in case the news was lost.
const REVOKED_REFRESH: Duration = Duration::from_secs(30);
/// How often readiness is looked at.
const READINESS_TICK: Duration = Duration::from_millis(500);
/// How long the last connections may take to go at a stop.
const LAST_CONNECTIONS_MAX: Duration = Duration::from_secs(3);
/// How long what was written may stay unread by a client before the kernel gives the socket up, also when the client's
/// machine still answers. Source: `TCP_USER_TIMEOUT`, tcp(7).
const UNREAD_MAX: Duration = Duration::from_secs(60);
/// Connections that may wait to be accepted: a reconnect storm must not be refused by the kernel.
const BACKLOG: u32 = 4_096;

/// What is gathered before it goes to the kernel. actix keeps a buffer that has grown, up to 128 KiB, as long as its
/// connection lives, so it must not grow.
pub(crate) const WRITE_BUFFER_BYTES: usize = 8 * 1024;

/// Runs the gateway until the stop.
///
/// # Errors
/// When an address is taken or NATS is away at the start.
pub async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    Service::build(config).await?.serve(shutdown).await
}

/// A gateway whose ports are bound.
#[derive(Debug)]
pub struct Service {
    gateway: Arc<Gateway>,
    live: LiveSubscription,
    listener: TcpListener,
    admin: AdminServer,
    tasks: Tasks,
    /// What clients need is stopped by this one, after they have gone.
    late: Shutdown,
}

impl Service {
    /// Binds the ports (0 picks a free one) and connects to NATS.
    ///
    /// # Errors
    /// When a setting is wrong, an address is taken or NATS is away.
    pub async fn build(config: Config) -> anyhow::Result<Self> {
        let tokens = Tokens::new(&config)?;
        let readiness = Readiness::new();
        readiness.set("keys", false);
        let listener =
            TcpListener::bind(config.gateway_addr).with_context(|| format!("GATEWAY_ADDR {}", config.gateway_addr))?;
        let admin = AdminServer::bind(config.process.admin_addr, readiness.clone())?;
        let bus = Bus::connect(&config.nats, "gateway").await?;
        let live = bus.subscribe_live().await?;
        let tasks = Tasks::new();
        let late = Shutdown::new();
        let clock = Arc::default();
        let bounds = sends::Bounds {
            partitions: config.send_batches,
            bytes_max: config.sends_bytes_max,
            deadline: config.send_deadline(),
        };
        let sends = sends::Sends::start(&bus, &clock, &tasks, &late, bounds);
        let store = store::StoreReads::start(&bus, &clock, &tasks, &late);
        let gateway = Arc::new(Gateway::new(bus, config, readiness, sends, store, tokens));
        Ok(Self { gateway, live, listener, admin, tasks, late })
    }

    /// Where clients reach it.
    ///
    /// # Errors
    /// When the listener is broken.
    pub fn addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the stop, then sends the clients away and ends.
    ///
    /// # Errors
    /// When the server cannot start.
    pub async fn serve(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self { gateway, live, listener, admin, tasks, late } = self;
        tasks.spawn(admin.serve(late.clone()));
        tasks.spawn_vital("readiness", shutdown.clone(), watch_readiness(Arc::clone(&gateway), late.clone()));
        tasks.spawn_vital("live", late.clone(), stop_with(late.clone(), live::run(Arc::clone(&gateway), live)));
        tasks.spawn_vital("typing", late.clone(), stop_with(late.clone(), typing::run(Arc::clone(&gateway))));
        tasks.spawn_vital("receipts", shutdown.clone(), receipts::run(Arc::clone(&gateway), late.clone()));
        tasks.spawn_vital("presence", shutdown.clone(), presence::run(Arc::clone(&gateway), late.clone()));
        tasks.spawn_vital(
            "revocations",
            shutdown.clone(),
            stop_with(late.clone(), refresh_revoked(Arc::clone(&gateway))),
        );
        tasks.spawn_vital("keys", shutdown.clone(), stop_with(late.clone(), refresh_keys(Arc::clone(&gateway))));
        let server = serve_http(&gateway, listener)?;
        let handle = server.handle();
        let stop = async {
            shutdown.triggered().await;
            send_clients_away(&gateway).await;
            handle.stop(true).await;
        };
        let (result, ()) = tokio::join!(server, stop);
        late.trigger();
        if !tasks.end().await {
            tracing::warn!("some tasks did not end in time");
        }
        gateway.bus.close().await;
        Ok(result?)
    }
}

fn serve_http(gateway: &Arc<Gateway>, listener: TcpListener) -> anyhow::Result<actix_web::dev::Server> {
    let shared = Arc::clone(gateway);
    let mut server = HttpServer::new(move || {
        let worker = Worker::start(Arc::clone(&shared));
        App::new()
            .app_data(web::Data::from(Arc::clone(&shared)))
            .app_data(worker)
            .configure(|app| http::resource::at("/api/v1/ws").get(connection::handshake::upgrade).register(app))
            .configure(routes::configure)
    })
    .on_connect(|io, _| {
        if let Some(stream) = io.downcast_ref::<actix_web::rt::net::TcpStream>()
            && let Err(error) = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(UNREAD_MAX))
        {
            tracing::debug!(%error, "no user timeout on a socket");
        }
    })
    .disable_signals()
    // Small frames must not wait for the acknowledgement of earlier ones: no Nagle (RFC 896).
    .tcp_nodelay(true)
    .h1_write_buffer_size(WRITE_BUFFER_BYTES)
    .backlog(BACKLOG)
    .max_connections(gateway.config.gateway_connections_per_worker_max)
    .client_disconnect_timeout(Duration::from_secs(1))
    .shutdown_timeout(5);
    if let Some(workers) = gateway.config.gateway_workers {
        server = server.workers(workers.get());
    }
    Ok(server.listen(listener)?.run())
}

async fn stop_with(shutdown: Shutdown, task: impl Future<Output = ()>) {
    tokio::select! {
        () = task => {}
        () = shutdown.triggered() => {}
    }
}

/// Not ready, a moment for the load balancer, then every connection is told to come back elsewhere.
async fn send_clients_away(gateway: &Arc<Gateway>) {
    gateway.readiness.set("not_draining", false);
    tokio::time::sleep(Duration::from_millis(gateway.config.drain_wait_ms)).await;
    gateway.start_draining();
    let spread = Duration::from_millis(gateway.config.drain_spread_ms);
    gateway.tell_workers(WorkerEvent::Drain(spread)).await;
    let until = Instant::now() + spread + LAST_CONNECTIONS_MAX;
    while gateway.presence.has_connections() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn watch_readiness(gateway: Arc<Gateway>, shutdown: Shutdown) {
    while !shutdown.is_triggered() {
        gateway.readiness.set("nats", gateway.bus.state().is_connected() && gateway.hears_nats());
        tokio::select! {
            () = tokio::time::sleep(READINESS_TICK) => {}
            () = shutdown.triggered() => {}
        }
    }
}

async fn refresh_revoked(gateway: Arc<Gateway>) {
    loop {
        match gateway.call::<RevokedLogins>(&Done {}).await {
            Ok(logins) => {
                let news = gateway.note_revoked(&logins);
                if !news.is_empty() {
                    gateway.tell_workers(WorkerEvent::LoginsEnded(news.into())).await;
                }
                gateway.readiness.set("revocations", true);
                let due = gateway.revocations_due.notified();
                let _ = tokio::time::timeout(REVOKED_REFRESH, due).await;
            }
            Err(_) => tokio::time::sleep(READINESS_TICK).await,
        }
    }
}

async fn refresh_keys(gateway: Arc<Gateway>) {
    loop {
        match gateway.tokens.refresh(&gateway.bus).await {
            Ok(()) => {
                gateway.readiness.set("keys", true);
                tokio::time::sleep(gateway.tokens.refresh_interval()).await;
            }
            Err(_) => tokio::time::sleep(READINESS_TICK).await,
        }
    }
}
