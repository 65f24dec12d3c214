//! Why a request has no answer.

use entrenous_db::DbError;
use entrenous_protocol::{Code, Failure, rpc::presence::STATUSES_MAX};

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// More users than [`STATUSES_MAX`].
    #[error("{count} users in one request")]
    TooManyUsers {
        /// How many there were.
        count: usize,
    },
    /// The caller has given up.
    #[error("not done in time")]
    Late,
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] DbError),
}

impl RequestError {
    /// What the caller is told.
    pub(crate) fn failure(&self) -> Failure {
        match self {
            Self::TooManyUsers { .. } => Failure::invalid("user_ids", format!("must be at most {STATUSES_MAX}")),
            Self::Late => Failure::unavailable("presence is slow"),
            Self::Store(error) if error.is_transient() => Failure::unavailable("the database of presence is away"),
            Self::Store(_) => Failure::new(Code::Internal, ""),
        }
    }

    /// The `type` of `chat_errors_total`.
    pub(crate) fn metric_type(&self) -> &'static str {
        match self {
            Self::TooManyUsers { .. } => "invalid_request",
            Self::Late => "timeout",
            Self::Store(_) => "database",
        }
    }
}
