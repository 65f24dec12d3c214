//! What becomes of the servers when their starter is killed.

use std::{ffi::OsString, path::Path};

use entrenous_local_servers::{Nats, Output, Postgres, Process, ProcessSpec};
use tempfile::TempDir;

use crate::{nats, postgres, wait_for};

/// Tells the starter where to keep its servers; without it, it is no starter.
const HOME_VARIABLE: &str = "ENTRENOUS_TEST_ORPHANS_HOME";

/// Started as a process of its own by the test below, and killed by it.
#[tokio::test]
async fn starter() -> anyhow::Result<()> {
    let Some(home) = std::env::var_os(HOME_VARIABLE) else { return Ok(()) };
    let home = Path::new(&home);
    let postgres = Postgres::start(&entrenous_local_servers::PostgresSpec::for_tests(home.join("postgresql"))).await?;
    let nats = Nats::start(&entrenous_local_servers::NatsSpec::new(home.join("nats"))).await?;
    std::fs::write(home.join("draft"), format!("{} {}", postgres.pid(), nats.pid()))?;
    std::fs::rename(home.join("draft"), home.join("pids"))?;
    std::future::pending().await
}

fn start_starter(home: &TempDir) -> anyhow::Result<Process> {
    let arguments: [OsString; 2] = ["--exact".into(), "orphans::starter".into()];
    let mut spec = ProcessSpec::new(std::env::current_exe()?, arguments);
    spec.output = Output::Append(home.path().join("starter.log"));
    spec.environment.push((HOME_VARIABLE.to_owned(), home.path().to_string_lossy().into_owned()));
    Ok(Process::spawn(spec)?)
}

fn is_alive(pid: &str) -> bool {
    // A zombie has no command line: it has ended.
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

#[tokio::test]
async fn a_killed_starter_takes_its_servers_along() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let starter = start_starter(&home)?;
    wait_for("the servers", || async { home.path().join("pids").exists() || starter.exit_status().is_some() }).await?;
    let pids = std::fs::read_to_string(home.path().join("pids"))?;
    assert!(pids.split(' ').all(is_alive), "{pids}");
    starter.kill().await;

    // At once, while the old ones are still stopping.
    let postgres = Postgres::start(&postgres::spec(&home)).await?;
    let nats = Nats::start(&nats::spec(&home)).await?;
    postgres::connect(&postgres.url()).await?;
    async_nats::connect(nats.url()).await?;
    assert!(!pids.split(' ').any(is_alive), "{pids}");
    Ok(())
}
