//! `sync`: replays logs to one connection and hands each conversation over to what is live.
//!
//! A conversation is read from the store, as fast as the socket drains, until the replay has reached what the worker
//! has forwarded; then, in the same breath, the connection joins the live list. Nothing is held back and nothing is
//! sent twice.

mod plan;

use std::{rc::Rc, time::Duration};

use entrenous_model::{ConversationId, EntryId};
use entrenous_protocol::{
    CloseCode, Failure,
    frame::{self, SyncFrom, SyncRequest},
    limits::{PAGE_BYTES_MAX, SYNC_BYTES_MAX, SYNC_ENTRIES_MAX, SYNC_LIMIT_DEFAULT, SYNC_LIMIT_MAX},
    rpc::{
        store::{self, Cursors, Memberships, Range, RangeRead, ReadRangesRequest},
        tracker,
    },
};

use super::{Connection, Mode};
use crate::worker::Worker;
use plan::Replay;

/// `sync` frames that may wait while one is carried out.
const REQUESTS_MAX: usize = 16;
/// Conversations read in one request.
const RANGES_AT_ONCE: usize = 64;
/// How long the store may be away during a replay before the rest is left for another `sync`.
const READ_TRIES: u32 = 6;
const READ_RETRY: Duration = Duration::from_millis(500);

/// What is to be replayed.
#[derive(Debug)]
pub(crate) enum Request {
    /// A client's `sync`.
    Client { id: Option<EntryId>, sync: SyncRequest },
    /// A conversation whose first live entries passed by before the connection was told of it.
    CatchUp { conversation: ConversationId, after: u64 },
}

/// What a `sync` may still send.
struct Budget {
    entries: usize,
    bytes: usize,
    per_conversation: u32,
}

impl Connection {
    /// Queues a client's `sync`; one that sends many at once is closed.
    pub(crate) fn request_sync(&self, id: Option<EntryId>, sync: SyncRequest) {
        if self.sync_requests.borrow().len() >= REQUESTS_MAX {
            self.close(CloseCode::TooManyFrames);
            return;
        }
        self.push_request(Request::Client { id, sync });
    }

    /// Queues a catch-up.
    pub(crate) fn request_catch_up(&self, conversation: ConversationId, after: u64) {
        self.push_request(Request::CatchUp { conversation, after });
    }

    fn push_request(&self, request: Request) {
        self.sync_requests.borrow_mut().push_back(request);
        self.sync_requested.notify_one();
    }
}

/// Carries out what is asked for, one after another, until the connection ends.
pub(crate) async fn run(worker: &Worker, connection: &Rc<Connection>) -> CloseCode {
    loop {
        let request = connection.sync_requests.borrow_mut().pop_front();
        match request {
            Some(Request::Client { id, sync }) => sync_client(worker, connection, id, sync).await,
            Some(Request::CatchUp { conversation, after }) => catch_up(worker, connection, conversation, after).await,
            None => connection.sync_requested.notified().await,
        }
    }
}

async fn sync_client(worker: &Worker, connection: &Rc<Connection>, id: Option<EntryId>, sync: SyncRequest) {
    let is_first = !connection.has_synced.replace(true);
    let (memberships, cursors) = match read_positions(worker, connection, &sync).await {
        Ok(read) => read,
        Err(failure) => {
            connection.send(failure.frame(id));
            return;
        }
    };
    tell_left(worker, connection, &memberships, is_first, &sync);
    let mut replays = plan::replays(connection, &memberships, &cursors, &sync);
    for replay in &replays {
        let mut fanout = worker.fanout.borrow_mut();
        if replay.is_ahead {
            fanout.pause(connection, replay.conversation);
            continue;
        }
        fanout.start_syncing(connection, replay.conversation, replay.head);
        fanout.note_head(replay.conversation, replay.head);
    }
    let mut budget = Budget {
        entries: SYNC_ENTRIES_MAX,
        bytes: SYNC_BYTES_MAX,
        per_conversation: sync.limit.unwrap_or(SYNC_LIMIT_DEFAULT).min(SYNC_LIMIT_MAX),
    };
    replay_all(worker, connection, &mut replays, &mut budget).await;
    let mut fanout = worker.fanout.borrow_mut();
    for replay in &mut replays {
        // What came live since the replay had caught up was sent before this `sync_complete` too.
        if let Some(last_seq) = fanout.become_origin(connection, replay.conversation) {
            replay.note_live(last_seq);
        }
    }
    let listed: Vec<_> = replays.iter().filter_map(Replay::listed).collect();
    connection.send(frame::sync_complete(id, &listed, 0));
}

async fn read_positions(
    worker: &Worker,
    connection: &Rc<Connection>,
    sync: &SyncRequest,
) -> Result<(Memberships, Cursors), Failure> {
    let has_cursors = sync.from.is_some() || !sync.cursors.is_empty();
    let mut memberships = worker.gateway.store.memberships(connection.device(), has_cursors).await?;
    // Whoever brings a cursor for everything needs neither the tracker nor the device's start.
    let is_covered = memberships.conversations.iter().all(|one| sync.cursors.contains_key(&one.conversation_id));
    if sync.from.is_some() || is_covered {
        connection.membership_version.set(memberships.membership_version);
        return Ok((memberships, Cursors::new()));
    }
    if has_cursors {
        memberships = worker.gateway.store.memberships(connection.device(), false).await?;
    }
    connection.membership_version.set(memberships.membership_version);
    let request = tracker::DeviceCursorsRequest { device_id: connection.device_id };
    let cursors = worker.gateway.call::<tracker::DeviceCursors>(&request).await?;
    Ok((memberships, cursors.into_iter().map(|cursor| (cursor.conversation_id, cursor.delivered_seq)).collect()))
}

