//! Callers who wait for connections that are slow to make.

use std::{net::SocketAddr, time::Duration};

use clap::Parser;
use entrenous_db::{Database, DbConfig};
use entrenous_test_support::{Proxy, TestPostgres};
use tokio::net::TcpListener;

/// How long a caller waits: less than it takes to make a connection.
const PATIENCE: Duration = Duration::from_millis(100);
/// What each piece on the line takes longer; a connection takes more than four.
const DELAY: Duration = Duration::from_millis(40);

#[derive(Parser)]
struct Settings {
    #[command(flatten)]
    db: DbConfig,
}

/// A pool that reaches PostgreSQL through a proxy, and the address behind that.
async fn behind_proxy(postgres: &TestPostgres) -> (Database, Proxy, SocketAddr) {
    let url = postgres.url();
    let address = url.split(['@', '/']).nth(3).unwrap();
    let upstream = address.parse().unwrap();
    let proxy = Proxy::start(upstream).await.unwrap();
    let url = url.replace(address, &proxy.addr().to_string());
    let settings = Settings::try_parse_from(["test", "--database-url", &url]).unwrap();
    (Database::new(&settings.db, "test").unwrap(), proxy, upstream)
}

/// Tries again and again, with this patience each time, until there is a connection.
async fn has_one(database: &Database, patience: Duration) {
    let has_one =
        async { while tokio::time::timeout(patience, database.get()).await.map_or(true, |got| got.is_err()) {} };
    tokio::time::timeout(Duration::from_secs(30), has_one).await.expect("nobody ever got a connection");
}

/// As after an outage of PostgreSQL: everybody wants a connection, and nobody waits until it is made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_its_caller_no_longer_waits_for_is_the_next_ones() {
    let postgres = TestPostgres::start().await.unwrap();
    let (database, proxy, _) = behind_proxy(&postgres).await;
    proxy.delay(DELAY);
    has_one(&database, PATIENCE).await;
}

/// As when the machine of a server is gone and another takes its address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_never_answers_does_not_keep_others_from_the_next_one() {
    let postgres = TestPostgres::start().await.unwrap();
    let (database, proxy, upstream) = behind_proxy(&postgres).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    proxy.lead_to(silent.local_addr().unwrap());
    for _ in 0..4 {
        assert!(tokio::time::timeout(PATIENCE, database.get()).await.is_err());
    }
    proxy.lead_to(upstream);
    has_one(&database, Duration::from_secs(20)).await;
}
