//! The migrations in both directions.

use diesel::{QueryableByName, sql_query, sql_types::Text};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use entrenous_delivery_tracker::MIGRATIONS;
use entrenous_test_support::TestPostgres;

#[derive(Debug, PartialEq, QueryableByName)]
struct Part {
    #[diesel(sql_type = Text)]
    part: String,
}

/// Columns, constraints and indexes of the schema, as text.
async fn schema(url: &str) -> Vec<Part> {
    let mut connection = AsyncPgConnection::establish(url).await.unwrap();
    let parts = sql_query(
        "SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default) AS part \
         FROM information_schema.columns WHERE table_schema = 'delivery' \
         UNION ALL SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid)) \
         FROM pg_constraint WHERE connamespace = 'delivery'::regnamespace \
         UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'delivery' ORDER BY part",
    );
    parts.load(&mut connection).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_go_up_down_and_up_again() {
    let postgres = TestPostgres::start().await.unwrap();
    let url = postgres.url();
    assert!(!entrenous_db::migrate(&url, MIGRATIONS).await.unwrap().is_empty());
    assert!(entrenous_db::migrate(&url, MIGRATIONS).await.unwrap().is_empty());
    let before = schema(&url).await;
    assert!(before.iter().any(|part| part.part.contains("device_cursors")));
    entrenous_db::redo_all(&url, MIGRATIONS).await.unwrap();
    assert_eq!(schema(&url).await, before);
}
