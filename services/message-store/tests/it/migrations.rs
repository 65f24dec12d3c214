//! The migrations in both directions.

use diesel::{QueryableByName, sql_query, sql_types::Text};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use entrenous_message_store::MIGRATIONS;
use entrenous_test_support::TestPostgres;

#[derive(Debug, PartialEq, QueryableByName)]
struct Part {
    #[diesel(sql_type = Text)]
    part: String,
}

/// Columns, constraints, indexes, triggers and functions of the schema, as text.
async fn schema(url: &str) -> Vec<Part> {
    let mut connection = AsyncPgConnection::establish(url).await.unwrap();
    let parts = sql_query(
        "SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default) AS part \
         FROM information_schema.columns WHERE table_schema = 'messaging' \
         UNION ALL SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid)) \
         FROM pg_constraint WHERE connamespace = 'messaging'::regnamespace \
         UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'messaging' \
         UNION ALL SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
         WHERE c.relnamespace = 'messaging'::regnamespace AND NOT t.tgisinternal \
         UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'messaging'::regnamespace \
         ORDER BY part",
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
    assert!(before.iter().any(|part| part.part.contains("audit_append_only")));
    entrenous_db::redo_all(&url, MIGRATIONS).await.unwrap();
    assert_eq!(schema(&url).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_cannot_be_changed() {
    let postgres = TestPostgres::start().await.unwrap();
    entrenous_db::migrate(&postgres.url(), MIGRATIONS).await.unwrap();
    let mut connection = AsyncPgConnection::establish(&postgres.url()).await.unwrap();
    let insert =
        "INSERT INTO messaging.audit (id, actor_id, action) VALUES (gen_random_uuid(), gen_random_uuid(), 'x')";
    sql_query(insert).execute(&mut connection).await.unwrap();
    for change in ["UPDATE messaging.audit SET action = 'y'", "DELETE FROM messaging.audit", "TRUNCATE messaging.audit"]
    {
        let error = sql_query(change).execute(&mut connection).await.unwrap_err();
        assert!(error.to_string().contains("append-only"), "{change}: {error}");
    }
}
