//! Methods `get_conversation`, `list_conversations` and `list_members`.

use std::{fmt::Display, str::FromStr};

use chrono::{DateTime, Utc};
use entrenous_bus::Deadline;
use entrenous_model::{ConversationId, UserId};
use entrenous_protocol::{
    Code, Failure,
    rest::{Conversation, Member, Page},
    rpc::store::{ConversationRequest, ListConversationsRequest, ListMembersRequest, MEMBERS_PAGE_MAX},
};

use super::Context;
use crate::{
    domain::rights::sees_members,
    error::RequestError,
    store::{conversations, memberships},
};

/// Conversations in a page, at most.
const PAGE_MAX: u32 = 100;

pub(super) async fn get(
    context: Context,
    request: ConversationRequest,
    deadline: Deadline,
) -> Result<Conversation, RequestError> {
    find(&context, request.caller, request.conversation_id, deadline).await?.ok_or_else(|| Failure::not_found().into())
}

/// A conversation as its member sees it; none for who is no member.
pub(super) async fn find(
    context: &Context,
    caller: UserId,
    conversation_id: ConversationId,
    deadline: Deadline,
) -> Result<Option<Conversation>, RequestError> {
    let mut connection = context.connection(deadline).await?;
    let found = conversations::get(&mut connection, caller, conversation_id);
    let Some(row) = context.measured("get_conversation", found).await? else {
        return Ok(None);
    };
    drop(connection);
    let peer = row.peer(caller);
    let mut named = [(row.conversation(context.now())?, peer)];
    context.name_peers(&mut named, deadline).await;
    let [(conversation, _)] = named;
    Ok(Some(conversation))
}

pub(super) async fn list(
    context: Context,
    request: ListConversationsRequest,
    deadline: Deadline,
) -> Result<Page<Conversation>, RequestError> {
    if !(1..=PAGE_MAX).contains(&request.limit) {
        return Err(Failure::invalid("limit", format!("must be 1 to {PAGE_MAX}")).into());
    }
    let after = request.cursor.as_deref().map(parse_cursor).transpose()?;
    let mut connection = context.connection(deadline).await?;
    let listed = conversations::list(&mut connection, request.caller, after, i64::from(request.limit) + 1);
    let mut rows = context.measured("list_conversations", listed).await?;
    drop(connection);
    let limit = usize::try_from(request.limit).unwrap_or_default();
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| has_more).map(|row| cursor(row.position()));
    let mut named = Vec::with_capacity(rows.len());
    for row in rows {
        let peer = row.peer(request.caller);
        named.push((row.conversation(context.now())?, peer));
    }
    context.name_peers(&mut named, deadline).await;
    Ok(Page { items: named.into_iter().map(|(conversation, _)| conversation).collect(), has_more, next })
}

pub(super) async fn members(
    context: Context,
    request: ListMembersRequest,
    deadline: Deadline,
) -> Result<Page<Member>, RequestError> {
    let ListMembersRequest { caller, conversation_id, after, limit } = request;
    if !(1..=MEMBERS_PAGE_MAX).contains(&limit) {
        return Err(Failure::invalid("limit", format!("must be 1 to {MEMBERS_PAGE_MAX}")).into());
    }
    let mut connection = context.connection(deadline).await?;
    let role = memberships::read_role(&mut connection, caller, conversation_id);
    let (kind, role) = context.measured("read_role", role).await?.ok_or_else(Failure::not_found)?;
    if !sees_members(kind, role) {
        return Err(Failure::new(Code::Forbidden, "only moderators and owners see who is in a channel").into());
    }
    let listed = memberships::list_members(&mut connection, conversation_id, after, limit + 1);
    let mut items = context.measured("list_members", listed).await?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| has_more).map(|member| member.user_id.to_string());
    Ok(Page { items, has_more, next })
}

/// Microseconds and id: where the next page begins.
pub(super) fn cursor<T: Display>((at, id): (DateTime<Utc>, T)) -> String {
    format!("{}.{id}", at.timestamp_micros())
}

pub(super) fn parse_cursor<T: FromStr>(text: &str) -> Result<(DateTime<Utc>, T), Failure> {
    let parts = text.split_once('.');
    let parsed =
        parts.and_then(|(micros, id)| Some((DateTime::from_timestamp_micros(micros.parse().ok()?)?, id.parse().ok()?)));
    parsed.ok_or_else(|| Failure::invalid("cursor", "is none that this server gave"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_parsed_as_they_are_made() {
        let position: (_, ConversationId) = (
            DateTime::from_timestamp_micros(1_795_000_000_123_456).unwrap(),
            "01900000-0000-7000-8000-000000000001".parse().unwrap(),
        );
        assert_eq!(parse_cursor(&cursor(position)).unwrap(), position);
        for bad in ["", "1", "1.x", "x.01900000-0000-7000-8000-000000000001"] {
            assert!(parse_cursor::<ConversationId>(bad).is_err(), "{bad}");
        }
    }
}
