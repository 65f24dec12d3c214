//! Tries to prove a password.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::{prelude::*, sql_types::BigInt};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use entrenous_model::{IdGenerator, Timestamp};
use uuid::Uuid;

use super::{observe, schema::login_failures};
use crate::domain::attempts::{Attempt, Verdict, judge};

/// The limit in force.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttemptLimit {
    pub(crate) max: usize,
    pub(crate) window: Duration,
}

/// Counts a try, if there may be one; gives its id then. Tries under one key are admitted one after another.
pub(crate) async fn admit(
    connection: &mut AsyncPgConnection,
    key: &[u8; 32],
    limit: AttemptLimit,
    now: Timestamp,
) -> QueryResult<Result<Uuid, Verdict>> {
    let work = connection.transaction(async |connection| {
        lock(connection, key).await?;
        let newest = newest(connection, key, limit, now).await?;
        match judge(&newest, limit.max, limit.window, now) {
            Verdict::Admit => insert(connection, key, now).await.map(Ok),
            refusal @ (Verdict::Wait | Verdict::Refuse { .. }) => Ok(Err(refusal)),
        }
    });
    observe("admit_attempt", work).await
}

/// Until the transaction ends. Two keys that share a lock only wait for each other.
async fn lock(connection: &mut AsyncPgConnection, key: &[u8; 32]) -> QueryResult<()> {
    let number = key.first_chunk().map_or(0, |first| i64::from_be_bytes(*first));
    diesel::sql_query("SELECT pg_advisory_xact_lock($1)").bind::<BigInt, _>(number).execute(connection).await?;
    Ok(())
}

async fn newest(
    connection: &mut AsyncPgConnection,
    key: &[u8; 32],
    limit: AttemptLimit,
    now: Timestamp,
) -> QueryResult<Vec<Attempt>> {
    let rows: Vec<(DateTime<Utc>, bool)> = login_failures::table
        .filter(login_failures::attempt_key.eq(key.as_slice()))
        .filter(login_failures::attempted_at.gt((now - limit.window).as_datetime()))
        .order(login_failures::attempted_at.desc())
        .limit(i64::try_from(limit.max).unwrap_or(i64::MAX))
        .select((login_failures::attempted_at, login_failures::is_settled))
        .load(connection)
        .await?;
    Ok(rows.into_iter().map(|(at, is_settled)| Attempt { attempted_at: at.into(), is_settled }).collect())
}

async fn insert(connection: &mut AsyncPgConnection, key: &[u8; 32], now: Timestamp) -> QueryResult<Uuid> {
    let id: Uuid = IdGenerator.next();
    diesel::insert_into(login_failures::table)
        .values((
            login_failures::id.eq(id),
            login_failures::attempt_key.eq(key.as_slice()),
            login_failures::attempted_at.eq(now.as_datetime()),
        ))
        .execute(connection)
        .await?;
    Ok(id)
}

/// The password was wrong: the try goes on counting.
pub(crate) async fn settle(connection: &mut AsyncPgConnection, id: Uuid) -> QueryResult<usize> {
    let statement = diesel::update(login_failures::table.find(id)).set(login_failures::is_settled.eq(true));
    observe("settle_attempt", statement.execute(connection)).await
}

/// The password was right, or nobody looked at it: the try is struck off.
pub(crate) async fn strike_off(connection: &mut AsyncPgConnection, id: Uuid) -> QueryResult<usize> {
    let statement = diesel::delete(login_failures::table.find(id));
    observe("strike_off_attempt", statement.execute(connection)).await
}
