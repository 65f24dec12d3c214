//! Why a request has no answer.

use entrenous_db::DbError;
use entrenous_protocol::Failure;

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The caller's fault, or the state's; ready to be shown.
    #[error(transparent)]
    Refused(#[from] Failure),
    /// The caller has given up; the outcome is not known.
    #[error("not done in time")]
    Late,
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] DbError),
    /// The task that did the work was lost.
    #[error("the work was lost")]
    Lost(#[from] tokio::task::JoinError),
}

impl From<diesel::result::Error> for RequestError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Store(DbError::Query(error))
    }
}

impl RequestError {
    /// What the caller is told.
    pub(crate) fn failure(self) -> Failure {
        match self {
            Self::Refused(failure) => failure,
            Self::Late => Failure::unavailable("the message store is slow"),
            Self::Store(error) if is_away(&error) => Failure::unavailable("the message store's database is away"),
            Self::Store(_) | Self::Lost(_) => Failure::internal(),
        }
    }

    /// The `type` of `chat_errors_total`; none for what is the caller's affair.
    pub(crate) fn metric_type(&self) -> Option<&'static str> {
        match self {
            Self::Refused(_) => None,
            Self::Late => Some("timeout"),
            Self::Store(_) => Some("database"),
            Self::Lost(_) => Some("lost"),
        }
    }
}

/// Whether the database, and not the statement, is at fault: the same may succeed later, and may have succeeded now.
pub(crate) fn is_away(error: &DbError) -> bool {
    if error.is_transient() {
        return true;
    }
    match error {
        DbError::Query(diesel::result::Error::DatabaseError(kind, info)) => {
            matches!(kind, diesel::result::DatabaseErrorKind::ReadOnlyTransaction)
                || ["could not", "No space left", "out of memory", "out of shared memory", "too many", "canceling"]
                    .iter()
                    .any(|part| info.message().contains(part))
        }
        DbError::Query(diesel::result::Error::BrokenTransactionManager) => true,
        _ => false,
    }
}

/// Whether the moment after which a caller no longer wants it had passed (EN001): nothing was written.
pub(crate) fn is_late(error: &diesel::result::Error) -> bool {
    matches!(error, diesel::result::Error::DatabaseError(_, info) if info.message() == "the deadline has passed")
}
