//! History as people see it: messages with everything applied that was done with them, pins, and who reacted.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    prelude::Queryable,
    sql_types::{Array, BigInt, Bool, Bytea, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_model::{ConversationId, EntryId, Timestamp, UserId};
use entrenous_protocol::{
    entry::{ConversationKind, MessageType, Role},
    rest::{Message, MessageEdit, MessageReaction, MessageState},
    rpc::store::{HistoryFilter, HistoryRequest, ListReactionsRequest},
};
use uuid::Uuid;

use super::{
    entries::{EntryRow, EntrySql, entry_columns},
    parse, statement, to_i64, to_u64,
};

/// Entries that a page of history looks at: few messages may be among many reactions, or match a filter.
const HISTORY_ENTRIES_MAX: i64 = 5_000;

/// What history shows of a message beside its entry, of a log called `l` whose newest edit is `e`.
macro_rules! history_columns {
    () => {
        concat!(
            entry_columns!(),
            ", coalesce((SELECT t.reply_count FROM messaging.threads t
                         WHERE t.conversation_id = l.conversation_id AND t.root_id = l.id), 0),
              EXISTS (SELECT FROM messaging.pins p WHERE p.conversation_id = l.conversation_id AND p.message_id = l.id),
              (SELECT json_agg(json_build_object('reaction', c.reaction, 'count', c.reacted, 'mine', EXISTS (
                                   SELECT FROM messaging.reactions r
                                   WHERE r.conversation_id = c.conversation_id AND r.message_id = c.message_id
                                       AND r.user_id = $1 AND r.reaction = c.reaction))
                               ORDER BY c.first_at, c.reaction)::text
               FROM messaging.reaction_counts c WHERE c.conversation_id = l.conversation_id AND c.message_id = l.id),
              e.id, e.seq, e.sent_at, e.content, e.metadata, e.signature"
        )
    };
}

/// The newest edit of each message of a log called `l`.
macro_rules! newest_edit {
    () => {
        " LEFT JOIN LATERAL (SELECT * FROM messaging.log e
                             WHERE e.conversation_id = l.conversation_id AND e.seq = l.superseded_by) e ON true "
    };
}

/// The messages of a log called `l` that the caller has not deleted for themselves.
macro_rules! not_hidden {
    () => {
        " AND NOT EXISTS (SELECT FROM messaging.hidden x
                          WHERE x.user_id = $1 AND x.conversation_id = l.conversation_id AND x.message_id = l.id) "
    };
}
pub(crate) use {history_columns, newest_edit, not_hidden};

/// A message as history has it.
#[derive(Queryable)]
pub(crate) struct HistoryRow {
    entry: EntryRow,
    thread_count: i64,
    is_pinned: bool,
    /// JSON, none where nobody has reacted.
    reactions: Option<String>,
    edit: EditRow,
}

/// The newest edit, if there is one.
#[derive(Queryable)]
pub(crate) struct EditRow {
    id: Option<Uuid>,
    seq: Option<i64>,
    sent_at: Option<DateTime<Utc>>,
    content: Option<Vec<u8>>,
    metadata: Option<String>,
    signature: Option<Vec<u8>>,
}

type EditSql =
    (Nullable<SqlUuid>, Nullable<BigInt>, Nullable<Timestamptz>, Nullable<Bytea>, Nullable<Text>, Nullable<Bytea>);
pub(crate) type HistorySql = (EntrySql, BigInt, Bool, Nullable<Text>, EditSql);

impl HistoryRow {
    /// The message as clients see it.
    pub(crate) fn message(
        self,
        conversation_id: ConversationId,
        now: DateTime<Utc>,
    ) -> diesel::QueryResult<Option<Message>> {
        let Self { mut entry, thread_count, is_pinned, reactions, edit } = self;
        let place = edit.id.zip(edit.seq).zip(edit.sent_at);
        if place.is_some() {
            entry.supersede(edit.content, edit.signature, edit.metadata);
        }
        let Some(entry) = entry.entry(conversation_id, now)? else { return Ok(None) };
        let place = place.filter(|_| !entry.deleted);
        let edit = place.map(|((id, seq), at)| MessageEdit { id: id.into(), seq: to_u64(seq), at: at.into() });
        let reactions = reactions.map(|text| serde_json::from_str(&text)).transpose();
        let reactions = reactions.map_err(|error| diesel::result::Error::DeserializationError(error.into()))?;
        let state = MessageState {
            edit,
            reactions: reactions.unwrap_or_default(),
            pinned: is_pinned,
            thread_count: to_u64(thread_count),
            pinned_by: None,
            pinned_at: None,
        };
        Ok(Some(Message { entry, state }))
    }
}

