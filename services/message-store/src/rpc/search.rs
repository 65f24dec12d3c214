//! Method `search`.

use chrono::{DateTime, Datelike};
use diesel_async::AsyncPgConnection;
use entrenous_bus::Deadline;
use entrenous_protocol::{
    Failure, RawValue,
    limits::{HISTORY_PAGE_MAX, PAGE_BYTES_MAX},
    rest::Page,
    rpc::store::SearchRequest,
};
use uuid::Uuid;

use super::{Context, history::show};
use crate::{
    domain::search::{Found, Hit, Search},
    error::RequestError,
    store::{history::after_moment, memberships, search},
};

/// Characters of what is looked for.
const QUERY_CHARS_MAX: usize = 256;

pub(super) async fn handle(
    context: Context,
    request: SearchRequest,
    deadline: Deadline,
) -> Result<Page<Box<RawValue>>, RequestError> {
    if !(1..=HISTORY_PAGE_MAX).contains(&request.limit) {
        return Err(Failure::invalid("limit", format!("must be 1 to {HISTORY_PAGE_MAX}")).into());
    }
    if request.query.chars().count() > QUERY_CHARS_MAX {
        return Err(Failure::invalid("q", format!("must be at most {QUERY_CHARS_MAX} characters")).into());
    }
    let after = request.cursor.as_deref().map(parse_cursor).transpose()?;
    let mut connection = context.connection(deadline).await?;
    if !context.measured("search_query", search::is_query(&mut connection, &request.query)).await? {
        return Err(Failure::invalid("q", "holds no word to look for").into());
    }
    if let Some(conversation_id) = request.conversation_id {
        let role = memberships::read_role(&mut connection, request.caller, conversation_id);
        context.measured("read_role", role).await?.ok_or_else(Failure::not_found)?;
    }
    let Found { hits, mut next } = find(&context, &mut connection, &request, after).await?;
    let rows = search::read_found(&mut connection, request.caller, &hits);
    let rows = context.measured("search_messages", rows).await?;
    drop(connection);
    let (mut items, mut bytes, mut last) = (Vec::with_capacity(rows.len()), 0, None);
    for row in rows {
        let hit = row.hit_of(&hits);
        let Some(shown) = hit.map(|hit| show(&context, hit.conversation_id.into(), row.message)).transpose()?.flatten()
        else {
            continue;
        };
        bytes += shown.text.get().len();
        if bytes > PAGE_BYTES_MAX && last.is_some() {
            next = last;
            break;
        }
        last = hit;
        items.push(shown.text);
    }
    Ok(Page { items, has_more: next.is_some(), next: next.map(cursor) })
}

async fn find(
    context: &Context,
    connection: &mut AsyncPgConnection,
    request: &SearchRequest,
    after: Option<Hit>,
) -> Result<Found, RequestError> {
    // What was sent in the same millisecond as the last one of the page before may follow it.
    let after_at = after.map(|hit| after_moment(hit.sent_at.into()));
    let to = request.to.map(after_moment);
    let before = [after_at, to].into_iter().flatten().min();
    let scopes = context.measured("search_scopes", search::scopes(connection, request, before)).await?;
    let limit = usize::try_from(request.limit).unwrap_or_default();
    let mut search = Search::new(scopes, after, limit);
    loop {
        let scopes = search.next();
        if scopes.is_empty() {
            return Ok(search.finish());
        }
        let probes = search::probe(connection, request, &scopes, after, limit + 1);
        search.note(&scopes, context.measured("search_blocks", probes).await?);
    }
}

/// Microseconds, conversation and seq.
fn cursor(Hit { sent_at, conversation_id, seq }: Hit) -> String {
    format!("{}.{conversation_id}.{seq}", sent_at.timestamp_micros())
}

fn parse_cursor(text: &str) -> Result<Hit, Failure> {
    let parse = || {
        let mut parts = text.splitn(3, '.');
        let sent_at = DateTime::from_timestamp_micros(parts.next()?.parse().ok()?)?;
        let conversation_id = Uuid::try_parse(parts.next()?).ok()?;
        Some(Hit { sent_at, conversation_id, seq: parts.next()?.parse().ok()? })
    };
    // PostgreSQL's times do not go so far.
    let hit: Option<Hit> = parse().filter(|hit: &Hit| (0..10_000).contains(&hit.sent_at.year()));
    hit.ok_or_else(|| Failure::invalid("cursor", "is none that this server gave"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_parsed_as_they_are_made() {
        let sent_at = DateTime::from_timestamp_micros(1_795_000_000_123_000).unwrap();
        let hit = Hit { sent_at, conversation_id: Uuid::max(), seq: i64::MAX };
        assert_eq!(parse_cursor(&cursor(hit)).unwrap(), hit);
        for bad in [
            "",
            "1",
            "1.x.1",
            "999999999999999999.01900000-0000-7000-8000-000000000001.1",
            "1.01900000-0000-7000-8000-000000000001",
        ] {
            assert!(parse_cursor(bad).is_err(), "{bad}");
        }
    }
}
