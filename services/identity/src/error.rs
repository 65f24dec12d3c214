//! Why a request has no answer.

use std::time::Duration;

use entrenous_db::DbError;
use entrenous_protocol::{Code, Failure, FieldError, rpc::identity::PEOPLE_MAX};

use crate::{domain::secrets::SecretsError, passwords::PasswordError};

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// Fields that do not validate.
    #[error("{} fields do not validate", .0.len())]
    Invalid(Vec<FieldError>),
    /// Somebody has that name.
    #[error("the name is taken")]
    NameTaken,
    /// Wrong name or password; which of them, nobody is told.
    #[error("wrong name or password")]
    WrongCredentials,
    /// The current password is wrong.
    #[error("the current password is wrong")]
    WrongCurrentPassword,
    /// Too many wrong passwords.
    #[error("too many wrong passwords")]
    TooManyFailures {
        /// When there may be another try.
        retry_after: Duration,
    },
    /// The account is suspended.
    #[error("the account is suspended")]
    Suspended,
    /// No such user, or no such device of this user.
    #[error("no such thing")]
    NotFound,
    /// The user has as many devices as allowed.
    #[error("too many devices")]
    TooManyDevices {
        /// How many are allowed.
        limit: u32,
    },
    /// The user has as many people on a list as allowed.
    #[error("too many {list}")]
    TooManyPeople {
        /// What the list is called where its limit is named.
        list: &'static str,
    },
    /// The change is made, and the message store does not know of it yet, as far as is known.
    #[error("the message store was not told")]
    Untold(#[source] Failure),
    /// The refresh token is not good, or its login has ended.
    #[error("the login is not good")]
    NotLoggedIn,
    /// A spent refresh token came again.
    #[error("a spent refresh token came again")]
    RefreshTokenReused,
    /// Too many tries for one account and address are under way.
    #[error("too many tries at once")]
    TooManyAtOnce,
    /// The caller has given up.
    #[error("not done in time")]
    Late,
    /// There is no key to sign with yet.
    #[error("no signing key")]
    NoSigningKey,
    /// The password could not be hashed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// No refresh token could be made.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] DbError),
}

impl RequestError {
    /// What the caller is told.
    pub(crate) fn failure(&self) -> Failure {
        match self {
            Self::Invalid(errors) => errors.iter().fold(Failure::new(Code::Invalid, ""), |failure, error| {
                failure.with_error(&error.field, error.message.clone())
            }),
            Self::NameTaken => Failure::new(Code::Conflict, "the username is taken"),
            Self::WrongCredentials => Failure::new(Code::Unauthenticated, "wrong username or password"),
            Self::WrongCurrentPassword => Failure::new(Code::Forbidden, "the current password is wrong"),
            Self::TooManyFailures { retry_after } => {
                let retry_after_ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX).max(1);
                Failure::new(Code::RateLimited, "too many failed logins").with_retry_after_ms(retry_after_ms)
            }
            Self::Suspended => Failure::new(Code::Forbidden, "the account is suspended"),
            Self::NotFound => Failure::not_found(),
            Self::TooManyDevices { limit } => {
                Failure::new(Code::TooLarge, format!("devices_per_user: at most {limit} devices"))
            }
            Self::TooManyPeople { list } => {
                Failure::new(Code::TooLarge, format!("{list}: at most {PEOPLE_MAX} people"))
            }
            Self::Untold(_) => Failure::unavailable("the message store does not answer"),
            Self::NotLoggedIn => Failure::new(Code::Unauthenticated, "the login has ended or never was"),
            Self::RefreshTokenReused => {
                Failure::new(Code::RefreshTokenReused, "the refresh token was spent before; the login has ended")
            }
            Self::TooManyAtOnce | Self::Late | Self::NoSigningKey | Self::Password(PasswordError::Busy) => {
                Failure::unavailable("the identity service is busy")
            }
            Self::Store(error) if error.is_transient() => Failure::unavailable("the identity database is away"),
            Self::Store(_) | Self::Secrets(_) | Self::Password(PasswordError::Hash(_) | PasswordError::Task(_)) => {
                Failure::internal()
            }
        }
    }
}
