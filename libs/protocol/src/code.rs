//! The codes of errors and of closed connections. The same table stands in docs/protocol.md.

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal, $title:literal;)*) => {
        /// What went wrong, the same on REST, WebSocket and between services.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {$(
            $(#[$doc])*
            $name,
        )*}

        impl Code {
            /// All of them.
            pub const ALL: &'static [Code] = &[$(Code::$name),*];

            /// The code as it stands on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {$(Self::$name => $text,)*}
            }

            /// The HTTP status that goes with it. Source: RFC 9110 15.
            pub const fn status(self) -> u16 {
                match self {$(Self::$name => $status,)*}
            }

            /// A short text for people, the same for every error of this code. Source: RFC 9457 3.1.3.
            pub const fn title(self) -> &'static str {
                match self {$(Self::$name => $title,)*}
            }
        }
    };
}

codes! {
    /// The body or frame is no JSON.
    Malformed = "invalid_request", 400, "The request is malformed";
    /// Well-formed, but a value is not allowed.
    Invalid = "invalid_request", 422, "The request is not valid";
    /// No token, or one that is not good.
    Unauthenticated = "unauthenticated", 401, "Authentication is needed";
    /// The access token has ended.
    TokenExpired = "token_expired", 401, "The access token has expired";
    /// A spent refresh token came again: the login has ended.
    RefreshTokenReused = "refresh_token_reused", 401, "The refresh token was used before";
    /// Not allowed to this caller.
    Forbidden = "forbidden", 403, "Not allowed";
    /// The path exists, the method does not.
    MethodNotAllowed = "method_not_allowed", 405, "The method is not allowed here";
    /// Does not exist, or is not for this caller to know.
    NotFound = "not_found", 404, "Not found";
    /// Clashes with what is there.
    Conflict = "conflict", 409, "Conflicts with the present state";
    /// The id was used for other content.
    IdConflict = "id_conflict", 409, "The id was used before with other content";
    /// The group's epoch is another one.
    EpochConflict = "epoch_conflict", 409, "The epoch is another one";
    /// The list of devices is not the present one.
    DevicesMismatch = "devices_mismatch", 409, "The list of devices is not the present one";
    /// Over a limit.
    TooLarge = "too_large", 413, "Over a limit";
    /// The media type is not understood.
    UnsupportedType = "unsupported_type", 415, "The media type is not supported";
    /// The frame type is not known.
    UnknownType = "unknown_type", 400, "The frame type is not known";
    /// Too often.
    RateLimited = "rate_limited", 429, "Too many attempts";
    /// A fault of the server's.
    Internal = "internal", 500, "Internal error";
    /// A part of the server is down or overloaded; outcome unknown, repeat with the same id.
    Unavailable = "unavailable", 503, "Temporarily unavailable";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why the server closes a WebSocket connection. 1001, 1012 and 4400–4499 mean *come back*, the others *do not*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// The client closed, or left.
    Normal,
    /// The server stops.
    GoingAway,
    /// A binary frame came.
    Unsupported,
    /// A text frame was not UTF-8.
    InvalidText,
    /// Breaks RFC 6455 in another way.
    ProtocolError,
    /// A frame was larger than allowed.
    TooLarge,
    /// The server restarts.
    Restart,
    /// The connection's queue was full.
    TooSlow,
    /// The access token has ended.
    TokenExpired,
    /// Too many frames, or too many sends awaiting their ack.
    TooManyFrames,
    /// The server cannot say what this connection has missed.
    ContinuityLost,
    /// The token is not good.
    TokenInvalid,
    /// No `authenticate` in time.
    NotAuthenticated,
    /// The login ended or the device was removed.
    LoginEnded,
    /// A newer connection of the device took over.
    Replaced,
}

impl CloseCode {
    /// The number on the wire. Source: RFC 6455 7.4; docs/protocol.md, section 3.
    pub const fn number(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::GoingAway => 1001,
            Self::ProtocolError => 1002,
            Self::Unsupported => 1003,
            Self::InvalidText => 1007,
            Self::TooLarge => 1009,
            Self::Restart => 1012,
            Self::TooSlow => 4400,
            Self::TokenExpired => 4401,
            Self::TooManyFrames => 4408,
            Self::ContinuityLost => 4413,
            Self::TokenInvalid => 4500,
            Self::NotAuthenticated => 4501,
            Self::LoginEnded => 4503,
            Self::Replaced => 4509,
        }
    }

    /// The reason sent along, under 124 bytes. Source: RFC 6455 5.5.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Normal => "",
            Self::GoingAway => "server stops",
            Self::ProtocolError => "protocol error",
            Self::Unsupported => "binary frames are not supported",
            Self::InvalidText => "not UTF-8",
            Self::TooLarge => "frame too large",
            Self::Restart => "server restarts",
            Self::TooSlow => "too slow: reconnect and sync",
            Self::TokenExpired => "token expired",
            Self::TooManyFrames => "too many frames",
            Self::ContinuityLost => "continuity lost",
            Self::TokenInvalid => "token not valid",
            Self::NotAuthenticated => "not authenticated in time",
            Self::LoginEnded => "login ended",
            Self::Replaced => "replaced by a newer connection",
        }
    }

    /// Whether a client that sees this number should come back by itself, with back-off and jitter.
    pub const fn invites_back(number: u16) -> bool {
        !matches!(number, 1000 | 1002 | 1003 | 1007 | 1008 | 1009 | 4500..=4599)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_fit_a_close_frame() {
        for code in [CloseCode::TooSlow, CloseCode::Replaced, CloseCode::Unsupported, CloseCode::NotAuthenticated] {
            assert!(code.reason().len() < 124);
        }
    }
}
