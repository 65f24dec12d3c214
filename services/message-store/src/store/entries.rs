//! Reading the log: ranges for `sync` and repair, history for people.

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    prelude::Queryable,
    sql_types::{Array, BigInt, Bool, Bytea, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_model::{ConversationId, EntryId, MediaId, Timestamp, UserId};
use entrenous_protocol::{
    Entry, RawValue,
    entry::{ConversationKind, EntryKind, MessageType, Role},
    limits::PAGE_BYTES_MAX,
    rest::{Message, MessageEdit, MessageReaction, MessageState},
    rpc::store::{HistoryFilter, HistoryRequest, ListReactionsRequest, ReadRangesRequest},
};
use uuid::Uuid;

use super::{parse, statement, to_i64, to_u64};

/// Entries in one answer to a request for ranges, whatever their limits add up to.
const RANGE_ENTRIES_MAX: i64 = 5_000;
/// Entries that a page of history looks at: few messages may be among many reactions, or match a filter.
pub(crate) const HISTORY_ENTRIES_MAX: i64 = 5_000;

/// The columns of an entry, of a log called `l`; [`EntrySql`] has their types.
macro_rules! entry_columns {
    () => {
        "l.seq, l.id, l.kind, l.sender_id, l.sender_device_id, l.message_type, l.content, l.reply_to, l.thread_id,
         l.target_id, l.superseded_by, l.attachments, l.mentions, l.metadata, l.signature, l.sent_at, l.edited_at,
         l.edit_count, l.deleted, l.expires_at"
    };
}
pub(crate) use entry_columns;

/// The types of the columns, each nullable: outer joins give entries that are not there.
pub(crate) type EntrySql = (
    (
        Nullable<BigInt>,
        Nullable<SqlUuid>,
        Nullable<Text>,
        Nullable<SqlUuid>,
        Nullable<SqlUuid>,
        Nullable<Text>,
        Nullable<Bytea>,
        Nullable<SqlUuid>,
        Nullable<SqlUuid>,
        Nullable<SqlUuid>,
    ),
    (
        Nullable<BigInt>,
        Nullable<Array<SqlUuid>>,
        Nullable<Array<SqlUuid>>,
        Nullable<Text>,
        Nullable<Bytea>,
        Nullable<Timestamptz>,
        Nullable<Timestamptz>,
        Nullable<Integer>,
        Nullable<Bool>,
        Nullable<Timestamptz>,
    ),
);

/// An entry, if there is one.
#[derive(Queryable)]
pub(crate) struct EntryRow {
    head: EntryHead,
    body: EntryBody,
}

#[derive(Queryable)]
pub(crate) struct EntryHead {
    seq: Option<i64>,
    id: Option<Uuid>,
    kind: Option<String>,
    sender_id: Option<Uuid>,
    sender_device_id: Option<Uuid>,
    message_type: Option<String>,
    content: Option<Vec<u8>>,
    reply_to: Option<Uuid>,
    thread_id: Option<Uuid>,
    target_id: Option<Uuid>,
}

#[derive(Queryable)]
pub(crate) struct EntryBody {
    superseded_by: Option<i64>,
    attachments: Option<Vec<Uuid>>,
    mentions: Option<Vec<Uuid>>,
    metadata: Option<String>,
    signature: Option<Vec<u8>>,
    sent_at: Option<DateTime<Utc>>,
    edited_at: Option<DateTime<Utc>>,
    edit_count: Option<i32>,
    deleted: Option<bool>,
    expires_at: Option<DateTime<Utc>>,
}

impl EntryRow {
    /// The entry as clients see it; what has expired is empty, whether it was erased yet or not.
    pub(crate) fn entry(
        self,
        conversation_id: ConversationId,
        now: DateTime<Utc>,
    ) -> diesel::QueryResult<Option<Entry>> {
        let Self { head, body } = self;
        let (Some(seq), Some(id), Some(kind), Some(sender_id), Some(sent_at)) =
            (head.seq, head.id, head.kind, head.sender_id, body.sent_at)
        else {
            return Ok(None);
        };
        let message_type = head.message_type.map(|name| parse(&name, MessageType::parse)).transpose()?;
        let mut entry = Entry {
            id: id.into(),
            conversation_id,
            seq: to_u64(seq),
            kind: parse(&kind, EntryKind::parse)?,
            sender_id: sender_id.into(),
            sender_device_id: head.sender_device_id.map(Into::into),
            message_type,
            content: head.content.map(raw).transpose()?,
            target_id: head.target_id.map(EntryId::from),
            superseded_by: body.superseded_by.map(to_u64),
            reply_to: head.reply_to.map(EntryId::from),
            thread_id: head.thread_id.map(EntryId::from),
            attachments: body.attachments.unwrap_or_default().into_iter().map(MediaId::from).collect(),
            mentions: body.mentions.unwrap_or_default().into_iter().map(UserId::from).collect(),
            metadata: body.metadata.map_or_else(|| Ok(empty_object()), |text| raw(text.into_bytes()))?,
            signature: body.signature.map(|bytes| STANDARD.encode(bytes)),
            sent_at: sent_at.into(),
            edited_at: body.edited_at.map(Into::into),
            edit_count: body.edit_count.and_then(|count| u32::try_from(count).ok()).unwrap_or_default(),
            deleted: body.deleted.unwrap_or_default(),
            expires_at: body.expires_at.map(Into::into),
        };
        if entry.deleted || body.expires_at.is_some_and(|at| at <= now) {
            empty(&mut entry);
        }
        Ok(Some(entry))
    }
}

/// What stays of an entry that was erased, has expired, or is hidden.
pub(crate) fn empty(entry: &mut Entry) {
    entry.deleted = true;
    entry.content = None;
    entry.attachments.clear();
    entry.mentions.clear();
    entry.metadata = empty_object();
    entry.signature = None;
}

/// `{}`.
pub(crate) fn empty_object() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

fn raw(bytes: Vec<u8>) -> diesel::QueryResult<Box<RawValue>> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| diesel::result::Error::DeserializationError(error);
    let text = String::from_utf8(bytes).map_err(|error| failed(error.into()))?;
    RawValue::from_string(text).map_err(|error| failed(error.into()))
}

