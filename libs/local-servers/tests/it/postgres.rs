//! PostgreSQL.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use entrenous_local_servers::{Durability, Postgres, PostgresSpec, ServerError, ports};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use crate::{LIMIT, wait_for};

pub(crate) fn spec(home: &TempDir) -> PostgresSpec {
    PostgresSpec::for_tests(home.path().join("postgresql"))
}

pub(crate) async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn count(url: &str) -> anyhow::Result<i64> {
    Ok(connect(url).await?.query_one("SELECT count(*) FROM kept", &[]).await?.get(0))
}

#[tokio::test]
async fn data_outlive_a_stop_and_a_kill() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let mut spec = spec(&home);
    let postgres = Postgres::start(&spec).await?;
    spec.port = Some(postgres.port());
    let url = postgres.url();
    connect(&url).await?.batch_execute("CREATE TABLE kept AS SELECT 1 AS one").await?;
    postgres.stop().await;

    let postgres = Postgres::start(&spec).await?;
    assert_eq!(postgres.url(), url);
    let busy = connect(&url).await?;
    busy.batch_execute("INSERT INTO kept VALUES (2)").await?;
    postgres.kill().await;
    tokio::time::timeout(LIMIT, postgres.wait_exit()).await?;
    drop(postgres);

    let _postgres = Postgres::start(&spec).await?;
    assert_eq!(count(&url).await?, 2);
    assert!(busy.simple_query("SELECT 1").await.is_err(), "the old server is gone");
    Ok(())
}

#[tokio::test]
async fn a_killed_server_is_restarted_while_its_children_are_busy() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let mut spec = spec(&home);
    let postgres = Postgres::start(&spec).await?;
    spec.port = Some(postgres.port());
    let client = connect(&postgres.url()).await?;
    let busy = tokio::spawn(async move { client.simple_query("SELECT pg_sleep(20)").await.is_err() });
    let watcher = connect(&postgres.url()).await?;
    wait_for("the busy query", || async {
        let row = watcher.query_one("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'", &[]);
        row.await.is_ok_and(|row| row.get::<_, i64>(0) > 0)
    })
    .await?;
    postgres.kill().await;
    drop(postgres);
    let postgres = tokio::time::timeout(LIMIT, Postgres::start(&spec)).await??;
    connect(&postgres.url()).await?;
    assert!(busy.await?);
    Ok(())
}

#[tokio::test]
async fn a_password_is_asked_for() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let mut spec = PostgresSpec::new(home.path().join("postgresql"), "secret1");
    spec.durability = Durability::MachineStaysUp;
    let postgres = Postgres::start(&spec).await?;
    let client = connect(&postgres.url()).await?;
    let name: String = client.query_one("SELECT current_database()::text", &[]).await?.get(0);
    assert_eq!(name, "entrenous");
    assert!(connect(&postgres.url().replace("secret1", "secret2")).await.is_err());
    assert!(connect(&postgres.url().replace(":secret1", "")).await.is_err());
    Ok(())
}

#[tokio::test]
async fn it_runs_where_another_user_cannot_reach() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let locked = home.path().join("locked");
    std::fs::create_dir(&locked)?;
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o700))?;
    let postgres = Postgres::start(&PostgresSpec::for_tests(locked.join("postgresql"))).await?;
    connect(&postgres.url()).await?;
    Ok(())
}

#[tokio::test]
async fn one_home_has_one_server() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let postgres = Postgres::start(&spec(&home)).await?;
    let error = Postgres::start(&spec(&home)).await.unwrap_err();
    assert!(matches!(error, ServerError::HomeBusy { .. }), "{error}");
    connect(&postgres.url()).await?;
    Ok(())
}

#[tokio::test]
async fn a_busy_port_is_named() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let mut spec = spec(&home);
    let port = ports::pick()?;
    let _listener = std::net::TcpListener::bind(("127.0.0.1", port))?;
    spec.port = Some(port);
    let error = Postgres::start(&spec).await.unwrap_err();
    assert!(matches!(error, ServerError::PortBusy { port: busy } if busy == port), "{error}");
    Ok(())
}

#[tokio::test]
async fn an_unfinished_attempt_to_make_the_data_is_begun_anew() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let spec = spec(&home);
    std::fs::create_dir_all(spec.home.join("data.draft/base"))?;
    let postgres = Postgres::start(&spec).await?;
    connect(&postgres.url()).await?;
    assert!(!spec.home.join("data.draft").exists());
    Ok(())
}

#[tokio::test]
async fn why_it_does_not_start_is_told() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let mut spec = spec(&home);
    spec.settings.push(("no_such_setting".to_owned(), "1".to_owned()));
    let error = tokio::time::timeout(Duration::from_secs(20), Postgres::start(&spec)).await?.unwrap_err();
    assert!(error.to_string().contains("no_such_setting"), "{error}");
    Ok(())
}
