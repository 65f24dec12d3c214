//! Where access tokens come from.

use std::{fmt, future::Future, time::Duration};

use entrenous_protocol::{Code, rest::Tokens};
use tokio::time::{Instant, timeout};

use crate::{Api, ApiError, Refusal};

/// How long one try may take. Two of them fit into the time in which a spent refresh token may be presented again.
const TRY_MAX: Duration = Duration::from_secs(4);
/// A spent refresh token is good again for so long, if its answer was lost; with a second to spare for the way.
///
/// Source: docs/protocol.md, section 2, `POST /api/v1/auth/refresh`: 10 s.
const REPEAT_WITHIN: Duration = Duration::from_secs(9);
/// Between two tries.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Why there is no new access token.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// Not now: the client asks again, with back-off.
    #[error("cannot renew the access token now")]
    NotNow {
        /// When asking again makes sense, where the server said so.
        retry_after: Option<Duration>,
    },
    /// The login has ended: the client ends too.
    #[error("the login has ended")]
    LoginEnded {
        /// What the server said.
        source: Box<Refusal>,
    },
}

/// Gives new access tokens for the same user and device.
pub trait TokenSource: Send + 'static {
    /// A new access token. The client calls it once at a time.
    ///
    /// # Errors
    /// When there is none now, or never will be.
    fn renew(&mut self) -> impl Future<Output = Result<String, RenewError>> + Send;
}

/// Exchanges refresh tokens by REST.
pub struct RefreshingTokens {
    api: Api,
    refresh_token: String,
    keep: Box<dyn FnMut(&Tokens) + Send>,
}

/// Prints the server, never the token.
impl fmt::Debug for RefreshingTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshingTokens").field("api", &self.api).finish_non_exhaustive()
    }
}

impl RefreshingTokens {
    /// Begins with this refresh token.
    pub fn new(api: Api, refresh_token: impl Into<String>) -> Self {
        Self { api, refresh_token: refresh_token.into(), keep: Box::new(|_| {}) }
    }

    /// Tells each new pair before it is used: a program that is to find its login again keeps the refresh token, for the
    /// one before is spent.
    #[must_use]
    pub fn keeping(self, keep: impl FnMut(&Tokens) + Send + 'static) -> Self {
        Self { keep: Box::new(keep), ..self }
    }
}

impl TokenSource for RefreshingTokens {
    /// A lost answer is asked for again while that is free of risk; presented later, the token would end the login if
    /// it was spent after all. Then there is nothing left to lose, so that the next call presents it all the same.
    async fn renew(&mut self) -> Result<String, RenewError> {
        let began = Instant::now();
        loop {
            let answer = timeout(TRY_MAX, self.api.refresh(&self.refresh_token)).await;
            let retry_after = match answer {
                Ok(Ok(tokens)) => {
                    (self.keep)(&tokens);
                    self.refresh_token = tokens.refresh_token;
                    return Ok(tokens.access_token);
                }
                Ok(Err(error)) => match error.into() {
                    RenewError::NotNow { retry_after } => retry_after,
                    ended @ RenewError::LoginEnded { .. } => return Err(ended),
                },
                Err(_) => None,
            };
            let wait = retry_after.unwrap_or(TRY_AGAIN_AFTER);
            if began.elapsed() + wait > REPEAT_WITHIN {
                return Err(RenewError::NotNow { retry_after });
            }
            tokio::time::sleep(wait).await;
        }
    }
}

impl From<ApiError> for RenewError {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Refused(refusal) if !refusal.is_outcome_unknown() && !refusal.is(Code::RateLimited) => {
                Self::LoginEnded { source: refusal }
            }
            error => Self::NotNow { retry_after: error.retry_after() },
        }
    }
}