/// What the frames of a conversation's entries need to know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) conversation_id: ConversationId,
    pub(crate) kind: ConversationKind,
    /// The two people of a direct one.
    pub(crate) direct: Option<(Uuid, Uuid)>,
}

impl Setting {
    /// `meta.target_id` of an entry: in a direct conversation the person who is not the sender, else the conversation.
    pub(crate) fn target(&self, sender_id: UserId) -> Uuid {
        match self.direct {
            Some((low, high)) if low == sender_id.as_uuid() => high,
            Some((low, _)) => low,
            None => self.conversation_id.as_uuid(),
        }
    }

    /// The frame of an entry.
    pub(crate) fn frame(&self, entry: &Entry) -> Box<RawValue> {
        entry.frame(self.kind, self.target(entry.sender_id))
    }
}

statement! {
    /// All ranges in one statement, on one snapshot. Seqs have no gaps, so what a range holds is known from its head; how
    /// many bytes it takes is known from the lengths, before any content is fetched. Each range that may be read has one row
    /// at least: with an entry that does not fit, or none, where `fits` is false.
    ReadRanges {
        reader: Nullable<SqlUuid> = Option<Uuid>,
        conversation_ids: Array<SqlUuid> = Vec<Uuid>,
        afters: Array<BigInt> = Vec<i64>,
        row_limits: Array<BigInt> = Vec<i64>,
        entries_max: BigInt = i64,
        bytes_max: BigInt = i64,
        range_bytes_max: BigInt = i64,
    } -> (
        (BigInt, BigInt, BigInt, BigInt, BigInt, BigInt, Text, Nullable<SqlUuid>, Nullable<SqlUuid>, Bool, Bool),
        EntrySql,
    );
    "WITH asked AS MATERIALIZED (
         SELECT r.place, r.conversation_id, h.first_seq, h.last_seq, h.leaves, c.kind, c.direct_low_id, c.direct_high_id,
                rights.readable_from, greatest(r.after + 1, rights.readable_from) AS from_seq,
                greatest(0, least(r.row_limit, h.last_seq + 1 - greatest(r.after + 1, rights.readable_from))) AS wanted
         FROM (SELECT {}::uuid AS reader) who,
              unnest({}, {}, {}) WITH ORDINALITY AS r (conversation_id, after, row_limit, place)
         JOIN messaging.heads h ON h.conversation_id = r.conversation_id
         JOIN messaging.conversations c ON c.id = r.conversation_id AND c.is_active
         LEFT JOIN messaging.members m ON m.conversation_id = r.conversation_id AND m.user_id = $1,
         LATERAL (SELECT greatest(h.first_seq, CASE WHEN $1 IS NULL OR c.history_visible THEN 1 ELSE m.joined_seq END)
                  AS readable_from) rights
         WHERE who.reader IS NULL OR (m.user_id IS NOT NULL AND m.left_seq IS NULL)
     ), granted AS (
         SELECT a.*, least(a.wanted, greatest(0, {} + a.wanted
                    - sum(a.wanted) OVER (ORDER BY a.place ROWS UNBOUNDED PRECEDING)))::bigint AS granted
         FROM asked a
     ), sized AS (
         SELECT g.place, g.readable_from, g.from_seq, g.first_seq, g.last_seq, g.leaves, g.kind AS conversation_kind,
                g.direct_low_id, g.direct_high_id, l.*,
                l.size - sum(l.size) OVER everything AS minus_before, l.size - sum(l.size) OVER within AS minus_range_before,
                row_number() OVER within AS number
         FROM granted g
         LEFT JOIN LATERAL (
             SELECT l.*, 700 + coalesce(octet_length(l.content), 0) + coalesce(octet_length(l.metadata), 0)
                    + 40 * (coalesce(cardinality(l.attachments), 0) + coalesce(cardinality(l.mentions), 0)) AS size
             FROM messaging.log l
             WHERE l.conversation_id = g.conversation_id AND l.seq >= g.from_seq AND l.seq < g.from_seq + g.granted
             ORDER BY l.seq
         ) l ON true
         WINDOW everything AS (ORDER BY g.place, l.seq ROWS UNBOUNDED PRECEDING),
                within AS (PARTITION BY g.place ORDER BY l.seq ROWS UNBOUNDED PRECEDING)
     ), cut AS (
         SELECT s.*, coalesce(s.minus_before > -{} AND s.minus_range_before > -{}, false) AS fits FROM sized s
     )
     SELECT l.place, l.first_seq, l.readable_from, l.from_seq, l.last_seq, l.leaves, l.conversation_kind,
            l.direct_low_id, l.direct_high_id, l.fits,
            -- Most have hidden nothing: looked up once.
            CASE WHEN (SELECT true FROM messaging.hidden x WHERE x.user_id = $1 LIMIT 1) THEN EXISTS (
                SELECT FROM messaging.hidden x
                WHERE x.user_id = $1 AND x.conversation_id = l.conversation_id AND x.message_id IN (l.id, l.target_id))
            ELSE false END, ",
    entry_columns!(),
    " FROM cut l WHERE l.fits OR l.number = 1 ORDER BY l.place, l.seq",
}

