//! What everybody can read when it is over.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use anyhow::Context;
use entrenous_checker::{LogEntry, MemberChange, Planned, What};
use entrenous_client::{Api, ApiError, api::json};
use entrenous_model::{Clock, ConversationId, EntryId, SystemClock, UserId};
use entrenous_protocol::{
    Code, Entry, RawValue,
    entry::{EntryKind, MemberContent, MessageType, Role},
    rest::{Ban, Page},
    scheduled::{ScheduledMessage, ScheduledState},
};
use reqwest::Method;
use serde_json::Value;
use tokio::time::Instant;

use super::world::{NEVER, Room, World, url_of};

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
        let members = patiently(async || owner.api.members(room.id, None).await).await?.items;
        let members: BTreeMap<UserId, Role> = members.into_iter().map(|member| (member.user_id, member.role)).collect();
        for person in &world.people {
            for line in &world.lines {
                let api = person.api.with_base(url_of(line)?);
                if members.contains_key(&person.user_id) {
                    read_as_member(world, &api, person.user_id, &room).await?;
                } else {
                    read_as_stranger(world, &api, person.user_id, &room).await;
                }
            }
        }
        if room.is_group() {
            read_room(world, &owner.api, room.id, members).await?;
        }
    }
    for person in &world.people {
        let (user, messages) = (person.user_id, read_planned(&person.api).await?);
        world.recorder.record(What::ReadPlanned { user, messages });
    }
    Ok(())
}

async fn read_room(
    world: &World,
    api: &Api,
    conversation: ConversationId,
    members: BTreeMap<UserId, Role>,
) -> anyhow::Result<()> {
    let bans =
        async || json::<Page<Ban>>(api.request(Method::GET, &format!("conversations/{conversation}/bans"))).await;
    let banned = patiently(bans).await?.items.into_iter().map(|ban| ban.user_id).collect();
    let title = patiently(async || api.conversation(conversation).await).await?.title;
    world.recorder.record(What::ReadRoom { conversation, members, banned, title });
    Ok(())
}

/// Everything that somebody has scheduled and that was not sent.
async fn read_planned(api: &Api) -> anyhow::Result<Vec<Planned>> {
    let mut planned = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let asked: Vec<_> = cursor.iter().map(|cursor| ("cursor", cursor)).collect();
        let call = async || json::<Page<ScheduledMessage>>(api.request(Method::GET, "scheduled").query(&asked)).await;
        let page = patiently(call).await?;
        planned.extend(page.items.iter().map(|message| Planned {
            conversation: message.conversation_id,
            id: message.id,
            send_at: message.send_at,
            state: message.state,
            version: version(&message.metadata),
        }));
        match page.next.filter(|_| page.has_more) {
            Some(next) => cursor = Some(next),
            None => return Ok(planned),
        }
    }
}

/// Until nothing waits to be sent that is not due long after.
///
/// # Errors
/// When that takes too long.
pub(super) async fn wait_sent(world: &World, limit: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + limit;
    let far = SystemClock.now() + NEVER / 2;
    for person in &world.people {
        let is_due = |planned: &&Planned| planned.state == ScheduledState::Waiting && planned.send_at < far;
        while let Some(planned) = read_planned(&person.api).await?.iter().find(is_due) {
            anyhow::ensure!(Instant::now() < deadline, "not sent: {planned:?} of {}", person.name);
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

/// Which version a message says that it is.
fn version(metadata: &RawValue) -> Option<u64> {
    serde_json::from_str::<Value>(metadata.get()).ok()?.get("version")?.as_u64()
}

async fn read_as_member(world: &World, api: &Api, user: UserId, room: &Room) -> anyhow::Result<()> {
    let conversation = room.id;
    let entries = read_log(api, conversation).await?;
    check_acts(world, user, &entries);
    let entries = entries.iter().map(log_entry).collect::<anyhow::Result<_>>()?;
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

async fn read_log(api: &Api, conversation: ConversationId) -> anyhow::Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let after = entries.last().map_or(0, |entry| entry.seq);
        let page = patiently(async || api.log(conversation, after, LOG_PAGE).await).await?;
        entries.extend(page.items);
        if !page.has_more {
            return Ok(entries);
        }
    }
}

/// What was deleted is empty, with everything that was said about it; what was edited names its newest edit.
fn check_acts(world: &World, user: UserId, entries: &[Entry]) {
    let by_id: HashMap<EntryId, &Entry> = entries.iter().map(|entry| (entry.id, entry)).collect();
    let mut newest: HashMap<EntryId, u64> = HashMap::new();
    let complain = |entry: &Entry, what: &str| {
        world.complain(format!("{user} reads at seq {} of {} {what}", entry.seq, entry.conversation_id));
    };
    for entry in entries {
        let Some(target) = entry.target_id.and_then(|id| by_id.get(&id)) else { continue };
        match entry.kind {
            EntryKind::Deletion if !is_empty(target) => complain(target, "what was deleted"),
            EntryKind::Edit | EntryKind::Reaction | EntryKind::Unreaction if target.deleted && !is_empty(entry) => {
                complain(entry, "what was said about a deleted message");
            }
            EntryKind::Edit => drop(newest.insert(target.id, entry.seq)),
            _ => {}
        }
    }
    for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Message && !entry.deleted) {
        let edits = newest.get(&entry.id).copied();
        if edits.is_some() && entry.superseded_by != edits {
            complain(entry, "a message that does not name its newest edit");
        }
    }
}

fn is_empty(entry: &Entry) -> bool {
    entry.deleted && entry.content.is_none() && entry.attachments.is_empty() && entry.metadata.get() == "{}"
}

fn log_entry(entry: &Entry) -> anyhow::Result<LogEntry> {
    let content = entry.content.as_ref().filter(|_| entry.kind == EntryKind::Member);
    let content: Option<MemberContent> = content.map(|content| serde_json::from_str(content.get())).transpose()?;
    let member = content.map(|content| MemberChange {
        user: content.user_id,
        role: content.change.leaves_a_member().then(|| content.role.unwrap_or(Role::Member)),
    });
    let is_message = entry.kind == EntryKind::Message && entry.message_type != Some(MessageType::Control);
    let is_countable = is_message && !entry.deleted;
    Ok(LogEntry {
        seq: entry.seq,
        id: entry.id,
        sender: entry.sender_id,
        kind: entry.kind,
        sent_at: entry.sent_at,
        version: version(&entry.metadata),
        member,
        is_message,
        is_countable,
    })
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
