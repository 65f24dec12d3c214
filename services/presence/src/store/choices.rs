//! Table `presence.choices`.

use std::collections::HashMap;

use diesel::{prelude::*, upsert::excluded};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_db::DbError;
use entrenous_model::UserId;
use entrenous_protocol::{
    rpc::presence::Chosen,
    status::{ChosenStatus, StatusChoice},
};
use uuid::Uuid;

use super::schema::choices;

/// Keeps what a user chose.
pub(crate) async fn keep(
    connection: &mut AsyncPgConnection,
    user_id: UserId,
    choice: StatusChoice,
) -> Result<Chosen, DbError> {
    let version: i64 = diesel::insert_into(choices::table)
        .values((
            choices::user_id.eq(user_id.as_uuid()),
            choices::status.eq(choice.status.as_str()),
            choices::text.eq(&choice.text),
            choices::version.eq(1),
        ))
        .on_conflict(choices::user_id)
        .do_update()
        .set((
            choices::status.eq(excluded(choices::status)),
            choices::text.eq(excluded(choices::text)),
            choices::version.eq(choices::version + 1),
        ))
        .returning(choices::version)
        .get_result(connection)
        .await?;
    Ok(Chosen { user_id, choice, version: version.unsigned_abs() })
}

/// What these users chose, one each, in the order of the request.
pub(crate) async fn list(connection: &mut AsyncPgConnection, user_ids: &[UserId]) -> Result<Vec<Chosen>, DbError> {
    let ids: Vec<Uuid> = user_ids.iter().map(|user_id| user_id.as_uuid()).collect();
    let rows: Vec<(Uuid, String, Option<String>, i64)> = choices::table
        .filter(choices::user_id.eq_any(ids))
        .select((choices::user_id, choices::status, choices::text, choices::version))
        .load(connection)
        .await?;
    let mut known: HashMap<Uuid, Chosen> = rows.into_iter().map(|row| (row.0, chosen(row))).collect();
    let never = |user_id| Chosen { user_id, choice: StatusChoice::default(), version: 0 };
    let of_user = |user_id: &UserId| known.remove(&user_id.as_uuid()).unwrap_or_else(|| never(*user_id));
    Ok(user_ids.iter().map(of_user).collect())
}

fn chosen((user_id, status, text, version): (Uuid, String, Option<String>, i64)) -> Chosen {
    // A newer version's status is not shown.
    let status = ChosenStatus::parse(&status).unwrap_or(ChosenStatus::Invisible);
    Chosen { user_id: user_id.into(), choice: StatusChoice { status, text }, version: version.unsigned_abs() }
}
