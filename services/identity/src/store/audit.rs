//! The audit log: only ever appended to.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_model::{IdGenerator, Timestamp, UserId};
use serde_json::Value;
use uuid::Uuid;

use super::schema::audit;

/// Notes what somebody did.
pub(crate) async fn append(
    connection: &mut AsyncPgConnection,
    actor: UserId,
    action: &str,
    subject: Uuid,
    now: Timestamp,
) -> QueryResult<usize> {
    diesel::insert_into(audit::table)
        .values((
            audit::id.eq(IdGenerator.next::<Uuid>()),
            audit::actor_id.eq(actor.as_uuid()),
            audit::action.eq(action),
            audit::subject_id.eq(subject),
            audit::details.eq(Value::Object(serde_json::Map::new())),
            audit::created_at.eq(now.as_datetime()),
        ))
        .execute(connection)
        .await
}
