//! Migrations forwards, backwards, and forwards again.

use entrenous_db::Migrations;
use entrenous_test_support::TestPostgres;
use tokio_postgres::{Client, NoTls};

/// Everything that migrations make, as text: columns, constraints, indexes, functions, triggers, and what they are like.
const SCHEMA: &str = "
    SELECT format('column %s.%s.%s %s %s %s', table_schema, table_name, column_name, data_type, is_nullable, column_default)
      FROM information_schema.columns WHERE table_schema NOT IN ('pg_catalog', 'information_schema')
    UNION ALL SELECT format('constraint %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(c.oid))
      FROM pg_constraint c JOIN pg_namespace n ON n.oid = connamespace
      WHERE nspname NOT IN ('pg_catalog', 'information_schema') AND conrelid <> 0
    UNION ALL SELECT format('index %s', indexdef) FROM pg_indexes WHERE schemaname <> 'pg_catalog'
    UNION ALL SELECT format('function %s', pg_get_functiondef(p.oid)) FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
      WHERE nspname NOT IN ('pg_catalog', 'information_schema')
    UNION ALL SELECT format('trigger %s', pg_get_triggerdef(oid)) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT format('storage %s %s %s %s', attrelid::regclass, attname, attstorage, reloptions)
      FROM pg_attribute a JOIN pg_class r ON r.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
      WHERE nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND attnum > 0 AND NOT attisdropped
    UNION ALL SELECT format('schema %s', nspname) FROM pg_namespace WHERE nspname NOT LIKE 'pg_%'
    ORDER BY 1";

fn all() -> [(&'static str, Migrations); 4] {
    [
        ("identity", entrenous_identity::MIGRATIONS),
        ("message-store", entrenous_message_store::MIGRATIONS),
        ("delivery-tracker", entrenous_delivery_tracker::MIGRATIONS),
        ("presence", entrenous_presence::MIGRATIONS),
    ]
}

async fn connect(postgres: &TestPostgres) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(&postgres.url(), NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn schema(client: &Client) -> anyhow::Result<Vec<String>> {
    Ok(client.query(SCHEMA, &[]).await?.iter().map(|row| row.get(0)).collect())
}

fn url(postgres: &TestPostgres) -> String {
    format!("{}?sslmode=disable", postgres.url())
}

#[tokio::test(flavor = "multi_thread")]
async fn up_down_up_gives_the_same_tables() -> anyhow::Result<()> {
    let postgres = TestPostgres::start().await?;
    let client = connect(&postgres).await?;
    for (service, migrations) in all() {
        let before = schema(&client).await?;
        let applied = entrenous_db::migrate(&url(&postgres), migrations).await?;
        let folders = std::fs::read_dir(format!("../../migrations/{service}"))?.count();
        assert_eq!(applied.len(), folders, "{service}: of two with the same number, diesel passes over the second");
        let up = schema(&client).await?;
        assert_ne!(before, up, "the migrations of {service} make nothing");
        entrenous_db::redo_all(&url(&postgres), migrations_of(service)).await?;
        assert_eq!(up, schema(&client).await?, "{service}");
        assert!(entrenous_db::migrate(&url(&postgres), migrations_of(service)).await?.is_empty(), "{service}");
    }
    Ok(())
}

fn migrations_of(service: &str) -> Migrations {
    let [.., last] = all();
    all().into_iter().find(|(name, _)| *name == service).unwrap_or(last).1
}

#[tokio::test(flavor = "multi_thread")]
async fn each_service_stays_in_its_schema() -> anyhow::Result<()> {
    let expected = [
        ("identity", "identity"),
        ("message-store", "messaging"),
        ("delivery-tracker", "delivery"),
        ("presence", "presence"),
    ];
    for (service, own) in expected {
        let postgres = TestPostgres::start().await?;
        let client = connect(&postgres).await?;
        entrenous_db::migrate(&url(&postgres), migrations_of(service)).await?;
        let schemas = "SELECT DISTINCT table_schema::text FROM information_schema.tables
            WHERE table_schema NOT IN ('pg_catalog', 'information_schema') AND table_name <> '__diesel_schema_migrations'";
        let schemas: Vec<String> = client.query(schemas, &[]).await?.iter().map(|row| row.get(0)).collect();
        assert_eq!(schemas, [own], "{service}");
    }
    Ok(())
}
