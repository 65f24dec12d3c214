//! Keys that sign access tokens.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use entrenous_model::Timestamp;

use super::{observe, schema::signing_keys};
use crate::domain::rotation::Rotation;

/// One of the locks that only whoever makes a signing key takes.
const LOCK: &str = "SELECT pg_advisory_xact_lock(5277643190862458113)";

/// A key. Its private half is sealed.
#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = signing_keys, check_for_backend(diesel::pg::Pg))]
pub(crate) struct SigningKeyRow {
    pub(crate) key_id: String,
    pub(crate) public_key: Vec<u8>,
    pub(crate) private_key_sealed: Vec<u8>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) signs_from: DateTime<Utc>,
}

/// The keys under which tokens may still live, oldest first.
pub(crate) async fn list(connection: &mut AsyncPgConnection, now: Timestamp) -> QueryResult<Vec<SigningKeyRow>> {
    let query = signing_keys::table
        .filter(signing_keys::not_after.is_null().or(signing_keys::not_after.gt(now.as_datetime())))
        .order((signing_keys::created_at, signing_keys::key_id))
        .select(SigningKeyRow::as_select());
    observe("list_signing_keys", query.load(connection)).await
}

/// When the newest of some keys was made.
pub(crate) fn newest_created_at(keys: &[SigningKeyRow]) -> Option<Timestamp> {
    keys.iter().map(|key| Timestamp::from(key.created_at)).max()
}

/// Adds a key, unless another replica was faster. It is to sign from the moment that the rules say.
pub(crate) async fn add_if_due(
    connection: &mut AsyncPgConnection,
    mut key: SigningKeyRow,
    rotation: &Rotation,
    now: Timestamp,
) -> QueryResult<bool> {
    let work = connection.transaction(async move |connection| {
        diesel::sql_query(LOCK).execute(connection).await?;
        let newest = newest_created_at(&list(connection, now).await?);
        let Some(signs_from) = rotation.due(newest, now) else {
            return Ok(false);
        };
        diesel::update(signing_keys::table.filter(signing_keys::not_after.is_null()))
            .set(signing_keys::not_after.eq(rotation.not_after(signs_from).as_datetime()))
            .execute(connection)
            .await?;
        key.signs_from = signs_from.as_datetime();
        diesel::insert_into(signing_keys::table).values(&key).execute(connection).await?;
        Ok(true)
    });
    observe("add_signing_key", work).await
}

/// Deletes the keys under which no token lives any more.
pub(crate) async fn delete_expired(connection: &mut AsyncPgConnection, now: Timestamp) -> QueryResult<usize> {
    let statement = diesel::delete(signing_keys::table.filter(signing_keys::not_after.le(now.as_datetime())));
    observe("delete_signing_keys", statement.execute(connection)).await
}