/// Who may read, and from where.
macro_rules! reader {
    () => {
        "SELECT m.conversation_id,
                greatest(h.first_seq, CASE WHEN c.history_visible THEN 1 ELSE m.joined_seq END) AS readable_from
         FROM messaging.members m
         JOIN messaging.conversations c ON c.id = m.conversation_id AND c.is_active
         JOIN messaging.heads h ON h.conversation_id = m.conversation_id
         WHERE m.user_id = {} AND m.conversation_id = {} AND m.left_seq IS NULL"
    };
}

/// The window that a page of history looks at: from `low` to `top` of what the caller may read and asks for, that is of
/// `reader.low` to `reader.high`.
macro_rules! window {
    ($low:expr, $top:expr) => {
        concat!(
            "(SELECT {}::uuid AS caller, {}::uuid AS conversation_id, {}::timestamptz AS sent_from, {}::timestamptz AS sent_before,
                     {}::bigint AS edge, {}::bigint AS entries_max, {}::uuid AS sender_id, {}::text AS message_type) asked
             CROSS JOIN LATERAL (
                 SELECT m.conversation_id,
                        greatest(h.first_seq, CASE WHEN NOT c.history_visible THEN m.joined_seq END,
                            CASE WHEN asked.sent_from IS NOT NULL THEN
                                messaging.seq_at(h.conversation_id, h.first_seq, h.last_seq, asked.sent_from) + 1 END) AS low,
                        least(h.last_seq, CASE WHEN asked.sent_before IS NOT NULL THEN
                            messaging.seq_at(h.conversation_id, h.first_seq, h.last_seq, asked.sent_before) END) AS high
                 FROM messaging.members m
                 JOIN messaging.conversations c ON c.id = m.conversation_id AND c.is_active
                 JOIN messaging.heads h ON h.conversation_id = m.conversation_id
                 WHERE m.user_id = asked.caller AND m.conversation_id = asked.conversation_id AND m.left_seq IS NULL
             ) reader
             CROSS JOIN LATERAL (SELECT ", $low, " AS low, ", $top, " AS top) w "
        )
    };
}

/// The messages of a window that are asked for.
macro_rules! in_window {
    () => {
        " l.conversation_id = reader.conversation_id AND l.seq >= w.low AND l.seq <= w.top AND l.kind = 'message'
          AND (asked.sender_id IS NULL OR l.sender_id = asked.sender_id)
          AND (asked.message_type IS NULL OR l.message_type = asked.message_type) "
    };
}

statement! {
    /// Messages before a seq, newest first; where the window ends, and whether nothing is beyond it. One row at least for who
    /// may read.
    HistoryBefore {
        caller: SqlUuid = Uuid,
        conversation_id: SqlUuid = Uuid,
        sent_from: Nullable<Timestamptz> = Option<DateTime<Utc>>,
        sent_before: Nullable<Timestamptz> = Option<DateTime<Utc>>,
        edge: BigInt = i64,
        entries_max: BigInt = i64,
        sender_id: Nullable<SqlUuid> = Option<Uuid>,
        message_type: Nullable<Text> = Option<&'static str>,
        row_limit: BigInt = i64,
    } -> (HistorySql, BigInt, Bool);
    "SELECT ", history_columns!(), ", w.low, w.low <= reader.low FROM ",
    window!("greatest(reader.low, least(reader.high, asked.edge - 1) - asked.entries_max + 1)", "least(reader.high, asked.edge - 1)"), "
     LEFT JOIN LATERAL (
         SELECT * FROM messaging.log l WHERE", in_window!(), not_hidden!(), "ORDER BY l.seq DESC LIMIT {}
     ) l ON true", newest_edit!(), "
     ORDER BY l.seq DESC",
}

