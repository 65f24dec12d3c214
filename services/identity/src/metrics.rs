//! The metrics of the service, each described once.

use std::{error::Error, time::Duration};

use entrenous_protocol::Code;
use metrics::{counter, describe_counter, describe_histogram, histogram};

use crate::error::RequestError;

/// Describes the metrics.
pub(crate) fn describe() {
    describe_counter!(
        "chat_auth_requests_total",
        "Requests to the identity service, by method and by status: `ok` or the error's code."
    );
    describe_histogram!("chat_auth_duration_seconds", "How long requests to the identity service took, by method.");
    describe_counter!("chat_db_operations_total", "Database operations, by operation.");
    describe_histogram!("chat_db_operation_duration_seconds", "How long database operations took, by operation.");
    describe_counter!("chat_rate_limit_exceeded_total", "Requests refused by a limit, by what they wanted to do.");
}

/// A database operation was done, or failed.
pub(crate) fn statement(operation: &'static str, took: Duration) {
    counter!("chat_db_operations_total", "operation" => operation).increment(1);
    histogram!("chat_db_operation_duration_seconds", "operation" => operation).record(took);
}

/// A request was answered: counts it, and logs what is a fault of ours.
pub(crate) fn answered(method: &'static str, took: Duration, error: Option<&RequestError>) {
    let status = error.map_or("ok", |error| error.failure().code.as_str());
    counter!("chat_auth_requests_total", "method" => method, "status" => status).increment(1);
    histogram!("chat_auth_duration_seconds", "method" => method).record(took);
    let Some(error) = error else { return };
    match error.failure().code {
        Code::RateLimited => counter!("chat_rate_limit_exceeded_total", "action_type" => method).increment(1),
        Code::Internal => {
            counter!("chat_errors_total", "type" => "identity_request", "severity" => "error").increment(1);
            tracing::error!(method, error = chain(error), "request failed");
        }
        Code::Unavailable => {
            counter!("chat_errors_total", "type" => "identity_request", "severity" => "warning").increment(1);
            tracing::warn!(method, error = chain(error), "request could not be served");
        }
        _ => {}
    }
}

/// An error and its causes in one line. Causes from PostgreSQL name the statement's fault, never its values: `DETAIL`,
/// which would, is no part of diesel's message.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
