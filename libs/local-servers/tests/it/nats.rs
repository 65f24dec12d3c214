//! nats-server.

use std::time::Duration;

use async_nats::jetstream;
use entrenous_local_servers::{Nats, NatsSpec, ServerError, SyncInterval, ports};
use tempfile::TempDir;

use crate::LIMIT;

pub(crate) fn spec(home: &TempDir) -> NatsSpec {
    NatsSpec::new(home.path().join("nats"))
}

async fn messages(url: &str) -> anyhow::Result<u64> {
    let context = jetstream::new(async_nats::connect(url).await?);
    Ok(context.get_stream("KEPT").await?.get_info().await?.state.messages)
}

#[tokio::test]
async fn streams_outlive_a_stop_and_a_kill() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let mut spec = spec(&home);
    spec.sync_interval = SyncInterval::Every(Duration::from_secs(10));
    let nats = Nats::start(&spec).await?;
    spec.port = Some(nats.port());
    let url = nats.url();
    let context = jetstream::new(async_nats::connect(&url).await?);
    let config = jetstream::stream::Config { name: "KEPT".to_owned(), ..Default::default() };
    context.create_stream(config).await?;
    context.publish("KEPT", "one".into()).await?.await?;
    nats.stop().await;

    spec.sync_interval = SyncInterval::Always;
    let nats = Nats::start(&spec).await?;
    assert_eq!(messages(&url).await?, 1);
    nats.kill().await;
    tokio::time::timeout(LIMIT, nats.wait_exit()).await?;
    drop(nats);

    let _nats = Nats::start(&spec).await?;
    assert_eq!(messages(&url).await?, 1);
    Ok(())
}

#[tokio::test]
async fn large_batches_fit() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let nats = Nats::start(&spec(&home)).await?;
    let client = async_nats::connect(nats.url()).await?;
    assert_eq!(client.server_info().max_payload, 8 << 20);
    Ok(())
}

#[tokio::test]
async fn one_home_has_one_server() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let _nats = Nats::start(&spec(&home)).await?;
    let error = Nats::start(&spec(&home)).await.unwrap_err();
    assert!(matches!(error, ServerError::HomeBusy { .. }), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_busy_port_is_named() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let mut spec = spec(&home);
    let port = ports::pick()?;
    let _listener = std::net::TcpListener::bind(("127.0.0.1", port))?;
    spec.port = Some(port);
    let error = Nats::start(&spec).await.unwrap_err();
    assert!(matches!(error, ServerError::PortBusy { port: busy } if busy == port), "{error}");
    Ok(())
}