statement! {
    /// Messages after a seq, oldest first; as [`HistoryBefore`].
    HistoryAfter {
        caller: SqlUuid = Uuid,
        conversation_id: SqlUuid = Uuid,
        sent_from: Nullable<Timestamptz> = Option<DateTime<Utc>>,
        sent_before: Nullable<Timestamptz> = Option<DateTime<Utc>>,
        edge: BigInt = i64,
        entries_max: BigInt = i64,
        sender_id: Nullable<SqlUuid> = Option<Uuid>,
        message_type: Nullable<Text> = Option<&'static str>,
        row_limit: BigInt = i64,
    } -> (HistorySql, BigInt, Bool);
    "SELECT ", history_columns!(), ", w.top, w.top >= reader.high FROM ",
    window!("greatest(reader.low, asked.edge + 1)", "least(reader.high, greatest(reader.low, asked.edge + 1) + asked.entries_max - 1)"), "
     LEFT JOIN LATERAL (
         SELECT * FROM messaging.log l WHERE", in_window!(), not_hidden!(), "ORDER BY l.seq LIMIT {}
     ) l ON true", newest_edit!(), "
     ORDER BY l.seq",
}

statement! {
    /// Replies in a thread before a seq, newest first. One row at least for who may read.
    ThreadBefore {
        caller: SqlUuid = Uuid, conversation_id: SqlUuid = Uuid, thread_id: SqlUuid = Uuid, before: BigInt = i64,
        row_limit: BigInt = i64,
    } -> (HistorySql, BigInt, Bool);
    "SELECT ", history_columns!(), ", 0::bigint, true FROM (", reader!(), ") reader
     LEFT JOIN LATERAL (
         SELECT * FROM messaging.log l
         WHERE l.conversation_id = reader.conversation_id AND l.thread_id = {} AND l.seq < {}
             AND l.seq >= reader.readable_from AND l.kind = 'message'", not_hidden!(), "
         ORDER BY l.seq DESC LIMIT {}
     ) l ON true", newest_edit!(), "
     ORDER BY l.seq DESC",
}

statement! {
    /// Replies in a thread after a seq, oldest first. One row at least for who may read.
    ThreadAfter {
        caller: SqlUuid = Uuid, conversation_id: SqlUuid = Uuid, thread_id: SqlUuid = Uuid, after: BigInt = i64,
        row_limit: BigInt = i64,
    } -> (HistorySql, BigInt, Bool);
    "SELECT ", history_columns!(), ", 0::bigint, true FROM (", reader!(), ") reader
     LEFT JOIN LATERAL (
         SELECT * FROM messaging.log l
         WHERE l.conversation_id = reader.conversation_id AND l.thread_id = {} AND l.seq > {}
             AND l.seq >= reader.readable_from AND l.kind = 'message'", not_hidden!(), "
         ORDER BY l.seq LIMIT {}
     ) l ON true", newest_edit!(), "
     ORDER BY l.seq",
}

statement! {
    /// One message.
    OneMessage { caller: SqlUuid = Uuid, conversation_id: SqlUuid = Uuid, id: SqlUuid = Uuid } -> HistorySql;
    "SELECT ", history_columns!(), " FROM (", reader!(), ") reader
     JOIN messaging.log l ON l.conversation_id = reader.conversation_id AND l.id = {} AND l.kind = 'message'
         AND l.seq >= reader.readable_from", not_hidden!(), newest_edit!(),
}

statement! {
    /// The pinned messages, latest pin first.
    PinnedMessages { caller: SqlUuid = Uuid, conversation_id: SqlUuid = Uuid, row_limit: BigInt = i64 } -> (
        HistorySql, Nullable<SqlUuid>, Nullable<Timestamptz>,
    );
    "SELECT ", history_columns!(), ", l.pinned_by, l.pinned_at FROM (", reader!(), ") reader
     LEFT JOIN LATERAL (
         SELECT l.*, pin.pinned_by, pin.pinned_at
         FROM messaging.pins pin
         JOIN messaging.log l ON l.conversation_id = pin.conversation_id AND l.id = pin.message_id
         WHERE pin.conversation_id = reader.conversation_id AND l.seq >= reader.readable_from", not_hidden!(), "
         ORDER BY pin.pinned_at DESC, l.seq DESC LIMIT {}
     ) l ON true", newest_edit!(), "
     ORDER BY l.pinned_at DESC, l.seq DESC",
}

