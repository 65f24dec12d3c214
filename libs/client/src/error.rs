//! What can go wrong: refusals by the server, connections that end, answers that cannot be understood.

use std::time::Duration;

use entrenous_protocol::{Code, FieldError};
use serde::Deserialize;
use serde_json::{Map, Value};

/// An error that the server told: a problem body of REST, or an `error` frame.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Refusal {
    /// The code as it stands on the wire; a newer server may have codes that this client does not know.
    pub code: String,
    /// HTTP status; none in an `error` frame.
    pub status: Option<u16>,
    /// A short text for people.
    pub title: String,
    /// For a developer.
    pub detail: String,
    /// Fields that do not validate.
    pub errors: Vec<FieldError>,
    /// When trying again makes sense.
    pub retry_after: Option<Duration>,
    /// Further members, such as `epoch`.
    pub extra: Map<String, Value>,
}

#[derive(Deserialize, Default)]
struct Members {
    #[serde(default)]
    code: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    errors: Vec<FieldError>,
    #[serde(default)]
    retry_after_ms: Option<u64>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

impl Refusal {
    /// Reads the payload of an `error` frame.
    ///
    /// # Errors
    /// When the text is no JSON object.
    pub fn from_frame(payload: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str::<Members>(payload).map(|members| Self::new(members, None))
    }

    /// Reads a problem body. One that is no problem body (a proxy's page) becomes a refusal without a code.
    pub fn from_problem(status: u16, body: &[u8], retry_after: Option<Duration>) -> Self {
        let members: Members = serde_json::from_slice(body).unwrap_or_default();
        let mut refusal = Self::new(members, Some(status));
        refusal.retry_after = retry_after.or(refusal.retry_after);
        refusal
    }

    fn new(members: Members, status: Option<u16>) -> Self {
        Self {
            code: members.code,
            status,
            title: members.title,
            detail: members.detail,
            errors: members.errors,
            retry_after: members.retry_after_ms.map(Duration::from_millis),
            extra: members.extra,
        }
    }

    /// Whether this is the code.
    pub fn is(&self, code: Code) -> bool {
        self.code == code.as_str()
    }

    /// Whether what was asked may have happened all the same, or never came (408: the line was too slow; RFC 9110, 15.5.9):
    /// repeat it with the same id.
    pub fn is_outcome_unknown(&self) -> bool {
        let is_no_verdict = |status: u16| status >= 500 || status == 408;
        self.is(Code::Unavailable) || self.is(Code::Internal) || self.status.is_some_and(is_no_verdict)
    }
}

/// A REST call that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The server said no.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// No answer came; the call may have had its effect.
    #[error("no answer from the server")]
    Transport {
        /// Why.
        #[from]
        source: reqwest::Error,
    },
    /// An answer came that is not what the protocol says.
    #[error("the answer with status {status} is not what the protocol says")]
    Unexpected {
        /// The answer's status.
        status: u16,
        /// Why it cannot be read.
        source: serde_json::Error,
    },
}

impl ApiError {
    /// What the server said, where it said something.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Transport { .. } | Self::Unexpected { .. } => None,
        }
    }

    /// The code of the protocol, where the server said one.
    pub fn code(&self) -> Option<&str> {
        self.refusal().map(|refusal| refusal.code.as_str())
    }

    /// The HTTP status, where an answer came.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(refusal) => refusal.status,
            Self::Transport { .. } => None,
            Self::Unexpected { status, .. } => Some(*status),
        }
    }

    /// When trying again makes sense, where the server said so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.refusal().and_then(|refusal| refusal.retry_after)
    }

    /// Whether the server refused with this code.
    pub fn is(&self, code: Code) -> bool {
        self.refusal().is_some_and(|refusal| refusal.is(code))
    }

    /// Whether the call may have had its effect: repeat it with the same id.
    pub fn is_outcome_unknown(&self) -> bool {
        self.refusal().is_none_or(Refusal::is_outcome_unknown)
    }
}

