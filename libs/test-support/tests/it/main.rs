//! The fixtures themselves.

use entrenous_local_servers::permissions::Service;
use entrenous_test_support::{TestNats, TestPostgres};
use tokio_postgres::{Client, NoTls};

async fn connect(postgres: &TestPostgres) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(&postgres.url(), NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn make_kept(url: String) -> anyhow::Result<()> {
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client.batch_execute("CREATE TABLE kept (id int)").await?)
}

fn is_alive(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

#[tokio::test]
async fn a_database_starts_empty_every_time() -> anyhow::Result<()> {
    for _ in 0..2 {
        let postgres = TestPostgres::start().await?;
        connect(&postgres).await?.simple_query("CREATE TABLE kept (id int)").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_schema_is_migrated_once_and_copied() -> anyhow::Result<()> {
    let postgres = TestPostgres::with_schema("kept", make_kept).await?;
    let other = TestPostgres::with_schema("kept", async |_| anyhow::bail!("migrated twice")).await?;
    connect(&postgres).await?.batch_execute("INSERT INTO kept VALUES (1)").await?;
    let count: i64 = connect(&other).await?.query_one("SELECT count(*) FROM kept", &[]).await?.get(0);
    assert_eq!(count, 0, "databases are private");
    Ok(())
}

#[tokio::test]
async fn a_failed_migration_leaves_no_template() -> anyhow::Result<()> {
    // A template that was left would spare the second migration, and so its failure.
    for reason in ["first", "second"] {
        let failed = TestPostgres::with_schema("failing", async |_| anyhow::bail!(reason)).await;
        assert!(format!("{:#}", failed.err().unwrap()).contains(reason));
    }
    Ok(())
}

#[tokio::test]
async fn commits_outlive_a_kill() -> anyhow::Result<()> {
    let mut postgres = TestPostgres::start().await?;
    let url = postgres.url();
    connect(&postgres).await?.batch_execute("CREATE TABLE kept AS SELECT 1 AS id").await?;
    postgres.kill().await;
    assert!(connect(&postgres).await.is_err());
    postgres.restart().await?;
    assert_eq!(postgres.url(), url);
    connect(&postgres).await?.query_one("SELECT id FROM kept", &[]).await?;
    Ok(())
}

#[tokio::test]
async fn a_panic_leaves_nothing_behind() -> anyhow::Result<()> {
    let (send, receive) = std::sync::mpsc::channel();
    let panicking = tokio::spawn(async move {
        let (postgres, nats) = (TestPostgres::start().await.unwrap(), TestNats::start().await.unwrap());
        let pids = (postgres.pid().unwrap(), nats.pid().unwrap());
        let folder = std::fs::read_link(format!("/proc/{}/cwd", pids.0));
        send.send((pids, folder)).unwrap();
        panic!("as a failing test does");
    });
    assert!(panicking.await.is_err());
    let ((postgres, nats), folder) = receive.recv()?;
    assert!(!is_alive(postgres) && !is_alive(nats));
    assert!(!folder?.exists());
    Ok(())
}

#[tokio::test]
async fn nats_may_ask_for_credentials() -> anyhow::Result<()> {
    let mut nats = TestNats::with_permissions().await?;
    assert!(async_nats::connect(nats.url()).await.is_err());
    nats.restart().await?;
    let options = async_nats::ConnectOptions::with_user_and_password(
        Service::Gateway.name().to_owned(),
        TestNats::password(Service::Gateway),
    );
    options.connect(nats.url()).await?;
    Ok(())
}
