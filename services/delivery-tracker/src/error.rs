//! Why a request has no answer.

use entrenous_db::DbError;
use entrenous_protocol::{Code, Failure, rpc::tracker::CURSORS_MAX};

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// More cursors than [`CURSORS_MAX`].
    #[error("{count} cursors in one request")]
    TooManyCursors {
        /// How many there were.
        count: usize,
    },
    /// A seq that no log can have.
    #[error("a cursor beyond every log")]
    SeqOutOfRange,
    /// The caller has given up; the outcome is not known.
    #[error("not done in time")]
    Late,
    /// More devices or messages than one request may name, or one named twice.
    #[error("not a batch of device messages")]
    NotABatch,
    /// Nothing was queued.
    #[error("{0}")]
    Refused(Failure),
    /// The message store did not say whom receipts concern.
    #[error("the message store: {0}")]
    Authors(#[from] Failure),
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] DbError),
    /// The task that did the work was lost.
    #[error("the work was lost")]
    Lost(#[from] tokio::task::JoinError),
}

impl RequestError {
    /// What the caller is told.
    pub(crate) fn failure(&self) -> Failure {
        match self {
            Self::TooManyCursors { .. } => Failure::invalid("cursors", format!("must be at most {CURSORS_MAX}")),
            Self::SeqOutOfRange => Failure::invalid("delivered_seq", format!("must be at most {}", i64::MAX)),
            Self::NotABatch => Failure::invalid("messages", "too many, or the same id twice for one device"),
            Self::Late => Failure::unavailable("the delivery tracker is slow"),
            Self::Refused(failure) | Self::Authors(failure) => failure.clone(),
            Self::Store(error) if error.is_transient() => {
                Failure::unavailable("the delivery tracker's database is away")
            }
            Self::Store(_) | Self::Lost(_) => Failure::new(Code::Internal, ""),
        }
    }

    /// The `type` of `chat_errors_total`.
    pub(crate) fn metric_type(&self) -> &'static str {
        match self {
            Self::TooManyCursors { .. } | Self::SeqOutOfRange | Self::NotABatch => "invalid_request",
            Self::Refused(_) => "refused",
            Self::Late => "timeout",
            Self::Authors(_) => "message_store",
            Self::Store(_) => "database",
            Self::Lost(_) => "task_lost",
        }
    }
}