/// A pinned message, and who pinned it when.
#[derive(Queryable)]
pub(crate) struct PinnedRow {
    pub(crate) message: HistoryRow,
    pub(crate) pinned_by: Option<Uuid>,
    pub(crate) pinned_at: Option<DateTime<Utc>>,
}

statement! {
    /// Who reacted to a message, by user. One row at least for who may read it.
    ReadReactions {
        caller: SqlUuid = Uuid,
        conversation_id: SqlUuid = Uuid,
        message_id: SqlUuid = Uuid,
        after: SqlUuid = Uuid,
        row_limit: BigInt = i64,
    } -> (Text, Text, Nullable<SqlUuid>, Nullable<Array<Text>>, Nullable<Timestamptz>);
    "SELECT reader.kind, reader.role, r.user_id, r.reactions, r.reacted_at
     FROM (
         SELECT m.conversation_id, m.role, c.kind, l.id AS message_id
         FROM messaging.members m
         JOIN messaging.conversations c ON c.id = m.conversation_id AND c.is_active
         JOIN messaging.heads h ON h.conversation_id = m.conversation_id
         JOIN messaging.log l ON l.conversation_id = m.conversation_id AND l.kind = 'message'
             AND l.seq >= greatest(h.first_seq, CASE WHEN c.history_visible THEN 1 ELSE m.joined_seq END)
         WHERE m.user_id = {} AND m.conversation_id = {} AND m.left_seq IS NULL AND l.id = {}
     ) reader
     LEFT JOIN LATERAL (
         SELECT r.user_id, array_agg(r.reaction ORDER BY r.created_at, r.reaction) AS reactions,
                max(r.created_at) AS reacted_at
         FROM messaging.reactions r
         WHERE r.conversation_id = reader.conversation_id AND r.message_id = reader.message_id AND r.user_id > {}
         GROUP BY r.user_id ORDER BY r.user_id LIMIT {}
     ) r ON true
     ORDER BY r.user_id",
}

/// Somebody's reactions to a message, if anybody reacted; and how the caller stands.
#[derive(Queryable)]
pub(crate) struct ReactionRow {
    kind: String,
    role: String,
    user_id: Option<Uuid>,
    reactions: Option<Vec<String>>,
    reacted_at: Option<DateTime<Utc>>,
}

impl ReactionRow {
    pub(crate) fn standing(&self) -> diesel::QueryResult<(ConversationKind, Role)> {
        Ok((parse(&self.kind, ConversationKind::parse)?, parse(&self.role, Role::parse)?))
    }

    pub(crate) fn reaction(self) -> Option<MessageReaction> {
        let Self { user_id, reactions, reacted_at, .. } = self;
        let (user_id, reacted_at) = user_id.zip(reacted_at)?;
        Some(MessageReaction { user_id: user_id.into(), reactions: reactions?, reacted_at: reacted_at.into() })
    }
}

/// The pinned messages; none when the caller may not read.
pub(crate) async fn list_pinned(
    connection: &mut AsyncPgConnection,
    caller: UserId,
    conversation_id: ConversationId,
    limit: usize,
) -> diesel::QueryResult<Option<Vec<PinnedRow>>> {
    let statement = PinnedMessages {
        caller: caller.as_uuid(),
        conversation_id: conversation_id.as_uuid(),
        row_limit: i64::try_from(limit).unwrap_or_default(),
    };
    let mut rows: Vec<PinnedRow> = statement.load(connection).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    rows.retain(|row| row.pinned_at.is_some());
    Ok(Some(rows))
}

/// Who reacted to a message; no row when the caller may not read it.
pub(crate) async fn list_reactions(
    connection: &mut AsyncPgConnection,
    request: &ListReactionsRequest,
) -> diesel::QueryResult<Vec<ReactionRow>> {
    let statement = ReadReactions {
        caller: request.caller.as_uuid(),
        conversation_id: request.conversation_id.as_uuid(),
        message_id: request.message_id.as_uuid(),
        after: request.after.map_or(Uuid::nil(), UserId::as_uuid),
        row_limit: i64::from(request.limit) + 1,
    };
    statement.load(connection).await
}

/// A page of history.
pub(crate) struct Listed {
    pub(crate) rows: Vec<HistoryRow>,
    /// Where the window ended, if there is more beyond it.
    pub(crate) looked_to: Option<u64>,
}

