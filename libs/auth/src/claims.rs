//! What an access token says.

use entrenous_model::{DeviceId, LoginId, UserId};
use entrenous_protocol::rest::UserRole;
use serde::{Deserialize, Serialize};

/// The payload of an access token. Every field is required. Source: docs/protocol.md, section 2; RFC 7519 4.1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The user.
    pub sub: UserId,
    /// The device that the login is on.
    pub device_id: DeviceId,
    /// The user's name when the token was made.
    pub username: String,
    /// What the account may do.
    pub role: UserRole,
    /// When it was made, in Unix seconds.
    pub iat: i64,
    /// When it ends, in Unix seconds.
    pub exp: i64,
    /// Who made it.
    pub iss: String,
    /// Whom it is for.
    pub aud: String,
    /// The login that it belongs to.
    pub sid: LoginId,
}
