//! The entries that feed rows name, read from the log once more.

use chrono::{DateTime, Utc};
use diesel::{
    prelude::Queryable,
    sql_types::{Array, BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_model::ConversationId;
use entrenous_protocol::{
    Entry,
    entry::{ConversationKind, EntryKind, MessageType},
    event::EntryAppended,
};
use uuid::Uuid;

use super::{
    entries::{EntryRow, EntrySql, Setting, entry_columns},
    feed::ClaimedRow,
    parse, statement, to_u64,
};

/// The entries of ranges: of each conversation in the order of their seqs.
macro_rules! ranges {
    ($columns:expr) => {
        concat!(
            "SELECT r.place, ",
            $columns,
            " FROM unnest({}, {}, {}, {}) AS r (place, conversation_id, first_seq, last_seq)
              JOIN messaging.conversations c ON c.id = r.conversation_id
              CROSS JOIN LATERAL (
                  SELECT * FROM messaging.log l
                  WHERE l.conversation_id = r.conversation_id AND l.seq >= r.first_seq AND l.seq <= r.last_seq
                  ORDER BY l.seq
              ) l
              ORDER BY r.place, r.conversation_id, l.seq"
        )
    };
}

statement! {
    /// Whole entries. The one that a `member` entry made a member is told so first, if that still holds. (In a channel
    /// only the first one makes anybody a member.)
    ReadEntries {
        places: Array<BigInt> = Vec<i64>,
        conversation_ids: Array<SqlUuid> = Vec<Uuid>,
        first_seqs: Array<BigInt> = Vec<i64>,
        last_seqs: Array<BigInt> = Vec<i64>,
    } -> (
        (BigInt, SqlUuid, Text, Nullable<SqlUuid>, Nullable<SqlUuid>, BigInt, BigInt, Nullable<Array<SqlUuid>>),
        EntrySql,
    );
    ranges!(concat!(
        "c.id, c.kind, c.direct_low_id, c.direct_high_id, l.countable_no,
         CASE WHEN c.kind = 'channel' THEN
             (SELECT h.leaves FROM messaging.heads h WHERE h.conversation_id = c.id) ELSE 0 END,
         CASE WHEN l.kind = 'member' AND c.is_active AND (c.kind <> 'channel' OR l.seq = 1) THEN ARRAY(
             SELECT m.user_id FROM messaging.members m
             WHERE m.conversation_id = l.conversation_id AND m.joined_seq = l.seq AND m.left_seq IS NULL
             ORDER BY m.user_id) END, ",
        entry_columns!()
    )),
}

statement! {
    /// What events say of entries.
    ReadSummaries {
        places: Array<BigInt> = Vec<i64>,
        conversation_ids: Array<SqlUuid> = Vec<Uuid>,
        first_seqs: Array<BigInt> = Vec<i64>,
        last_seqs: Array<BigInt> = Vec<i64>,
    } -> (BigInt, SqlUuid, BigInt, SqlUuid, Text, Nullable<Text>, SqlUuid, BigInt, Timestamptz);
    ranges!(
        "l.conversation_id, l.seq, l.id, l.kind, l.message_type, l.sender_id, l.countable_no, l.sent_at"
    ),
}

#[derive(Queryable)]
struct FedRow {
    head: FedHead,
    entry: EntryRow,
}

#[derive(Queryable)]
struct FedHead {
    place: i64,
    conversation_id: Uuid,
    kind: String,
    direct_low_id: Option<Uuid>,
    direct_high_id: Option<Uuid>,
    countable_no: i64,
    leaves: i64,
    joined: Option<Vec<Uuid>>,
}

/// An entry with what its frame needs.
#[derive(Debug)]
pub(crate) struct FedEntry {
    pub(crate) setting: Setting,
    pub(crate) entry: Entry,
    pub(crate) countable_no: u64,
    /// How many have left the channel by now: as many as before the entry, or more.
    pub(crate) leaves: u64,
    /// Who is a member from this entry on, and still is.
    pub(crate) joined: Vec<Uuid>,
}

/// What one row names; an error where this build cannot read it.
pub(crate) type OfRow<T> = diesel::QueryResult<Vec<T>>;

/// The entries of each row, as they are now: erased ones hold no content, archived ones are left out.
pub(crate) async fn read_entries(
    connection: &mut AsyncPgConnection,
    rows: &[ClaimedRow],
    now: DateTime<Utc>,
) -> diesel::QueryResult<Vec<OfRow<FedEntry>>> {
    let (places, conversation_ids, first_seqs, last_seqs) = arrays(rows);
    let statement = ReadEntries { places, conversation_ids, first_seqs, last_seqs };
    let read: Vec<FedRow> = statement.load(connection).await?;
    Ok(by_row(rows.len(), read, |row| row.head.place, |row| row.fed(now)))
}

impl FedRow {
    fn fed(self, now: DateTime<Utc>) -> diesel::QueryResult<Option<FedEntry>> {
        let Self { head, entry } = self;
        let conversation_id = ConversationId::from(head.conversation_id);
        let kind = parse(&head.kind, ConversationKind::parse)?;
        let setting = Setting { conversation_id, kind, direct: head.direct_low_id.zip(head.direct_high_id) };
        let (countable_no, leaves) = (to_u64(head.countable_no), to_u64(head.leaves));
        let joined = head.joined.unwrap_or_default();
        let entry = entry.entry(conversation_id, now)?;
        Ok(entry.map(|entry| FedEntry { setting, entry, countable_no, leaves, joined }))
    }
}

/// What events say of each row's entries, with the times when they were sent.
pub(crate) async fn read_summaries(
    connection: &mut AsyncPgConnection,
    rows: &[ClaimedRow],
) -> diesel::QueryResult<Vec<OfRow<(EntryAppended, DateTime<Utc>)>>> {
    type Summary = (i64, Uuid, i64, Uuid, String, Option<String>, Uuid, i64, DateTime<Utc>);
    let (places, conversation_ids, first_seqs, last_seqs) = arrays(rows);
    let statement = ReadSummaries { places, conversation_ids, first_seqs, last_seqs };
    let read: Vec<Summary> = statement.load(connection).await?;
    let summary = |(place, conversation_id, seq, id, kind, message_type, sender_id, countable_no, sent_at): Summary| {
        let row = usize::try_from(place).ok().and_then(|place| rows.get(place));
        let appended = EntryAppended {
            conversation_id: conversation_id.into(),
            seq: to_u64(seq),
            id: id.into(),
            kind: parse(&kind, EntryKind::parse)?,
            message_type: message_type.map(|name| parse(&name, MessageType::parse)).transpose()?,
            sender_id: sender_id.into(),
            countable_no: to_u64(countable_no),
            batch_id: row.map_or(Uuid::nil(), |row| row.row.batch_id),
        };
        Ok(Some((appended, sent_at)))
    };
    Ok(by_row(rows.len(), read, |(place, ..)| *place, summary))
}

type Ranges = (Vec<i64>, Vec<Uuid>, Vec<i64>, Vec<i64>);

fn arrays(rows: &[ClaimedRow]) -> Ranges {
    let mut arrays = Ranges::default();
    for (place, row) in (0..).zip(rows) {
        for range in &row.ranges {
            arrays.0.push(place);
            arrays.1.push(range.conversation_id);
            arrays.2.push(range.first_seq);
            arrays.3.push(range.last_seq);
        }
    }
    arrays
}

/// Gathers by place, counted from 0; a row of which something cannot be read is an error as a whole.
fn by_row<I, T>(
    rows: usize,
    read: Vec<I>,
    place: impl Fn(&I) -> i64,
    convert: impl Fn(I) -> diesel::QueryResult<Option<T>>,
) -> Vec<OfRow<T>> {
    let mut all: Vec<OfRow<T>> = (0..rows).map(|_| Ok(Vec::new())).collect();
    for item in read {
        let Some(slot) = usize::try_from(place(&item)).ok().and_then(|place| all.get_mut(place)) else {
            continue;
        };
        if let Ok(list) = slot {
            match convert(item) {
                Ok(converted) => list.extend(converted),
                Err(error) => *slot = Err(error),
            }
        }
    }
    all
}
