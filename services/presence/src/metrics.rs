//! The metrics of the service, each described once.

use std::{error::Error, time::Duration};

use entrenous_db::DbError;
use metrics::{counter, describe_counter, describe_gauge, gauge, histogram};

use crate::{
    domain::{LastSeenBuffer, Replicas, State, Watchers},
    error::RequestError,
};

/// Describes the metrics.
pub(crate) fn describe() {
    describe_gauge!("chat_presence_gateways_active", "Gateways that this process believes to be there.");
    describe_gauge!("chat_presence_connections_active", "Connections that this process knows of.");
    describe_gauge!("chat_presence_users_active", "Users who are online, those in the grace included.");
    describe_gauge!("chat_presence_watched_active", "Users that gateways watch, each counted for each gateway.");
    describe_gauge!("chat_presence_replicas_active", "Replicas that tell gateways, this one included.");
    describe_counter!("chat_presence_statuses_told_total", "Statuses told to gateways.");
    describe_gauge!("chat_presence_last_seen_waiting", "Users whose last moment waits to be written.");
    describe_counter!("chat_presence_last_seen_written_total", "Rows of last_seen that changed.");
    describe_counter!("chat_presence_left_out_total", "Connections and reports for which there was no room.");
    describe_counter!("chat_db_operations_total", "Database operations, by operation.");
}

/// What is known now.
pub(crate) fn known(state: &State, watchers: &Watchers, replicas: &Replicas, buffer: &LastSeenBuffer) {
    gauge!("chat_presence_watched_active").set(to_f64(watchers.len()));
    gauge!("chat_presence_replicas_active").set(to_f64(replicas.ready_count()));
    gauge!("chat_presence_gateways_active").set(to_f64(state.gateway_count()));
    gauge!("chat_presence_connections_active").set(to_f64(state.connection_count()));
    gauge!("chat_presence_users_active").set(to_f64(state.user_count()));
    gauge!("chat_presence_last_seen_waiting").set(to_f64(buffer.len()));
    counter!("chat_presence_left_out_total").absolute(state.left_out_count());
}

/// Rows of `last_seen` changed.
pub(crate) fn last_seen_written(changed: usize) {
    counter!("chat_presence_last_seen_written_total").increment(u64::try_from(changed).unwrap_or(u64::MAX));
}

/// A gateway was told so many statuses.
pub(crate) fn statuses_told(count: usize) {
    counter!("chat_presence_statuses_told_total").increment(u64::try_from(count).unwrap_or(u64::MAX));
}

/// A gateway watches too many users.
pub(crate) fn watched_left_out(count: usize) {
    if count == 0 {
        return;
    }
    counter!("chat_errors_total", "type" => "watched_left_out", "severity" => "warning")
        .increment(u64::try_from(count).unwrap_or(u64::MAX));
}

/// Something in the background failed; it is tried again.
pub(crate) fn background_failed(what: &'static str, error: &dyn Error) {
    counter!("chat_errors_total", "type" => what, "severity" => "warning").increment(1);
    tracing::warn!(what, error = chain(error), "presence tries again");
}

/// There was no room for the last moment of some users.
pub(crate) fn last_seen_left_out(count: usize) {
    if count == 0 {
        return;
    }
    counter!("chat_errors_total", "type" => "last_seen_left_out", "severity" => "warning")
        .increment(u64::try_from(count).unwrap_or(u64::MAX));
}

/// A statement was run.
pub(crate) fn statement(operation: &'static str, took: Duration) {
    counter!("chat_db_operations_total", "operation" => operation).increment(1);
    histogram!("chat_db_operation_duration_seconds", "operation" => operation).record(took);
}

/// A batch was not written; it is tried again in a second.
pub(crate) fn write_failed(error: &DbError, rows: usize) {
    counter!("chat_errors_total", "type" => "database", "severity" => "warning").increment(1);
    tracing::warn!(rows, error = chain(error), "last moments were not written");
}

/// A request failed: one line in the log, one count.
pub(crate) fn request_failed(method: &'static str, error: &RequestError) {
    counter!("chat_errors_total", "type" => error.metric_type(), "severity" => "warning").increment(1);
    tracing::warn!(method, error = chain(error), "request failed");
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn to_f64(count: usize) -> f64 {
    count as f64
}

/// An error and its causes, for the log.
fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
