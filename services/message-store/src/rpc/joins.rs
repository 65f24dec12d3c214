//! Methods `join` and `list_channels`: what people find and enter by themselves.

use diesel_async::AsyncPgConnection;
use entrenous_bus::Deadline;
use entrenous_model::{ConversationId, UserId};
use entrenous_protocol::{
    Failure,
    entry::{ConversationKind, MemberChange, MemberContent},
    rest::{Page, PublicChannel},
    rpc::store::{
        CHANNELS_PAGE_MAX, FrameOrigin, JoinBy, JoinRequest, ListChannelsRequest, MembershipChanged, MembershipEntry,
    },
};
use futures::FutureExt;

use super::{
    Context,
    change::{self, Change, Known, lock, membership_entry},
    members::{check_room, come},
};
use crate::{
    domain::{rights::role_of_joining, token::token_digest, words::question},
    error::RequestError,
    store::{
        changes::StandingRow,
        channels::{self, ChannelRow},
        invites,
    },
};

/// Somebody who is on their way into a conversation.
struct Joining {
    caller: UserId,
    conversation_id: ConversationId,
    /// Of the token that they come with.
    token_digest: Option<Vec<u8>>,
    frame: Option<FrameOrigin>,
}

pub(super) async fn join(
    context: Context,
    request: JoinRequest,
    deadline: Deadline,
) -> Result<MembershipChanged, RequestError> {
    let JoinRequest { caller, by, frame } = request;
    let joining = match by {
        JoinBy::Conversation(conversation_id) => Joining { caller, conversation_id, token_digest: None, frame },
        JoinBy::Invite(token) => {
            let token_digest = token_digest(&token);
            let mut connection = context.connection(deadline).await?;
            let found = context.measured("find_invite", invites::find(&mut connection, &token_digest)).await?;
            let conversation_id = found.ok_or_else(Failure::not_found)?;
            Joining { caller, conversation_id, token_digest: Some(token_digest), frame }
        }
    };
    change::make(context, "join", joining, deadline, |context, connection, joining, deadline| {
        join_locked(context, connection, joining, deadline).boxed()
    })
    .await
}

async fn join_locked(
    context: &Context,
    connection: &mut AsyncPgConnection,
    joining: &Joining,
    deadline: Deadline,
) -> Result<Change<MembershipChanged>, RequestError> {
    let Joining { caller, conversation_id, ref token_digest, ref frame } = *joining;
    let standing = lock(connection, conversation_id, caller, caller, deadline).await?;
    let known = Known::read(connection, conversation_id, caller, frame.as_ref()).await?;
    if let Known::Repeat(entry) = known {
        return Ok(Change::None(MembershipChanged { conversation_id, entry: Some(entry) }));
    }
    if let (Some(_), Some((at, seq))) = (standing.caller_role()?, standing.target_joined()) {
        let entry = has_entry(&standing)?.then(|| membership_entry(at, seq));
        return Ok(Change::None(MembershipChanged { conversation_id, entry }));
    }
    let is_let_in = match token_digest {
        Some(digest) => invites::is_live(connection, digest).await?,
        None => standing.room.is_public,
    };
    if !is_let_in {
        return Err(Failure::not_found().into());
    }
    check_room(&standing)?;
    known.check()?;
    if let Some(digest) = token_digest
        && !invites::take(connection, digest).await?
    {
        return Err(Failure::not_found().into());
    }
    let (change, role) = (MemberChange::Joined, Some(role_of_joining(standing.target_role_before()?)));
    let member_content = MemberContent { user_id: caller, change, role, by: caller, members: Vec::new() };
    let come = come(context, connection, conversation_id, &standing, member_content, frame.as_ref()).await?;
    let has_entry = has_entry(&standing)?;
    Ok(come.map(|member| {
        let entry = MembershipEntry { seq: member.joined_seq, sent_at: member.joined_at };
        MembershipChanged { conversation_id, entry: has_entry.then_some(entry) }
    }))
}

/// Whether coming and going are entries there.
fn has_entry(standing: &StandingRow) -> Result<bool, RequestError> {
    Ok(standing.kind()? == ConversationKind::Group)
}

pub(super) async fn list_channels(
    context: Context,
    request: ListChannelsRequest,
    deadline: Deadline,
) -> Result<Page<PublicChannel>, RequestError> {
    let ListChannelsRequest { caller, query, cursor, limit } = request;
    if !(1..=CHANNELS_PAGE_MAX).contains(&limit) {
        return Err(Failure::invalid("limit", format!("must be 1 to {CHANNELS_PAGE_MAX}")).into());
    }
    let after = cursor.as_deref().map(parse_cursor).transpose()?;
    let question = match query.as_deref().map(str::trim) {
        None | Some("") => None,
        Some(query) => match question(query) {
            Some(question) => Some(question),
            // No word: nothing has it.
            None => return Ok(Page::whole(Vec::new())),
        },
    };
    let mut connection = context.connection(deadline).await?;
    let listed = channels::list(&mut connection, caller, question, after, i64::from(limit) + 1);
    let mut rows = context.measured("list_channels", listed).await?;
    let limit = usize::try_from(limit).unwrap_or_default();
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| has_more).map(ChannelRow::position);
    let next = next.map(|(size, id)| format!("{size}.{id}"));
    Ok(Page { items: rows.into_iter().map(Into::into).collect(), has_more, next })
}

fn parse_cursor(text: &str) -> Result<(i32, ConversationId), Failure> {
    let parsed = text.split_once('.').and_then(|(size, id)| Some((size.parse().ok()?, id.parse().ok()?)));
    parsed.ok_or_else(|| Failure::invalid("cursor", "is none that this server gave"))
}
