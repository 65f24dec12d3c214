//! Direct conversations, made at need.

use diesel::sql_types::{Array, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_model::{ConversationId, UserId};
use entrenous_protocol::entry::Encryption;
use uuid::Uuid;

use super::statement;

/// A direct conversation that may have to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Direct {
    pub(crate) id: ConversationId,
    pub(crate) created_by: UserId,
    pub(crate) other: UserId,
    pub(crate) encryption: Encryption,
}

statement! {
    /// Those of these conversations that exist.
    Existing { ids: Array<SqlUuid> = Vec<Uuid> } -> (SqlUuid,);
    "SELECT id FROM messaging.conversations WHERE id = ANY ({})",
}

statement! {
    /// Makes those that do not exist.
    MakeDirects {
        ids: Array<SqlUuid> = Vec<Uuid>,
        low_ids: Array<SqlUuid> = Vec<Uuid>,
        high_ids: Array<SqlUuid> = Vec<Uuid>,
        created_by: Array<SqlUuid> = Vec<Uuid>,
        encryptions: Array<Text> = Vec<&'static str>,
    } -> (SqlUuid,);
    "SELECT made FROM messaging.make_directs({}, {}, {}, {}, {}) AS made",
}

/// Those of these conversations that exist.
pub(crate) async fn existing(
    connection: &mut AsyncPgConnection,
    ids: &[ConversationId],
) -> diesel::QueryResult<Vec<ConversationId>> {
    let ids = ids.iter().map(|id| id.as_uuid()).collect();
    let rows: Vec<(Uuid,)> = Existing { ids }.load(connection).await?;
    Ok(rows.into_iter().map(|(id,)| id.into()).collect())
}

/// Makes those that do not exist; returns those that this call has made. Doing it twice changes nothing.
pub(crate) async fn make(
    connection: &mut AsyncPgConnection,
    directs: &[Direct],
) -> diesel::QueryResult<Vec<ConversationId>> {
    let low = |direct: &Direct| direct.created_by.min(direct.other).as_uuid();
    let high = |direct: &Direct| direct.created_by.max(direct.other).as_uuid();
    let statement = MakeDirects {
        ids: directs.iter().map(|direct| direct.id.as_uuid()).collect(),
        low_ids: directs.iter().map(low).collect(),
        high_ids: directs.iter().map(high).collect(),
        created_by: directs.iter().map(|direct| direct.created_by.as_uuid()).collect(),
        encryptions: directs.iter().map(|direct| direct.encryption.as_str()).collect(),
    };
    let rows: Vec<(Uuid,)> = statement.load(connection).await?;
    Ok(rows.into_iter().map(|(id,)| id.into()).collect())
}