/// Messages before a seq, newest first; none when the caller may not read.
pub(crate) async fn list_before(
    connection: &mut AsyncPgConnection,
    request: &HistoryRequest,
    before: u64,
    limit: usize,
) -> diesel::QueryResult<Option<Listed>> {
    let (caller, conversation_id) = (request.caller.as_uuid(), request.conversation_id.as_uuid());
    let (edge, row_limit) = (edge(before), i64::try_from(limit).unwrap_or_default());
    let rows = if let Some(thread_id) = request.filter.thread_id {
        let thread_id = thread_id.as_uuid();
        ThreadBefore { caller, conversation_id, thread_id, before: edge, row_limit }.load(connection).await
    } else {
        let Wanted { sent_from, sent_before, sender_id, message_type } = wanted(&request.filter);
        let entries_max = HISTORY_ENTRIES_MAX;
        let statement = HistoryBefore {
            caller,
            conversation_id,
            sent_from,
            sent_before,
            edge,
            entries_max,
            sender_id,
            message_type,
            row_limit,
        };
        statement.load(connection).await
    };
    rows.map(listed)
}

/// Messages after a seq, oldest first; none when the caller may not read.
pub(crate) async fn list_after(
    connection: &mut AsyncPgConnection,
    request: &HistoryRequest,
    after: u64,
    limit: usize,
) -> diesel::QueryResult<Option<Listed>> {
    let (caller, conversation_id) = (request.caller.as_uuid(), request.conversation_id.as_uuid());
    let (edge, row_limit) = (edge(after), i64::try_from(limit).unwrap_or_default());
    let rows = if let Some(thread_id) = request.filter.thread_id {
        let thread_id = thread_id.as_uuid();
        ThreadAfter { caller, conversation_id, thread_id, after: edge, row_limit }.load(connection).await
    } else {
        let Wanted { sent_from, sent_before, sender_id, message_type } = wanted(&request.filter);
        let entries_max = HISTORY_ENTRIES_MAX;
        let statement = HistoryAfter {
            caller,
            conversation_id,
            sent_from,
            sent_before,
            edge,
            entries_max,
            sender_id,
            message_type,
            row_limit,
        };
        statement.load(connection).await
    };
    rows.map(listed)
}

/// A seq that one may be added to.
fn edge(seq: u64) -> i64 {
    to_i64(seq).min(i64::MAX / 2)
}

/// A filter in the values of its statements.
struct Wanted {
    sent_from: Option<DateTime<Utc>>,
    sent_before: Option<DateTime<Utc>>,
    sender_id: Option<Uuid>,
    message_type: Option<&'static str>,
}

fn wanted(filter: &HistoryFilter) -> Wanted {
    Wanted {
        sent_from: filter.from.map(Timestamp::as_datetime),
        sent_before: filter.to.map(after_moment),
        sender_id: filter.sender_id.map(UserId::as_uuid),
        message_type: filter.message_type.map(MessageType::as_str),
    }
}

/// The first moment after one: times have milliseconds.
pub(crate) fn after_moment(moment: Timestamp) -> DateTime<Utc> {
    moment.as_datetime() + TimeDelta::milliseconds(1)
}

/// One message; none when it does not exist or the caller may not read it.
pub(crate) async fn get_message(
    connection: &mut AsyncPgConnection,
    caller: UserId,
    conversation_id: ConversationId,
    id: EntryId,
) -> diesel::QueryResult<Option<HistoryRow>> {
    let statement =
        OneMessage { caller: caller.as_uuid(), conversation_id: conversation_id.as_uuid(), id: id.as_uuid() };
    let rows: Vec<HistoryRow> = statement.load(connection).await?;
    Ok(rows.into_iter().next())
}

/// No row: no reader. One without an entry: no messages.
fn listed(rows: Vec<(HistoryRow, i64, bool)>) -> Option<Listed> {
    let (_, looked_to, is_all) = rows.as_slice().first()?;
    let looked_to = (!is_all).then_some(to_u64(*looked_to));
    let rows = rows.into_iter().map(|(row, ..)| row).filter(|row| row.entry.is_there()).collect();
    Some(Listed { rows, looked_to })
}