/// A connection that has ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the connection ended ({}): {reason}", code.map_or_else(|| "no close code".to_owned(), |code| code.to_string()))]
pub struct ClosedError {
    /// The close code; none where the connection broke off without one.
    pub code: Option<u16>,
    /// The reason sent along, or what broke.
    pub reason: String,
}

/// A connection that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is not one of a server.
    #[error("the address of the server is not usable: {address}")]
    Address {
        /// The address as given.
        address: String,
    },
    /// No WebSocket came about in time.
    #[error("no connection within {} s", after.as_secs())]
    TimedOut {
        /// How long was waited.
        after: Duration,
    },
    /// The server answered the upgrade with a plain HTTP status.
    #[error("the server answered the upgrade with status {status}")]
    Upgrade {
        /// Which.
        status: u16,
        /// When trying again makes sense, where the server said so.
        retry_after: Option<Duration>,
    },
    /// Network, TLS or handshake.
    #[error("cannot open a connection")]
    Transport {
        /// Why.
        source: Box<tokio_tungstenite::tungstenite::Error>,
    },
    /// The connection was opened, and closed before the server said `connected`.
    #[error(transparent)]
    Closed(#[from] ClosedError),
}

impl ConnectError {
    /// Whether another attempt at the same address may succeed.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Address { .. } => false,
            // 408, 425, 429 and what the server or a proxy before it cannot do now. Source: RFC 9110 15.5, 15.6.
            Self::Upgrade { status, .. } => matches!(status, 408 | 425 | 429 | 500..),
            Self::TimedOut { .. } | Self::Transport { .. } => true,
            Self::Closed(end) => crate::Verdict::of(end.code) != crate::Verdict::StayAway,
        }
    }

    /// When trying again makes sense, where the server said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Upgrade { retry_after, .. } => *retry_after,
            Self::Address { .. } | Self::TimedOut { .. } | Self::Transport { .. } | Self::Closed(_) => None,
        }
    }
}

/// A frame that was not answered as hoped.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// The server said no.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// The connection ended before an answer came; what was asked may have happened.
    #[error(transparent)]
    Closed(#[from] ClosedError),
    /// No answer came in time; what was asked may have happened.
    #[error("no answer within {} s", after.as_secs())]
    TimedOut {
        /// How long was waited.
        after: Duration,
    },
    /// The answer is one for another kind of frame.
    #[error("the answer does not fit the frame")]
    Unexpected,
}

impl RequestError {
    /// Whether the server refused with this code.
    pub fn is(&self, code: Code) -> bool {
        self.refusal().is_some_and(|refusal| refusal.is(code))
    }

    /// What the server said, where it said something.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Closed(_) | Self::TimedOut { .. } | Self::Unexpected => None,
        }
    }

    /// Whether what was asked may have happened: repeat it with the same id.
    pub fn is_outcome_unknown(&self) -> bool {
        self.refusal().is_none_or(Refusal::is_outcome_unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_body_is_read_with_its_further_members() {
        let body = br#"{"type":"about:blank","title":"t","status":409,"detail":"d","code":"epoch_conflict","epoch":7}"#;
        let refusal = Refusal::from_problem(409, body, None);
        assert!(refusal.is(Code::EpochConflict));
        assert_eq!(refusal.extra["epoch"], 7);
        assert!(!refusal.is_outcome_unknown());
    }

    #[test]
    fn a_request_that_came_too_slowly_is_repeated() {
        assert!(Refusal::from_problem(408, b"", None).is_outcome_unknown());
        assert!(!Refusal::from_problem(404, b"", None).is_outcome_unknown());
    }

    #[test]
    fn a_proxys_page_is_no_verdict_on_the_send() {
        let refusal = Refusal::from_problem(502, b"<html>", Some(Duration::from_secs(3)));
        assert_eq!((refusal.code.as_str(), refusal.retry_after), ("", Some(Duration::from_secs(3))));
        assert!(refusal.is_outcome_unknown());
    }
}
