//! Deletes what no longer matters, a batch at a time.

use std::time::Duration;

use diesel::{prelude::*, sql_types::Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_model::Timestamp;

use super::observe;

/// How long ended logins and removed devices are kept: for questions about what happened.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Rows are skipped that somebody holds: they wait for the next time.
const STATEMENTS: [&str; 4] = [
    "DELETE FROM identity.login_failures WHERE id IN
         (SELECT id FROM identity.login_failures WHERE attempted_at < $1 LIMIT 10000 FOR UPDATE SKIP LOCKED)",
    "DELETE FROM identity.refresh_tokens WHERE token_hash IN
         (SELECT token_hash FROM identity.refresh_tokens WHERE expires_at < $1 LIMIT 10000 FOR UPDATE SKIP LOCKED)",
    "DELETE FROM identity.logins WHERE id IN
         (SELECT id FROM identity.logins WHERE ended_at < $1 LIMIT 1000 FOR UPDATE SKIP LOCKED)",
    "DELETE FROM identity.devices WHERE id IN
         (SELECT id FROM identity.devices WHERE removed_at < $1 LIMIT 100 FOR UPDATE SKIP LOCKED)",
];

/// Deletes one batch of each kind.
pub(crate) async fn delete(
    connection: &mut AsyncPgConnection,
    failures_window: Duration,
    now: Timestamp,
) -> QueryResult<()> {
    let before = [now - failures_window, now, now - KEPT, now - KEPT];
    for (statement, before) in STATEMENTS.into_iter().zip(before) {
        let query = diesel::sql_query(statement).bind::<Timestamptz, _>(before.as_datetime());
        observe("delete_expired", query.execute(connection)).await?;
    }
    Ok(())
}
