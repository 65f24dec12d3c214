//! Runs migrations, one process at a time.

use diesel::migration::{Migration, MigrationSource};
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, SimpleAsyncConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness};

use crate::connect::establish;

/// The migrations of one service, compiled in.
pub type Migrations = EmbeddedMigrations;

/// The advisory lock that keeps two migrating processes apart.
const LOCK: &str = "SELECT pg_advisory_lock(7305808869231650924)";

/// Brings a database up to date. Needs tokio's multi-threaded runtime. Returns the names of what was applied.
///
/// # Errors
/// When PostgreSQL is away or a migration fails; what was applied before it stays.
pub async fn migrate(url: &str, migrations: Migrations) -> anyhow::Result<Vec<String>> {
    with_harness(url, move |harness| {
        let mut applied = Vec::new();
        let known = harness.applied_migrations().map_err(anyhow::Error::from_boxed)?;
        for migration in sorted(&migrations)? {
            if !known.contains(&migration.name().version().as_owned()) {
                harness.run_migration(&*migration).map_err(anyhow::Error::from_boxed)?;
                applied.push(migration.name().to_string());
            }
        }
        Ok(applied)
    })
    .await
}

/// Takes every migration back, newest first, and applies all again; for the check that both directions work.
///
/// # Errors
/// When PostgreSQL is away or a migration fails.
pub async fn redo_all(url: &str, migrations: Migrations) -> anyhow::Result<()> {
    with_harness(url, move |harness| {
        let known = harness.applied_migrations().map_err(anyhow::Error::from_boxed)?;
        let all = sorted(&migrations)?;
        for migration in all.iter().rev() {
            if known.contains(&migration.name().version().as_owned()) {
                harness.revert_migration(&**migration).map_err(anyhow::Error::from_boxed)?;
            }
        }
        for migration in &all {
            harness.run_migration(&**migration).map_err(anyhow::Error::from_boxed)?;
        }
        Ok(())
    })
    .await
}

type Harness = AsyncMigrationHarness<AsyncPgConnection>;
type PgMigration = Box<dyn Migration<diesel::pg::Pg>>;

fn sorted(migrations: &Migrations) -> anyhow::Result<Vec<PgMigration>> {
    let mut all = MigrationSource::<diesel::pg::Pg>::migrations(migrations).map_err(anyhow::Error::from_boxed)?;
    all.sort_by(|one, other| one.name().version().cmp(&other.name().version()));
    Ok(all)
}

async fn with_harness<T: Send + 'static>(
    url: &str,
    work: impl FnOnce(&mut Harness) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let mut connection = establish(url).await?;
    connection.batch_execute(LOCK).await?;
    // The lock ends with the connection.
    tokio::task::spawn(async move { work(&mut AsyncMigrationHarness::new(connection)) }).await?
}
