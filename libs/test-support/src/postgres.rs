//! A PostgreSQL for a test.

use std::path::{Path, PathBuf};

use anyhow::Context;
use entrenous_local_servers::{Postgres, PostgresSpec};

use crate::{run_folder::RunFolder, template};

/// A private PostgreSQL: nobody else's data, nothing waits for the disk, gone when dropped.
#[derive(Debug)]
pub struct TestPostgres {
    server: Option<Postgres>,
    spec: PostgresSpec,
    url: String,
    // Last, so that the server is gone when it is removed.
    _folder: RunFolder,
}

impl TestPostgres {
    /// An empty database.
    ///
    /// # Errors
    /// When PostgreSQL is not there or does not start.
    pub async fn start() -> anyhow::Result<Self> {
        let folder = RunFolder::make()?;
        let spec = PostgresSpec::for_tests(folder.path().join("postgresql"));
        template::copy_empty(&spec.home).await?;
        Self::serve(folder, spec).await
    }

    /// A database with a schema: `migrate` gets the address of an empty one, once per test program, and the result is
    /// copied. `name` tells the schemas of one program apart.
    ///
    /// # Errors
    /// When PostgreSQL does not start, or `migrate` fails.
    pub async fn with_schema(
        name: &str,
        migrate: impl AsyncFnOnce(String) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let folder = RunFolder::make()?;
        let home = folder.path().join("postgresql");
        Self::with_schema_at(folder, home, name, migrate).await
    }

    /// As [`TestPostgres::with_schema`], with the data below this folder, which the caller removes.
    ///
    /// # Errors
    /// As [`TestPostgres::with_schema`].
    pub async fn with_schema_in(
        parent: &Path,
        name: &str,
        migrate: impl AsyncFnOnce(String) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        Self::with_schema_at(RunFolder::make()?, parent.join("postgresql"), name, migrate).await
    }

    async fn with_schema_at(
        folder: RunFolder,
        home: PathBuf,
        name: &str,
        migrate: impl AsyncFnOnce(String) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let spec = PostgresSpec::for_tests(home);
        template::copy_schema(name, &spec.home, migrate).await?;
        Self::serve(folder, spec).await
    }

    async fn serve(folder: RunFolder, mut spec: PostgresSpec) -> anyhow::Result<Self> {
        let server = Postgres::start(&spec).await?;
        spec.port = Some(server.port());
        Ok(Self { url: server.url(), server: Some(server), spec, _folder: folder })
    }

    /// Address of the database, the same after a restart.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Number of the main process while there is one.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Postgres::pid)
    }

    /// SIGKILL: what was committed is there after [`TestPostgres::restart`].
    pub async fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill().await;
        }
    }

    /// Stops it in order: connections are cut.
    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
    }

    /// Starts it again on the same port with the same data; one that runs is stopped first.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop().await;
        self.server = Some(Postgres::start(&self.spec).await.context("PostgreSQL does not come back")?);
        Ok(())
    }
}
