//! `sync`: replays logs to one connection and hands each conversation over to what is live.
//!
//! A conversation is read from the store, as fast as the socket drains, until the replay has reached what the worker
//! has forwarded; then, in the same breath, the connection joins the live list. Nothing is held back and nothing is
//! sent twice.

pub(crate) mod plan;
mod replays;
#[cfg(test)]
mod tests;

use std::{rc::Rc, time::Duration};

use entrenous_model::EntryId;
use entrenous_protocol::{
    CloseCode, Failure,
    frame::{self, SyncFrom, SyncRequest},
    limits::{PAGE_BYTES_MAX, SYNC_BYTES_MAX, SYNC_ENTRIES_MAX, SYNC_LIMIT_DEFAULT, SYNC_LIMIT_MAX},
    rpc::{
        store::{self, Cursors, Memberships, RangeRead, ReadRangesRequest},
        tracker,
    },
};

use super::{Connection, Mode, device_queue};
use crate::{fanout::Standing, worker::Worker};
use plan::Replay;
use replays::{Budget, Page, Replays};

/// `sync` frames that may wait while one is carried out.
const REQUESTS_MAX: usize = 16;
/// How long the store may be away during a replay before the rest is left for another `sync`.
const READ_TRIES: u32 = 6;
const READ_RETRY: Duration = Duration::from_millis(500);

/// What is to be replayed.
#[derive(Debug)]
pub(crate) enum Request {
    /// A client's `sync`.
    Client { id: Option<EntryId>, sync: SyncRequest },
    /// A conversation whose first live entries passed by before the connection was told of it; from this head on.
    CatchUp(Standing),
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
    pub(crate) fn request_catch_up(&self, standing: Standing) {
        self.push_request(Request::CatchUp(standing));
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
            Some(Request::Client { id, sync }) => Box::pin(sync_client(worker, connection, id, sync)).await,
            Some(Request::CatchUp(standing)) => Box::pin(catch_up(worker, connection, standing)).await,
            None => connection.sync_requested.notified().await,
        }
    }
}

async fn sync_client(worker: &Worker, connection: &Rc<Connection>, id: Option<EntryId>, sync: SyncRequest) {
    let (memberships, cursors) = match read_positions(worker, connection, &sync).await {
        Ok(read) => read,
        Err(failure) => {
            connection.send(failure.frame(id));
            return;
        }
    };
    let is_first = !connection.has_synced.replace(true);
    tell_left(worker, connection, &memberships, is_first, &sync);
    let budget = Budget {
        entries: SYNC_ENTRIES_MAX,
        bytes: SYNC_BYTES_MAX,
        entries_per_conversation: sync.limit.unwrap_or(SYNC_LIMIT_DEFAULT).min(SYNC_LIMIT_MAX),
        page_bytes: PAGE_BYTES_MAX,
    };
    let wanted = plan::replays(connection, &memberships, &cursors, &sync);
    let mut replays = Replays::start(&mut worker.fanout.borrow_mut(), connection, wanted, budget);
    replay_all(worker, connection, &mut replays).await;
    let queue = device_queue::sync(worker, connection).await;
    // In one breath: what comes live meanwhile is of the `sync` too.
    let listed = replays.complete(&mut worker.fanout.borrow_mut());
    connection.send(frame::sync_complete(id, &listed, queue));
}

/// Reads again where a change was heard of meanwhile: what was read may be from before it.
async fn read_positions(
    worker: &Worker,
    connection: &Rc<Connection>,
    sync: &SyncRequest,
) -> Result<(Memberships, Cursors), Failure> {
    loop {
        connection.is_outdated.set(false);
        let positions = read_positions_once(worker, connection, sync).await?;
        if !connection.is_outdated.get() {
            return Ok(positions);
        }
    }
}

async fn read_positions_once(
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

async fn replay_all(worker: &Worker, connection: &Rc<Connection>, replays: &mut Replays) {
    loop {
        let page = replays.next_page(&mut worker.fanout.borrow_mut());
        let Some(page) = page.filter(|_| connection.outbox.close_code().is_none()) else { return };
        connection.outbox.drained().await;
        match read(worker, connection, page).await {
            Some(reads) => replays.on_page(&mut worker.fanout.borrow_mut(), reads),
            None => replays.on_unreadable(),
        }
    }
}

async fn read(worker: &Worker, connection: &Rc<Connection>, page: Page) -> Option<Vec<RangeRead>> {
    let Page { ranges, bytes_max } = page;
    let request = ReadRangesRequest { reader: Some(connection.user_id), ranges, bytes_max };
    for _ in 0..READ_TRIES {
        match worker.gateway.call::<store::ReadRanges>(&request).await {
            Ok(reads) => return Some(reads),
            Err(_) => tokio::time::sleep(READ_RETRY).await,
        }
    }
    None
}

async fn catch_up(worker: &Worker, connection: &Rc<Connection>, standing: Standing) {
    if connection.mode(standing.conversation) != Mode::Paused {
        return;
    }
    let budget = Budget {
        entries: usize::MAX,
        bytes: usize::MAX,
        entries_per_conversation: u32::MAX,
        page_bytes: PAGE_BYTES_MAX,
    };
    let wanted = vec![Replay::catch_up(standing)];
    let mut replays = Replays::start(&mut worker.fanout.borrow_mut(), connection, wanted, budget);
    replay_all(worker, connection, &mut replays).await;
    if replays.has_more() {
        connection.close(CloseCode::ContinuityLost);
        return;
    }
    replays.complete(&mut worker.fanout.borrow_mut());
}

/// Where a `sync` begins for one conversation that has no cursor of the client's.
fn default_start(from: Option<SyncFrom>, membership: &store::Membership, acknowledged: Option<u64>) -> u64 {
    match from {
        Some(SyncFrom::Now) => membership.last_seq,
        Some(SyncFrom::Start) => 0,
        None => acknowledged.unwrap_or(membership.device_start_seq).min(membership.last_seq),
    }
}
