//! The queue of device messages as one connection sends it: each seq once, in order, and what waits is read by one reader.
//!
//! What comes live says only how far the queue is. The connection reads it on from where it is, so that a hint that is lost or
//! repeated does no harm.

use std::{cell::Cell, rc::Rc, time::Duration};

use entrenous_protocol::{
    CloseCode, Failure,
    frame::{self, SyncedQueue},
    rpc::tracker::{DeviceQueue, ReadDeviceMessages, ReadDeviceMessagesRequest},
};
use tokio::sync::{Mutex, Notify};

use super::Connection;
use crate::worker::Worker;

/// Bytes of content in one page.
const PAGE_BYTES_MAX: usize = 256 * 1024;
/// How long a `sync` waits for the tracker before it goes on without.
const SYNC_WAIT_MAX: Duration = Duration::from_secs(2);

/// How far a connection is in its device's queue.
#[derive(Debug, Default)]
pub(crate) struct QueuePosition {
    /// Everything up to here was sent, or waits no more.
    position: Cell<u64>,
    /// The last seq that was sent; 0: none.
    sent: Cell<u64>,
    /// The last seq that was heard of.
    wanted: Cell<u64>,
    /// The first `sync` has come to the queue.
    is_open: Cell<bool>,
    /// The queue could not be read.
    is_behind: Cell<bool>,
    changed: Notify,
    reading: Mutex<()>,
}

impl QueuePosition {
    /// The last seq that was sent; 0: none.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// The queue is at least so far.
    pub(crate) fn note(&self, last_seq: u64) {
        if last_seq > self.wanted.get() {
            self.wanted.set(last_seq);
            self.changed.notify_one();
        }
    }

    /// Whether the first `sync` has come to the queue.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open.get()
    }

    /// What the tracker says of the queue.
    pub(crate) fn note_queue(&self, queue: DeviceQueue) {
        if queue.has_waiting {
            self.note(queue.last_seq);
        }
    }

    fn note_behind(&self) {
        self.is_behind.set(true);
        self.changed.notify_one();
    }

    fn is_due(&self) -> bool {
        self.is_open.get() && (self.is_behind.get() || self.wanted.get() > self.position.get())
    }
}

/// Sends what is heard of, until the connection ends.
pub(crate) async fn run(worker: &Worker, connection: &Rc<Connection>) -> CloseCode {
    let queue = &connection.device_queue;
    loop {
        while !queue.is_due() {
            queue.changed.notified().await;
        }
        let turn = queue.reading.lock().await;
        let has_failed = queue.is_due() && Box::pin(read_on(worker, connection)).await.is_err();
        drop(turn);
        if connection.outbox.close_code().is_some() {
            // Who writes ends the connection.
            return std::future::pending().await;
        }
        if has_failed {
            // Not all connections at the same moment.
            tokio::time::sleep(Duration::from_millis(rand::random_range(500..1_500))).await;
        }
    }
}

/// A `sync` has come to the queue: sends what waits. Where that cannot be read now, it follows by itself.
pub(crate) async fn sync(worker: &Worker, connection: &Rc<Connection>) -> SyncedQueue {
    let queue = &connection.device_queue;
    let _turn = queue.reading.lock().await;
    queue.is_open.set(true);
    let asked = tokio::time::timeout(SYNC_WAIT_MAX, worker.gateway.store.device_queue(connection.device_id)).await;
    if let Ok(Ok(DeviceQueue { expired_up_to: Some(up_to), .. })) = asked {
        connection.send(frame::device_messages_expired(up_to));
    }
    let last_seq = match asked {
        Ok(Ok(DeviceQueue { last_seq, has_waiting: false, .. })) => {
            queue.position.set(queue.position.get().max(last_seq));
            Some(last_seq)
        }
        Ok(Ok(_)) => read_on(worker, connection).await.ok(),
        Ok(Err(_)) | Err(_) => None,
    };
    if let Some(last_seq) = last_seq {
        return SyncedQueue { last_seq, has_more: false };
    }
    queue.note_behind();
    SyncedQueue { last_seq: queue.position.get(), has_more: true }
}

/// Sends what waits, page by page, as fast as the socket drains. Gives the queue's last seq. The caller has its turn.
async fn read_on(worker: &Worker, connection: &Rc<Connection>) -> Result<u64, Failure> {
    let queue = &connection.device_queue;
    loop {
        connection.outbox.drained().await;
        if connection.outbox.close_code().is_some() {
            return Ok(queue.position.get());
        }
        let (after, wanted) = (queue.position.get(), queue.wanted.get());
        let request = ReadDeviceMessagesRequest { device_id: connection.device_id, after, bytes_max: PAGE_BYTES_MAX };
        let page = worker.gateway.call::<ReadDeviceMessages>(&request).await?;
        if page.last_seq < after {
            // The tracker was restored from a backup: its seqs begin below what was sent.
            connection.close(CloseCode::ContinuityLost);
            return Ok(after);
        }
        for message in &page.messages {
            connection.send(frame::device_message(message));
            queue.position.set(message.seq);
            queue.sent.set(message.seq);
        }
        if !page.has_more {
            queue.position.set(page.last_seq);
            queue.is_behind.set(false);
            if queue.wanted.get() == wanted {
                queue.wanted.set(page.last_seq);
            }
            return Ok(page.last_seq);
        }
    }
}
