//! The admin port: `/livez`, `/readyz` (alias `/healthz`) and `/metrics`.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use actix_web::{App, HttpResponse, HttpServer, web};
use serde_json::json;

use crate::{Shutdown, telemetry};

/// Whether the service can do its work, as the sum of named checks. Clones share the checks.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, bool>>>);

impl Readiness {
    /// No checks: ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says how one check stands; a name that was not known is added.
    pub fn set(&self, check: &'static str, is_good: bool) {
        let mut checks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if checks.insert(check, is_good) != Some(is_good) {
            tracing::info!(check, is_good, "readiness changed");
        }
    }

    /// Whether every check is good.
    pub fn is_ready(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().all(|is_good| *is_good)
    }

    /// The checks by name.
    pub fn checks(&self) -> BTreeMap<&'static str, bool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The answer of a readiness probe: 200 or 503, with the checks.
    pub fn response(&self) -> HttpResponse {
        let is_ready = self.is_ready();
        let body = json!({"status": if is_ready { "ready" } else { "not ready" }, "checks": self.checks()});
        if is_ready { HttpResponse::Ok().json(body) } else { HttpResponse::ServiceUnavailable().json(body) }
    }
}

/// The admin port, bound and not yet served.
#[derive(Debug)]
pub struct AdminServer {
    listener: std::net::TcpListener,
    addr: SocketAddr,
    readiness: Readiness,
}

impl AdminServer {
    /// Binds the port.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub fn bind(addr: SocketAddr, readiness: Readiness) -> std::io::Result<Self> {
        let listener = std::net::TcpListener::bind(addr)
            .map_err(|error| std::io::Error::new(error.kind(), format!("ADMIN_ADDR {addr}: {error}")))?;
        let addr = listener.local_addr()?;
        Ok(Self { listener, addr, readiness })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until the stop.
    ///
    /// # Errors
    /// When the server cannot start.
    pub async fn serve(self, shutdown: Shutdown) -> std::io::Result<()> {
        let readiness = self.readiness;
        let server = HttpServer::new(move || {
            let readiness = readiness.clone();
            let ready = move || {
                let readiness = readiness.clone();
                async move { readiness.response() }
            };
            App::new()
                .route("/livez", web::get().to(async || HttpResponse::Ok().json(json!({"status": "alive"}))))
                .route("/readyz", web::get().to(ready.clone()))
                .route("/healthz", web::get().to(ready))
                .route(
                    "/metrics",
                    web::get().to(async || {
                        HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(telemetry::render_metrics())
                    }),
                )
        })
        .workers(1)
        .disable_signals()
        .shutdown_timeout(1)
        .listen(self.listener)?
        .run();
        let handle = server.handle();
        let stop = async move {
            shutdown.triggered().await;
            handle.stop(true).await;
        };
        let (result, ()) = tokio::join!(server, stop);
        result
    }
}
