//! The metrics of the service, each described once.

use std::time::Duration;

use entrenous_protocol::entry::MessageType;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::error::RequestError;

/// Counts what the service does. Cheap to clone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Metrics;

#[expect(clippy::unused_self, reason = "who counts has got the described metrics")]
impl Metrics {
    /// Describes the metrics.
    pub(crate) fn describe() -> Self {
        describe_counter!("chat_messages_received_total", "Messages stored, repeats not counted, by type.");
        describe_histogram!("chat_message_size_bytes", "Bytes of content of messages stored, by type.");
        describe_histogram!("chat_message_processing_duration_seconds", "Time of a request, by operation.");
        describe_counter!("chat_append_outcomes_total", "What became of messages, by outcome.");
        describe_histogram!("chat_append_batch_messages", "Messages in a batch.");
        describe_counter!("chat_db_operations_total", "Database operations, by operation.");
        describe_histogram!("chat_db_operation_duration_seconds", "Time of a database operation, by operation.");
        describe_counter!("chat_publications_dropped_total", "Batches left to the sweeper, by plane.");
        describe_counter!("chat_feed_rows_swept_total", "Batches taken by the sweeper, by plane and outcome.");
        describe_gauge!("chat_feed_rows_waiting", "Batches known to wait for the sweeper, by plane.");
        describe_gauge!(
            "chat_feed_oldest_waiting_seconds",
            "Age of the oldest of them, 0 where there is none, by plane."
        );
        describe_counter!("chat_unread_counts_checked_total", "Unread counts that were recounted, a sample.");
        describe_gauge!("chat_unread_drift", "How far the counts of the last sample were off, together: 0.");
        describe_counter!(
            "chat_pending_device_messages_total",
            "Device messages of entries taken for the delivery tracker, by outcome."
        );
        describe_counter!(
            "chat_scheduled_messages_total",
            "Scheduled messages whose time had come, or that were forgotten, by outcome."
        );
        describe_histogram!("chat_scheduled_lag_seconds", "How long after their time scheduled messages were sent.");
        describe_counter!("chat_messages_expired_total", "Messages erased because their time had come.");
        describe_counter!("chat_feed_partitions_dropped_total", "Partitions of the feed that were dropped.");
        Self
    }

    /// A sample of unread counts was recounted.
    pub(crate) fn unread_checked(self, looked_at: u64, drift: u64) {
        counter!("chat_unread_counts_checked_total").increment(looked_at);
        gauge!("chat_unread_drift").set(f64::from(u32::try_from(drift).unwrap_or(u32::MAX)));
    }

    /// A request was answered.
    pub(crate) fn answered(self, method: &'static str, took: Duration) {
        histogram!("chat_message_processing_duration_seconds", "operation" => method).record(took);
    }

    /// A request failed: one line in the log, one count; nothing for what is the caller's affair.
    pub(crate) fn request_failed(self, method: &'static str, error: &RequestError) {
        let Some(kind) = error.metric_type() else {
            return;
        };
        counter!("chat_errors_total", "type" => kind, "severity" => "warning").increment(1);
        let cause = std::error::Error::source(error).map(ToString::to_string);
        tracing::warn!(method, %error, cause, "request failed");
    }

    /// A statement or transaction was run.
    pub(crate) fn statement(self, operation: &'static str, took: Duration) {
        counter!("chat_db_operations_total", "operation" => operation).increment(1);
        histogram!("chat_db_operation_duration_seconds", "operation" => operation).record(took);
    }

    /// A batch came.
    pub(crate) fn batch_received(self, messages: usize) {
        histogram!("chat_append_batch_messages").record(f64::from(u32::try_from(messages).unwrap_or(u32::MAX)));
    }

    /// What became of a message.
    pub(crate) fn message_judged(self, outcome: &'static str) {
        counter!("chat_append_outcomes_total", "outcome" => outcome).increment(1);
    }

    /// A message was stored for the first time.
    pub(crate) fn message_stored(self, message_type: MessageType, content_bytes: usize) {
        counter!("chat_messages_received_total", "type" => message_type.as_str()).increment(1);
        let bytes = f64::from(u32::try_from(content_bytes).unwrap_or(u32::MAX));
        histogram!("chat_message_size_bytes", "type" => message_type.as_str()).record(bytes);
    }

    /// A message that the database does not take: ours to look into.
    pub(crate) fn message_poisoned(self, error: &dyn std::error::Error) {
        counter!("chat_errors_total", "type" => "poisoned_message", "severity" => "error").increment(1);
        let cause = error.source().and_then(std::error::Error::source).map(ToString::to_string);
        tracing::error!(cause, "a message that the database does not take was answered alone");
    }

    /// A batch was not published, and is left to the sweeper.
    pub(crate) fn publication_dropped(self, plane: &'static str) {
        counter!("chat_publications_dropped_total", "plane" => plane).increment(1);
    }

    /// The sweeper took rows, and they were published or not.
    pub(crate) fn rows_swept(self, plane: &'static str, outcome: &'static str, rows: usize) {
        let rows = u64::try_from(rows).unwrap_or(u64::MAX);
        counter!("chat_feed_rows_swept_total", "plane" => plane, "outcome" => outcome).increment(rows);
    }

    /// Rows wait for the sweeper.
    pub(crate) fn rows_waiting(self, plane: &'static str, rows: usize, oldest: Duration) {
        gauge!("chat_feed_rows_waiting", "plane" => plane).set(f64::from(u32::try_from(rows).unwrap_or(u32::MAX)));
        gauge!("chat_feed_oldest_waiting_seconds", "plane" => plane).set(oldest.as_secs_f64());
    }

    /// A device message that came with an entry was offered to the delivery tracker.
    pub(crate) fn device_message_handed_over(self, outcome: &'static str) {
        counter!("chat_pending_device_messages_total", "outcome" => outcome).increment(1);
    }

    /// A scheduled message was sent, so long after its time.
    pub(crate) fn scheduled_sent(self, lag: Duration) {
        self.scheduled_message("sent");
        histogram!("chat_scheduled_lag_seconds").record(lag.as_secs_f64());
    }

    /// A scheduled message was to be sent.
    pub(crate) fn scheduled_message(self, outcome: &'static str) {
        counter!("chat_scheduled_messages_total", "outcome" => outcome).increment(1);
    }

    /// Scheduled messages that could not be sent were forgotten.
    pub(crate) fn scheduled_forgotten(self, messages: u64) {
        counter!("chat_scheduled_messages_total", "outcome" => "forgotten").increment(messages);
    }

    /// Messages were erased because their time had come.
    pub(crate) fn messages_expired(self, erased: u64) {
        counter!("chat_messages_expired_total").increment(erased);
    }

    /// A partition of the feed was dropped.
    pub(crate) fn partition_dropped(self) {
        counter!("chat_feed_partitions_dropped_total").increment(1);
    }
}
