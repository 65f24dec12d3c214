//! Receipts on their way to the tracker: merged (a maximum, so merging is free) and sent in batches.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use entrenous_model::{ConversationId, DeviceId};
use entrenous_protocol::rpc::{
    store::Attaching,
    tracker::{AdvanceCursors, AdvanceCursorsRequest, CURSORS_MAX, CursorAdvance},
};

use crate::state::{CALL_MAX, Gateway};

/// How long receipts are gathered.
const GATHER: Duration = Duration::from_millis(200);
/// Receipts kept while the tracker is away; above it the newest are dropped, and come again with the next receipt of
/// their conversation, since receipts are cumulative.
const KEPT_MAX: usize = 200_000;

/// Receipts that have not been told yet.
#[derive(Debug, Default)]
pub struct Receipts(Mutex<HashMap<(DeviceId, ConversationId), CursorAdvance>>);

impl Receipts {
    /// Notes a receipt.
    pub fn note(&self, cursor: CursorAdvance) {
        let mut receipts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (cursor.device_id, cursor.conversation_id);
        if receipts.len() >= KEPT_MAX && !receipts.contains_key(&key) {
            metrics::counter!("chat_errors_total", "type" => "receipts_full", "severity" => "warning").increment(1);
            return;
        }
        let noted = receipts.entry(key).or_insert(cursor);
        noted.delivered_seq = noted.delivered_seq.max(cursor.delivered_seq);
        noted.read_seq = noted.read_seq.max(cursor.read_seq);
        noted.sent_seq = noted.sent_seq.max(cursor.sent_seq);
    }

    /// Who sends has read what was there before.
    pub(crate) fn note_sent(&self, sender: &Attaching, conversation_id: ConversationId, seq: u64) {
        let Attaching { user_id, device_id } = *sender;
        self.note(CursorAdvance { user_id, device_id, conversation_id, delivered_seq: 0, read_seq: 0, sent_seq: seq });
    }

    fn take(&self) -> Vec<CursorAdvance> {
        let mut receipts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let keys: Vec<_> = receipts.keys().copied().take(CURSORS_MAX).collect();
        keys.into_iter().filter_map(|key| receipts.remove(&key)).collect()
    }
}

/// Sends what was gathered until the process ends; once more after the stop was asked for.
pub async fn run(gateway: std::sync::Arc<Gateway>, shutdown: entrenous_runtime::Shutdown) {
    loop {
        let is_last = shutdown.is_triggered();
        flush(&gateway).await;
        if is_last {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(GATHER) => {}
            () = shutdown.triggered() => {}
        }
    }
}

async fn flush(gateway: &Gateway) {
    let cursors = gateway.receipts.take();
    if cursors.is_empty() {
        return;
    }
    let request = AdvanceCursorsRequest { cursors };
    if gateway.bus.call::<AdvanceCursors>(&request, CALL_MAX).await.is_err() {
        for cursor in request.cursors {
            gateway.receipts.note(cursor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_merge_to_the_highest() {
        let id = uuid::Uuid::nil();
        let cursor = |delivered_seq, read_seq| CursorAdvance {
            user_id: id.into(),
            device_id: id.into(),
            conversation_id: id.into(),
            delivered_seq,
            read_seq,
            sent_seq: 0,
        };
        let receipts = Receipts::default();
        for (delivered, read) in [(3, 1), (7, 0), (5, 2)] {
            receipts.note(cursor(delivered, read));
        }
        assert_eq!(receipts.take(), [cursor(7, 2)]);
        assert!(receipts.take().is_empty());
    }
}