/// A row of a range.
#[derive(Queryable)]
pub(crate) struct RangeRow {
    pub(crate) range: RangeHead,
    pub(crate) entry: EntryRow,
}

/// What a row says of its range.
#[derive(Queryable)]
pub(crate) struct RangeHead {
    /// Counted from 1.
    pub(crate) place: i64,
    pub(crate) first_seq: i64,
    pub(crate) readable_from: i64,
    /// Where the range begins, after what may not be read.
    pub(crate) from_seq: i64,
    pub(crate) last_seq: i64,
    /// How many have left the channel.
    pub(crate) leaves: i64,
    kind: String,
    direct_low_id: Option<Uuid>,
    direct_high_id: Option<Uuid>,
    pub(crate) fits: bool,
    /// The reader has deleted it for themselves.
    pub(crate) is_hidden: bool,
}

impl RangeHead {
    pub(crate) fn setting(&self, conversation_id: ConversationId) -> diesel::QueryResult<Setting> {
        let kind = parse(&self.kind, ConversationKind::parse)?;
        Ok(Setting { conversation_id, kind, direct: self.direct_low_id.zip(self.direct_high_id) })
    }
}

/// The rows of all ranges that may be read, sorted by range and seq.
pub(crate) async fn read_ranges(
    connection: &mut AsyncPgConnection,
    request: &ReadRangesRequest,
) -> diesel::QueryResult<Vec<RangeRow>> {
    let bytes_max = i64::try_from(request.bytes_max.max(1)).unwrap_or(i64::MAX);
    let statement = ReadRanges {
        reader: request.reader.map(UserId::as_uuid),
        conversation_ids: request.ranges.iter().map(|range| range.conversation_id.as_uuid()).collect(),
        afters: request.ranges.iter().map(|range| to_i64(range.after).min(i64::MAX / 2)).collect(),
        row_limits: request.ranges.iter().map(|range| i64::from(range.limit)).collect(),
        entries_max: RANGE_ENTRIES_MAX,
        bytes_max,
        range_bytes_max: i64::try_from(PAGE_BYTES_MAX).unwrap_or(i64::MAX),
    };
    statement.load(connection).await
}

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
            entry.head.content = edit.content;
            entry.body.signature = edit.signature;
            entry.body.metadata = edit.metadata.or(entry.body.metadata);
            entry.body.superseded_by = None;
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
    let rows = rows.into_iter().map(|(row, ..)| row).filter(|row| row.entry.head.seq.is_some()).collect();
    Some(Listed { rows, looked_to })
}
