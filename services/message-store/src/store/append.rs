//! `messaging.append_before`: messages into logs, one call for a batch.

use chrono::{DateTime, Utc};
use diesel::{
    pg::Pg,
    prelude::*,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    result::DatabaseErrorKind,
    sql_types::{Array, BigInt, Binary, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_db::DbError;
use uuid::Uuid;

use crate::error::{is_away, is_late};

/// A batch as arrays, one place for each message. Arrays of what no message has are left empty.
#[derive(Debug)]
#[expect(missing_docs, reason = "named like the parameters of messaging.append")]
pub struct Append<'a> {
    /// None: no bound but the budget.
    pub not_after: Option<DateTime<Utc>>,
    pub batch_id: Uuid,
    pub budget_ms: i32,
    pub wait_ms: i32,
    pub conversation_ids: Vec<Uuid>,
    pub ids: Vec<Uuid>,
    pub sender_ids: Vec<Uuid>,
    pub device_ids: Vec<Uuid>,
    pub message_types: Vec<&'a str>,
    pub contents: Vec<&'a [u8]>,
    pub sealed: Vec<bool>,
    pub digests: Vec<&'a [u8]>,
    pub reply_tos: Vec<Option<Uuid>>,
    pub thread_ids: Vec<Option<Uuid>>,
    pub attachments: Vec<Option<String>>,
    pub mentions: Vec<Option<String>>,
    pub metadatas: Vec<Option<&'a str>>,
    pub signatures: Vec<Option<Vec<u8>>>,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
#[expect(missing_docs, reason = "named like the columns of messaging.append")]
pub struct Appended {
    /// Counted from 1.
    pub place: i64,
    pub outcome: String,
    pub seq: Option<i64>,
    pub countable_no: Option<i64>,
    pub sent_at: Option<DateTime<Utc>>,
    pub expires_at: Option<DateTime<Utc>>,
    pub kind: Option<String>,
    pub direct_low_id: Option<Uuid>,
    pub direct_high_id: Option<Uuid>,
    pub feed_at: Option<DateTime<Utc>>,
    pub leaves: i64,
}

/// Why a batch was not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The head was waited for and not had.
    #[error("the conversation is locked")]
    Busy,
    /// The budget was used up: nothing was stored.
    #[error("the deadline has passed")]
    Late,
    /// The database is away; the outcome is not known.
    #[error("the database is away")]
    Away(#[source] DbError),
    /// A value that the database does not take, or a fault of ours: nothing was stored.
    #[error("the database refuses a value")]
    Poisoned(#[source] DbError),
}

/// Appends a batch in one round trip and one transaction of the server's own; see the function in the migrations.
///
/// # Errors
/// [`AppendError`]; nothing was stored, but for [`AppendError::Away`].
pub async fn append(connection: &mut AsyncPgConnection, batch: Append<'_>) -> Result<Vec<Appended>, AppendError> {
    batch.load(connection).await.map_err(classify)
}

fn classify(error: diesel::result::Error) -> AppendError {
    if let diesel::result::Error::DatabaseError(kind, info) = &error {
        if matches!(kind, DatabaseErrorKind::UniqueViolation | DatabaseErrorKind::NotNullViolation) {
            return AppendError::Poisoned(error.into());
        }
        if info.message().contains("lock timeout") {
            return AppendError::Busy;
        }
    }
    if is_late(&error) {
        return AppendError::Late;
    }
    let error = DbError::Query(error);
    if is_away(&error) { AppendError::Away(error) } else { AppendError::Poisoned(error) }
}

/// The columns of [`Appended`].
type AppendedSql = (
    BigInt,
    Text,
    Nullable<BigInt>,
    Nullable<BigInt>,
    Nullable<Timestamptz>,
    Nullable<Timestamptz>,
    Nullable<Text>,
    Nullable<SqlUuid>,
    Nullable<SqlUuid>,
    Nullable<Timestamptz>,
    BigInt,
);

/// One text for every batch: prepared once a connection.
impl QueryId for Append<'_> {
    type QueryId = Append<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for Append<'_> {
    type SqlType = AppendedSql;
}

impl QueryFragment<Pg> for Append<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        // The head is locked until the statement ends: as many as had left before the entry.
        out.push_sql(
            "SELECT a.*, CASE WHEN a.kind = 'channel' AND a.outcome = 'stored' \
                         THEN messaging.leaves_of($5[a.place::integer]) ELSE 0 END \
             FROM messaging.append_before(",
        );
        out.push_bind_param::<Nullable<Timestamptz>, _>(&self.not_after)?;
        macro_rules! binds {
            ($($sql:ty = $field:ident),* $(,)?) => {$(
                out.push_sql(", ");
                out.push_bind_param::<$sql, _>(&self.$field)?;
            )*};
        }
        binds! {
            SqlUuid = batch_id, Integer = budget_ms, Integer = wait_ms, Array<SqlUuid> = conversation_ids, Array<SqlUuid> = ids,
            Array<SqlUuid> = sender_ids, Array<SqlUuid> = device_ids, Array<Text> = message_types,
            Array<Binary> = contents, Array<Bool> = sealed, Array<Binary> = digests,
            Array<Nullable<SqlUuid>> = reply_tos, Array<Nullable<SqlUuid>> = thread_ids,
            Array<Nullable<Text>> = attachments, Array<Nullable<Text>> = mentions, Array<Nullable<Text>> = metadatas,
            Array<Nullable<Binary>> = signatures,
        }
        out.push_sql(") a");
        Ok(())
    }
}