/// Who was removed while away is told so.
fn tell_left(
    worker: &Worker,
    connection: &Rc<Connection>,
    memberships: &Memberships,
    is_first: bool,
    sync: &SyncRequest,
) {
    for (conversation, left_seq) in &memberships.left {
        let was_known = connection.knows(*conversation);
        if is_first || was_known || sync.cursors.contains_key(conversation) {
            connection.send(frame::conversation_left(*conversation, *left_seq));
        }
        worker.fanout.borrow_mut().drop_view(connection, *conversation);
    }
}

async fn replay_all(worker: &Worker, connection: &Rc<Connection>, replays: &mut [Replay], budget: &mut Budget) {
    loop {
        let mut behind = settle(worker, connection, replays, budget);
        if behind.is_empty() || connection.outbox.close_code().is_some() {
            return;
        }
        behind.truncate(RANGES_AT_ONCE);
        connection.outbox.drained().await;
        let ranges: Vec<Range> = behind.iter().filter_map(|at| replays.get(*at)).map(|one| one.range(budget)).collect();
        match read(worker, connection, ranges, budget.bytes.min(PAGE_BYTES_MAX)).await {
            Some(reads) => {
                for (at, read) in behind.into_iter().zip(reads) {
                    if let Some(replay) = replays.get_mut(at) {
                        send(worker, connection, replay, read, budget);
                    }
                }
            }
            None => budget.entries = 0,
        }
    }
}

/// Hands over what has caught up, pauses what has used up its share, and gives what is still behind.
fn settle(worker: &Worker, connection: &Rc<Connection>, replays: &mut [Replay], budget: &Budget) -> Vec<usize> {
    let mut behind = Vec::new();
    let mut fanout = worker.fanout.borrow_mut();
    for (at, replay) in replays.iter_mut().enumerate().filter(|(_, replay)| !replay.is_settled) {
        if connection.mode(replay.conversation) != Mode::Syncing {
            // Removed meanwhile, or unsubscribed.
            replay.is_settled = true;
            continue;
        }
        let target = replay.head.max(fanout.forwarded(replay.conversation).unwrap_or(0));
        if replay.position >= target {
            replay.is_settled = true;
            replay.head = replay.position;
            if replay.sent > 0
                && let Some(view) = connection.views.borrow_mut().get_mut(&replay.conversation)
            {
                view.has_sent = true;
            }
            fanout.go_live(connection, replay.conversation, replay.position, false);
        } else if replay.sent >= budget.per_conversation
            || replay.bytes >= PAGE_BYTES_MAX
            || budget.entries == 0
            || budget.bytes == 0
        {
            replay.is_settled = true;
            replay.has_more = true;
            replay.head = target;
            fanout.pause(connection, replay.conversation);
        } else {
            behind.push(at);
        }
    }
    behind
}

fn send(worker: &Worker, connection: &Rc<Connection>, replay: &mut Replay, read: RangeRead, budget: &mut Budget) {
    if !read.is_readable {
        connection.send(frame::conversation_left(replay.conversation, replay.head));
        worker.fanout.borrow_mut().drop_view(connection, replay.conversation);
        return;
    }
    if connection.mode(replay.conversation) != Mode::Syncing {
        return;
    }
    replay.first_seq = read.first_seq;
    replay.head = replay.head.max(read.last_seq);
    for entry in read.entries {
        let bytes = entry.frame.get().len();
        replay.starts_at.get_or_insert(entry.seq);
        replay.position = entry.seq;
        replay.sent += 1;
        replay.bytes += bytes;
        budget.entries = budget.entries.saturating_sub(1);
        budget.bytes = budget.bytes.saturating_sub(bytes);
        connection.send(String::from(Box::<str>::from(entry.frame)));
    }
}

impl Replay {
    fn range(&self, budget: &Budget) -> Range {
        let left = budget.per_conversation.saturating_sub(self.sent);
        let limit = left.min(u32::try_from(budget.entries).unwrap_or(u32::MAX));
        Range { conversation_id: self.conversation, after: self.position, limit }
    }
}

async fn read(
    worker: &Worker,
    connection: &Rc<Connection>,
    ranges: Vec<Range>,
    bytes_max: usize,
) -> Option<Vec<RangeRead>> {
    let request = ReadRangesRequest { reader: Some(connection.user_id), ranges, bytes_max };
    for _ in 0..READ_TRIES {
        match worker.gateway.call::<store::ReadRanges>(&request).await {
            Ok(reads) => return Some(reads),
            Err(_) => tokio::time::sleep(READ_RETRY).await,
        }
    }
    None
}

async fn catch_up(worker: &Worker, connection: &Rc<Connection>, conversation: ConversationId, after: u64) {
    if connection.mode(conversation) != Mode::Paused {
        return;
    }
    worker.fanout.borrow_mut().start_syncing(connection, conversation, after);
    let mut replays = [Replay::catch_up(conversation, after)];
    let mut budget = Budget { entries: usize::MAX, bytes: usize::MAX, per_conversation: u32::MAX };
    replay_all(worker, connection, &mut replays, &mut budget).await;
    if replays.iter().any(|replay| replay.has_more) {
        connection.close(CloseCode::ContinuityLost);
        return;
    }
    worker.fanout.borrow_mut().become_origin(connection, conversation);
}

/// Where a `sync` begins for one conversation that has no cursor of the client's.
fn default_start(from: Option<SyncFrom>, membership: &store::Membership, acknowledged: Option<u64>) -> u64 {
    match from {
        Some(SyncFrom::Now) => membership.last_seq,
        Some(SyncFrom::Start) => 0,
        None => acknowledged.unwrap_or(membership.device_start_seq).min(membership.last_seq),
    }
}
