//! The correlation table: which caller awaits the answer of which number.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::BusError;

pub(super) type Answer = Result<Bytes, BusError>;

/// Requests that await their answer.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    next: AtomicU64,
    senders: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
}

/// A request in the table. It leaves it with its caller, answered or not.
pub(super) struct Call<'a> {
    waiting: &'a Waiting,
    number: u64,
    receiver: oneshot::Receiver<Answer>,
}

impl Waiting {
    /// A request with a number that no other has.
    pub(super) fn ask(&self) -> Call<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.senders().insert(number, sender);
        Call { waiting: self, number, receiver }
    }

    /// An answer came. The first one counts; a caller that has gone needs none.
    pub(super) fn answer(&self, number: u64, answer: Answer) {
        let sender = self.senders().remove(&number);
        if let Some(sender) = sender {
            let _ = sender.send(answer);
        }
    }

    /// The answers of all that wait may be lost.
    pub(super) fn interrupt(&self) {
        let senders = std::mem::take(&mut *self.senders());
        for sender in senders.into_values() {
            let _ = sender.send(Err(BusError::Interrupted));
        }
    }

    fn senders(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Answer>>> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call<'_> {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) async fn answer(mut self) -> Answer {
        (&mut self.receiver).await.unwrap_or(Err(BusError::Interrupted))
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.waiting.senders().remove(&self.number);
    }
}
