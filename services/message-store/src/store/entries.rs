//! Entries as they stand in the log, and ranges of it for `sync` and repair.

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use diesel::{
    prelude::Queryable,
    sql_types::{Array, BigInt, Bool, Bytea, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_model::{ConversationId, EntryId, MediaId, UserId};
use entrenous_protocol::{
    Entry, RawValue,
    entry::{ConversationKind, EntryKind, MessageType},
    limits::PAGE_BYTES_MAX,
    rpc::store::ReadRangesRequest,
};
use uuid::Uuid;

use super::{parse, statement, to_i64, to_u64};

/// Entries in one answer to a request for ranges, whatever their limits add up to.
const RANGE_ENTRIES_MAX: i64 = 5_000;

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
    /// Whether the outer join gave one.
    pub(crate) fn is_there(&self) -> bool {
        self.head.seq.is_some()
    }

    /// Puts a newer version in the place of what the log has here.
    pub(crate) fn supersede(&mut self, content: Option<Vec<u8>>, signature: Option<Vec<u8>>, metadata: Option<String>) {
        self.head.content = content;
        self.body.signature = signature;
        self.body.metadata = metadata.or(self.body.metadata.take());
        self.body.superseded_by = None;
    }

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
