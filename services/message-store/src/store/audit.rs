//! Table `messaging.audit`, which nothing can change.

use diesel::sql_types::{Jsonb, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_model::{ConversationId, UserId};
use serde_json::Value;
use uuid::Uuid;

use super::statement;

statement! {
    /// Notes what somebody did.
    InsertAudit {
        id: SqlUuid = Uuid,
        actor_id: SqlUuid = Uuid,
        action: Text = &'static str,
        conversation_id: SqlUuid = Uuid,
        target_id: Nullable<SqlUuid> = Option<Uuid>,
        detail: Jsonb = Value,
    } -> (SqlUuid,);
    "INSERT INTO messaging.audit (id, actor_id, action, conversation_id, target_id, detail) VALUES ({}, {}, {}, {}, {}, {})",
}

/// Something that is to be known for ever.
#[derive(Debug)]
pub(crate) struct Audited {
    pub(crate) id: Uuid,
    pub(crate) actor_id: UserId,
    /// In the past tense.
    pub(crate) action: &'static str,
    pub(crate) conversation_id: ConversationId,
    /// Whom or what it concerned.
    pub(crate) target_id: Option<Uuid>,
    /// An object.
    pub(crate) detail: Value,
}

/// Notes it, with the transaction that does it.
pub(crate) async fn note(connection: &mut AsyncPgConnection, audited: Audited) -> diesel::QueryResult<()> {
    let statement = InsertAudit {
        id: audited.id,
        actor_id: audited.actor_id.as_uuid(),
        action: audited.action,
        conversation_id: audited.conversation_id.as_uuid(),
        target_id: audited.target_id,
        detail: audited.detail,
    };
    statement.execute(connection).await.map(drop)
}
