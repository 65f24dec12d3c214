//! Method `read_ranges`.

use std::iter::Peekable;

use chrono::{DateTime, Utc};
use diesel_async::AsyncPgConnection;
use entrenous_bus::Deadline;
use entrenous_protocol::{
    Failure,
    rpc::store::{Leave, LogEntry, RANGES_MAX, Range, RangeRead, ReadRangesRequest},
};

use super::Context;
use crate::{
    error::RequestError,
    store::{
        entries::{self, RangeRow},
        leaves::{self, LeaveRange},
        to_u64,
    },
};

pub(super) async fn handle(
    context: Context,
    request: ReadRangesRequest,
    deadline: Deadline,
) -> Result<Vec<RangeRead>, RequestError> {
    if request.ranges.len() > RANGES_MAX {
        return Err(Failure::invalid("ranges", format!("must be at most {RANGES_MAX}")).into());
    }
    let mut connection = context.connection(deadline).await?;
    let rows = context.measured("read_ranges", entries::read_ranges(&mut connection, &request)).await?;
    let left = read_left(&context, &mut connection, &request, &rows).await?;
    drop(connection);
    let mut budget = Budget { left: request.bytes_max, is_first: true };
    let mut rows = rows.into_iter().peekable();
    let now = context.now();
    let reads = (1_i64..).zip(&request.ranges).map(|(place, range)| read(place, *range, &mut rows, &mut budget, now));
    let mut reads: Vec<RangeRead> = reads.collect::<diesel::QueryResult<_>>()?;
    for (place, left) in left {
        if let Some(read) = reads.get_mut(place) {
            read.left = left;
        }
    }
    Ok(reads)
}

/// Who left channels before the heads that were read, by place: for gateways, which hand entries on to all members.
async fn read_left(
    context: &Context,
    connection: &mut AsyncPgConnection,
    request: &ReadRangesRequest,
    rows: &[RangeRow],
) -> Result<Vec<(usize, Vec<Leave>)>, RequestError> {
    if request.reader.is_some() {
        return Ok(Vec::new());
    }
    let mut asked: Vec<(usize, LeaveRange)> = Vec::new();
    for rows in rows.chunk_by(|one, other| one.range.place == other.range.place) {
        let head = rows.first().map(|row| &row.range);
        let place = head.and_then(|head| usize::try_from(head.place - 1).ok());
        let Some((head, place, range)) =
            head.zip(place).and_then(|(head, at)| Some((head, at, request.ranges.get(at)?)))
        else {
            continue;
        };
        let (after, up_to) = (range.leaves_after, to_u64(head.leaves));
        if up_to > after {
            asked.push((place, LeaveRange { conversation_id: range.conversation_id, after, up_to }));
        }
    }
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let (places, ranges): (Vec<usize>, Vec<LeaveRange>) = asked.into_iter().unzip();
    let left = context.measured("read_leaves", leaves::read(connection, &ranges)).await?;
    Ok(places.into_iter().zip(left).collect())
}

/// Bytes of frames that may still be given; the first one always.
struct Budget {
    left: usize,
    is_first: bool,
}

impl Budget {
    fn take(&mut self, bytes: usize) -> bool {
        let fits = self.is_first || bytes <= self.left;
        self.is_first = false;
        // What does not fit ends it: a later, smaller entry must not come before an earlier one of its range.
        self.left = if fits { self.left.saturating_sub(bytes) } else { 0 };
        fits
    }
}

fn read(
    place: i64,
    range: Range,
    rows: &mut Peekable<impl Iterator<Item = RangeRow>>,
    budget: &mut Budget,
    now: DateTime<Utc>,
) -> diesel::QueryResult<RangeRead> {
    let mut read = unreadable(range);
    let mut given = 0;
    let mut is_full = false;
    while let Some(row) = rows.next_if(|row| row.range.place == place) {
        let setting = row.range.setting(range.conversation_id)?;
        if !read.is_readable {
            read.is_readable = true;
            read.first_seq = to_u64(row.range.first_seq);
            read.readable_from = to_u64(row.range.readable_from);
            read.last_seq = to_u64(row.range.last_seq);
            read.leaves = to_u64(row.range.leaves);
            given = to_u64(row.range.from_seq - 1);
        }
        let entry = row.entry.entry(range.conversation_id, now)?.filter(|_| row.range.fits && !is_full);
        let Some(mut entry) = entry else { continue };
        if row.range.is_hidden {
            entries::empty(&mut entry);
        }
        let frame = setting.frame(&entry);
        is_full = !budget.take(frame.get().len());
        if !is_full {
            given = entry.seq;
            let (seq, id, kind, sender_device_id) = (entry.seq, entry.id, entry.kind, entry.sender_device_id);
            read.entries.push(LogEntry { seq, id, kind, sender_device_id, frame });
        }
    }
    read.has_more = given < read.last_seq;
    Ok(read)
}

fn unreadable(range: Range) -> RangeRead {
    RangeRead {
        conversation_id: range.conversation_id,
        is_readable: false,
        entries: Vec::new(),
        first_seq: 0,
        readable_from: 0,
        last_seq: 0,
        has_more: false,
        leaves: 0,
        left: Vec::new(),
    }
}
