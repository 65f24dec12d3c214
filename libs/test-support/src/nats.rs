//! A nats-server for a test.

use anyhow::Context;
use entrenous_local_servers::{Nats, NatsSpec, NatsUser, Password, permissions::Service};

use crate::run_folder::RunFolder;

/// A private nats-server with JetStream; gone when dropped.
#[derive(Debug)]
pub struct TestNats {
    server: Option<Nats>,
    spec: NatsSpec,
    url: String,
    // Last, so that the server is gone when it is removed.
    _folder: RunFolder,
}

impl TestNats {
    /// A server that lets everybody in.
    ///
    /// # Errors
    /// When nats-server is not there or does not start.
    pub async fn start() -> anyhow::Result<Self> {
        Self::serve(Vec::new()).await
    }

    /// A server with one user per service and its permissions; the password is [`TestNats::password`].
    ///
    /// # Errors
    /// As [`TestNats::start`].
    pub async fn with_permissions() -> anyhow::Result<Self> {
        let user = |service| NatsUser::service(service, Password::Plain(Self::password(service)));
        Self::serve(Service::ALL.into_iter().map(user).collect()).await
    }

    /// The password of a service's user in tests.
    pub fn password(service: Service) -> String {
        format!("password-of-{}", service.name())
    }

    async fn serve(users: Vec<NatsUser>) -> anyhow::Result<Self> {
        let folder = RunFolder::make()?;
        let mut spec = NatsSpec::new(folder.path().join("nats"));
        spec.users = users;
        let server = Nats::start(&spec).await?;
        spec.port = Some(server.port());
        Ok(Self { url: server.url(), server: Some(server), spec, _folder: folder })
    }

    /// Address, the same after a restart.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Number of the process while there is one.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Nats::pid)
    }

    /// SIGKILL: streams are there after [`TestNats::restart`].
    pub async fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill().await;
        }
    }

    /// Stops it in order.
    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
    }

    /// Starts it again on the same port with the same streams; one that runs is stopped first.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop().await;
        self.server = Some(Nats::start(&self.spec).await.context("nats-server does not come back")?);
        Ok(())
    }

    /// Starts it again on the same port without any stream; one that runs is stopped first.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart_empty(&mut self) -> anyhow::Result<()> {
        self.stop().await;
        std::fs::remove_dir_all(self.spec.home.join("jetstream")).context("cannot remove the streams")?;
        self.restart().await
    }
}
