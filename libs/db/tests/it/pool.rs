//! Callers who wait for connections that are slow to make.

use std::time::Duration;

use clap::Parser;
use entrenous_db::{Database, DbConfig};
use entrenous_test_support::{Proxy, TestPostgres};

/// How long a caller waits: less than it takes to make a connection.
const PATIENCE: Duration = Duration::from_millis(100);
/// What each piece on the line takes longer; a connection takes more than four.
const DELAY: Duration = Duration::from_millis(40);

#[derive(Parser)]
struct Settings {
    #[command(flatten)]
    db: DbConfig,
}

/// As after an outage of PostgreSQL: everybody wants a connection, and nobody waits until it is made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_its_caller_no_longer_waits_for_is_the_next_ones() {
    let postgres = TestPostgres::start().await.unwrap();
    let url = postgres.url();
    let address = url.split(['@', '/']).nth(3).unwrap();
    let proxy = Proxy::start(address.parse().unwrap()).await.unwrap();
    proxy.delay(DELAY);
    let url = url.replace(address, &proxy.addr().to_string());
    let settings = Settings::try_parse_from(["test", "--database-url", &url]).unwrap();
    let database = Database::new(&settings.db, "test").unwrap();
    let has_one =
        async { while tokio::time::timeout(PATIENCE, database.get()).await.map_or(true, |got| got.is_err()) {} };
    tokio::time::timeout(Duration::from_secs(30), has_one).await.expect("nobody ever got a connection");
}
