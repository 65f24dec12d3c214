//! What waits to be written to one connection: bounded in frames and in bytes. A slow client is closed; it delays
//! nobody and grows no memory.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
};

use bytes::Bytes;
use bytestring::ByteString;
use entrenous_protocol::CloseCode;
use tokio::sync::Notify;

/// Below this many bytes a replay may go on.
const LOW_WATER_BYTES: usize = 64 * 1024;
/// From this many frames on the client is behind.
const BUSY_FRAMES: usize = 64;

/// A WebSocket message on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outgoing {
    Text(ByteString),
    Ping,
    Pong(Bytes),
}

impl Outgoing {
    /// What it weighs in the queue.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Ping => 0,
            Self::Pong(bytes) => bytes.len(),
        }
    }
}

/// The queue of a connection.
#[derive(Debug)]
pub(crate) struct Outbox {
    frames: RefCell<VecDeque<Outgoing>>,
    bytes: Cell<usize>,
    frames_max: usize,
    bytes_max: usize,
    close: Cell<Option<CloseCode>>,
    changed: Notify,
    drained: Notify,
    closing: Notify,
}

impl Outbox {
    pub(crate) fn new(frames_max: usize, bytes_max: usize) -> Self {
        Self {
            frames: RefCell::default(),
            bytes: Cell::new(0),
            frames_max,
            bytes_max,
            close: Cell::new(None),
            changed: Notify::new(),
            drained: Notify::new(),
            closing: Notify::new(),
        }
    }

    /// Adds a frame; above the bounds the connection is to be closed as too slow. After a close nothing is added.
    pub(crate) fn push(&self, frame: Outgoing) {
        if self.close.get().is_some() {
            return;
        }
        let bytes = self.bytes.get() + frame.bytes();
        if bytes > self.bytes_max || self.frames.borrow().len() >= self.frames_max {
            self.frames.borrow_mut().clear();
            self.close(CloseCode::TooSlow);
            return;
        }
        self.bytes.set(bytes);
        self.frames.borrow_mut().push_back(frame);
        self.changed.notify_one();
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.borrow().is_empty()
    }

    /// Whether so much waits that what can come later should.
    pub(crate) fn is_busy(&self) -> bool {
        self.frames.borrow().len() >= BUSY_FRAMES
    }

    /// Asks for the end: what waits is written first, unless the client is too slow.
    pub(crate) fn close(&self, code: CloseCode) {
        if self.close.get().is_none() {
            self.close.set(Some(code));
            self.closing.notify_one();
        }
        self.changed.notify_one();
        self.drained.notify_one();
    }

    /// Why the connection is to end.
    pub(crate) fn close_code(&self) -> Option<CloseCode> {
        self.close.get()
    }

    /// Waits until the end is asked for.
    pub(crate) async fn closing(&self) -> CloseCode {
        loop {
            if let Some(code) = self.close.get() {
                return code;
            }
            self.closing.notified().await;
        }
    }

    /// The next frame; `None` once the end was asked for and nothing waits.
    pub(crate) async fn next(&self) -> Option<Outgoing> {
        loop {
            let frame = self.frames.borrow_mut().pop_front();
            if let Some(frame) = frame {
                return Some(frame);
            }
            if self.close.get().is_some() {
                return None;
            }
            self.changed.notified().await;
        }
    }

    /// A frame was written.
    pub(crate) fn written(&self, bytes: usize) {
        self.bytes.set(self.bytes.get().saturating_sub(bytes));
        if self.bytes.get() < LOW_WATER_BYTES {
            self.drained.notify_one();
        }
        let mut frames = self.frames.borrow_mut();
        if frames.is_empty() && frames.capacity() > 64 {
            // A burst is over: its memory goes back.
            *frames = VecDeque::new();
        }
    }

    /// Waits until little is left to write, or the connection is to end.
    pub(crate) async fn drained(&self) {
        while self.bytes.get() >= LOW_WATER_BYTES && self.close.get().is_none() {
            self.drained.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> Outgoing {
        Outgoing::Text(text.into())
    }

    #[tokio::test]
    async fn a_full_queue_asks_for_the_end_and_forgets_what_waits() {
        let outbox = Outbox::new(2, 100);
        outbox.push(text("a"));
        outbox.push(text("b"));
        assert_eq!(outbox.close_code(), None);
        outbox.push(text("c"));
        assert_eq!(outbox.closing().await, CloseCode::TooSlow);
        assert_eq!(outbox.next().await, None);
    }

    #[tokio::test]
    async fn bytes_are_bounded_too_and_what_waits_is_written_before_another_end() {
        let outbox = Outbox::new(10, 10);
        outbox.push(text("12345"));
        outbox.close(CloseCode::LoginEnded);
        outbox.push(text("late"));
        assert_eq!(outbox.next().await, Some(text("12345")));
        assert_eq!(outbox.next().await, None);
        let full = Outbox::new(10, 10);
        full.push(text("12345678901"));
        assert_eq!(full.close_code(), Some(CloseCode::TooSlow));
    }
}
