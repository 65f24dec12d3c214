//! The metrics of the service, each described once.

use std::{error::Error, time::Duration};

use metrics::{counter, describe_counter, histogram};

use crate::error::RequestError;

/// Describes the metrics.
pub(crate) fn describe() {
    describe_counter!("chat_delivery_cursors_received_total", "Cursors in requests, repeats included.");
    describe_counter!("chat_delivery_cursors_moved_total", "Cursors that moved forward.");
    describe_counter!("chat_device_messages_sent_total", "Device messages that were queued, repeats included.");
    describe_counter!("chat_db_operations_total", "Database operations, by operation.");
}

/// A batch of cursors was stored.
pub(crate) fn cursors_advanced(received: usize, moved: usize) {
    counter!("chat_delivery_cursors_received_total").increment(to_u64(received));
    counter!("chat_delivery_cursors_moved_total").increment(to_u64(moved));
}

/// Device messages were queued.
pub(crate) fn device_messages_sent(count: usize) {
    counter!("chat_device_messages_sent_total").increment(to_u64(count));
}

/// A statement was run.
pub(crate) fn statement(operation: &'static str, took: Duration) {
    counter!("chat_db_operations_total", "operation" => operation).increment(1);
    histogram!("chat_db_operation_duration_seconds", "operation" => operation).record(took);
}

/// A request failed: one line in the log, one count.
pub(crate) fn request_failed(method: &'static str, error: &RequestError) {
    counter!("chat_errors_total", "type" => error.metric_type(), "severity" => "warning").increment(1);
    tracing::warn!(method, error = chain(error), "request failed");
}

fn to_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// An error and its causes, for the log.
fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
