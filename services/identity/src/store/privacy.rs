//! What users allow others: its versions, and which of them the message store has been told.

use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_db::statement;
use entrenous_model::UserId;
use entrenous_protocol::{
    rest::{MessagesFrom, VisibleTo},
    rpc::store::Privacy,
};
use uuid::Uuid;

use super::{observe, schema::users};

statement! {
    /// The whole of it, on one snapshot, where the store is not known to have it.
    ReadUntold { user_id: SqlUuid = Uuid } -> (SqlUuid, BigInt, Text, Text, Array<SqlUuid>);
    "SELECT u.id, u.privacy_version, u.presence_visible_to, u.messages_from,
            ARRAY(SELECT b.blocked_id FROM identity.blocks b WHERE b.user_id = u.id ORDER BY b.blocked_id)
     FROM identity.users u WHERE u.id = {} AND u.privacy_told_version < u.privacy_version",
}

#[derive(Queryable)]
struct PrivacyRow {
    user_id: Uuid,
    version: i64,
    presence_visible_to: String,
    messages_from: String,
    blocked: Vec<Uuid>,
}

impl From<PrivacyRow> for Privacy {
    fn from(row: PrivacyRow) -> Self {
        Self {
            user_id: row.user_id.into(),
            version: u64::try_from(row.version).unwrap_or_default(),
            presence_visible_to: VisibleTo::parse(&row.presence_visible_to).unwrap_or_default(),
            messages_from: MessagesFrom::parse(&row.messages_from).unwrap_or_default(),
            blocked: row.blocked.into_iter().map(UserId::from).collect(),
        }
    }
}

/// Makes a new version. Under the user's lock, in the transaction of the change.
pub(super) async fn bump(connection: &mut AsyncPgConnection, user_id: UserId) -> QueryResult<usize> {
    diesel::update(users::table.find(user_id.as_uuid()))
        .set(users::privacy_version.eq(users::privacy_version + 1))
        .execute(connection)
        .await
}

/// What a user allows others, unless the store is known to have it.
pub(crate) async fn read_untold(connection: &mut AsyncPgConnection, user_id: UserId) -> QueryResult<Option<Privacy>> {
    let statement = ReadUntold { user_id: user_id.as_uuid() };
    let rows: Vec<PrivacyRow> = observe("read_untold_privacy", statement.load(connection)).await?;
    Ok(rows.into_iter().next().map(Privacy::from))
}

/// Some of the users whose last change the store is not known to have, by id.
pub(crate) async fn list_untold(connection: &mut AsyncPgConnection, limit: i64) -> QueryResult<Vec<UserId>> {
    let query = users::table
        .filter(users::privacy_told_version.lt(users::privacy_version))
        .order(users::id)
        .limit(limit)
        .select(users::id);
    let ids: Vec<Uuid> = observe("list_untold_privacy", query.load(connection)).await?;
    Ok(ids.into_iter().map(UserId::from).collect())
}

/// The store has this version, or a newer one.
pub(crate) async fn note_told(connection: &mut AsyncPgConnection, privacy: &Privacy) -> QueryResult<usize> {
    let version = i64::try_from(privacy.version).unwrap_or(i64::MAX);
    let row = users::table.find(privacy.user_id.as_uuid()).filter(users::privacy_told_version.lt(version));
    let statement = diesel::update(row).set(users::privacy_told_version.eq(version));
    observe("note_told_privacy", statement.execute(connection)).await
}
