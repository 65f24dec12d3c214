//! The tables of all services.

use anyhow::Context;
use entrenous_db::Migrations;

use crate::output;

/// Which database.
#[derive(Debug, clap::Args)]
pub(crate) struct MigrateArgs {
    /// Where PostgreSQL is: `postgres://user:password@host:port/database`.
    #[arg(long, env, hide_env_values = true)]
    database_url: String,
    /// Also takes everything back and applies it again: destroys all data.
    #[arg(long, hide = true)]
    redo: bool,
}

/// Every service with tables, in the order in which they are migrated.
fn migrations() -> [(&'static str, Migrations); 4] {
    [
        ("identity", entrenous_identity::MIGRATIONS),
        ("message-store", entrenous_message_store::MIGRATIONS),
        ("delivery-tracker", entrenous_delivery_tracker::MIGRATIONS),
        ("presence", entrenous_presence::MIGRATIONS),
    ]
}

/// Migrates and says what was done.
///
/// # Errors
/// When PostgreSQL is away, or a migration fails.
pub(crate) async fn run(arguments: MigrateArgs) -> anyhow::Result<()> {
    for (service, applied) in migrate_all(&arguments.database_url).await? {
        output::say(&format!(
            "{service}: {}",
            if applied.is_empty() { "up to date".to_owned() } else { applied.join(", ") }
        ));
    }
    if arguments.redo {
        for (service, migrations) in migrations() {
            entrenous_db::redo_all(&arguments.database_url, migrations).await.context(service)?;
            output::say(&format!("{service}: taken back and applied again"));
        }
    }
    Ok(())
}

/// Brings the tables of all services up to date; gives what was applied, by service.
///
/// # Errors
/// When PostgreSQL is away, or a migration fails.
pub(crate) async fn migrate_all(url: &str) -> anyhow::Result<Vec<(&'static str, Vec<String>)>> {
    let mut done = Vec::new();
    for (service, migrations) in migrations() {
        let applied = entrenous_db::migrate(url, migrations).await;
        done.push((service, applied.with_context(|| format!("cannot migrate the tables of {service}"))?));
    }
    Ok(done)
}
