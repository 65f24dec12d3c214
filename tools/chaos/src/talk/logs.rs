//! What everybody can read when it is over.

use std::time::Duration;

use anyhow::Context;
use entrenous_checker::{LogEntry, MemberChange, What};
use entrenous_client::{Api, ApiError};
use entrenous_model::{ConversationId, UserId};
use entrenous_protocol::{
    Code, Entry,
    entry::{EntryKind, MemberContent, MessageType},
};

use super::world::{Room, World, url_of};

/// Entries in one page of a log.
const LOG_PAGE: u32 = 500;
/// How often a call is tried that the server cannot answer at the moment.
const ATTEMPTS: u32 = 20;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(250);

/// Everybody reads every log and unread count that they may, at every gateway; who may not is told so.
pub(super) async fn read(world: &World) -> anyhow::Result<()> {
    for room in world.rooms() {
        let owner = room.members.first().and_then(|owner| world.person(*owner)).context("a room has an owner")?;
        let members = patiently(async || owner.api.members(room.id, None).await).await?;
        let members: Vec<UserId> = members.items.into_iter().map(|member| member.user_id).collect();
        for person in &world.people {
            for line in &world.lines {
                let api = person.api.with_base(url_of(line)?);
                if members.contains(&person.user_id) {
                    read_as_member(world, &api, person.user_id, &room).await?;
                } else {
                    read_as_stranger(world, &api, person.user_id, &room).await;
                }
            }
        }
    }
    Ok(())
}

async fn read_as_member(world: &World, api: &Api, user: UserId, room: &Room) -> anyhow::Result<()> {
    let conversation = room.id;
    let entries = read_log(api, conversation).await?;
    world.recorder.record(What::ReadLog { user, conversation, entries });
    let seen = patiently(async || api.conversation(conversation).await).await?;
    let seqs = patiently(async || api.unread(conversation).await).await?;
    if seqs.count != u64::try_from(seqs.seqs.len())? {
        world.complain(format!("{user} is told that {} are unread, and {} seqs", seqs.count, seqs.seqs.len()));
    }
    let (read_seq, unread_count) = (seen.read_seq, seen.unread_count);
    world.recorder.record(What::ReadUnread { user, conversation, read_seq, unread_count, seqs: seqs.seqs });
    Ok(())
}

async fn read_as_stranger(world: &World, api: &Api, user: UserId, room: &Room) {
    let (log, unread) = (api.log(room.id, 0, 1).await, api.unread(room.id).await);
    let answers = [log.err(), unread.err()];
    if !answers.iter().all(|answer| answer.as_ref().is_some_and(|error| error.is(Code::NotFound))) {
        world.complain(format!("{user} is no member of {} and was not told so: {answers:?}", room.id));
    }
}

async fn read_log(api: &Api, conversation: ConversationId) -> anyhow::Result<Vec<LogEntry>> {
    let mut entries: Vec<LogEntry> = Vec::new();
    loop {
        let after = entries.last().map_or(0, |entry| entry.seq);
        let page = patiently(async || api.log(conversation, after, LOG_PAGE).await).await?;
        for entry in &page.items {
            entries.push(log_entry(entry)?);
        }
        if !page.has_more {
            return Ok(entries);
        }
    }
}

fn log_entry(entry: &Entry) -> anyhow::Result<LogEntry> {
    let content = entry.content.as_ref().filter(|_| entry.kind == EntryKind::Member);
    let content: Option<MemberContent> = content.map(|content| serde_json::from_str(content.get())).transpose()?;
    let member =
        content.map(|content| MemberChange { user: content.user_id, is_member: content.change.leaves_a_member() });
    let is_message = entry.kind == EntryKind::Message && entry.message_type != Some(MessageType::Control);
    let is_countable = is_message && !entry.deleted;
    Ok(LogEntry { seq: entry.seq, id: entry.id, sender: entry.sender_id, member, is_countable })
}

async fn patiently<T>(mut call: impl AsyncFnMut() -> Result<T, ApiError>) -> Result<T, ApiError> {
    for _ in 1..ATTEMPTS {
        match call().await {
            Err(error) if error.is_outcome_unknown() => tokio::time::sleep(PAUSE).await,
            answer => return answer,
        }
    }
    call().await
}
