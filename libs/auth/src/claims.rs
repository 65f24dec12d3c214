//! What an access token says.

use aws_lc_rs::digest;
use entrenous_model::{DeviceId, LoginId, UserId};
use entrenous_protocol::rest::UserRole;
use serde::{Deserialize, Deserializer, Serialize};

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

/// The payload of an outside issuer's token: less is required, and some of it may stand in other forms.
/// Source: docs/outside-issuers.md; RFC 7519 4.1.
#[derive(Deserialize)]
pub(crate) struct OutsideClaims {
    sub: UserId,
    device_id: DeviceId,
    #[serde(default, deserialize_with = "present")]
    username: Option<String>,
    #[serde(default)]
    role: UserRole,
    iat: i64,
    exp: i64,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<i64>,
    iss: String,
    aud: Audience,
    sid: String,
}

/// One text, or a list of them. Source: RFC 7519 4.1.3.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// A claim that is there must have a value: `null` is none.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl OutsideClaims {
    /// From when on it is good, in Unix seconds, where it says so.
    pub(crate) fn not_before(&self) -> Option<i64> {
        self.nbf
    }

    /// As our own tokens say it; none where it is for somebody else or names no login.
    pub(crate) fn into_claims(self, audience: &str) -> Option<Claims> {
        let is_for_us = match &self.aud {
            Audience::One(one) => one == audience,
            Audience::Many(many) => many.iter().any(|one| one == audience),
        };
        if !is_for_us || self.sid.is_empty() {
            return None;
        }
        Some(Claims {
            sid: login_of(&self),
            username: self.username.unwrap_or_else(|| self.sub.as_uuid().simple().to_string()),
            sub: self.sub,
            device_id: self.device_id,
            role: self.role,
            iat: self.iat,
            exp: self.exp,
            iss: self.iss,
            aud: audience.to_owned(),
        })
    }
}

/// An issuer's `sid` is any text, and often the same for all the devices of a session: with user and device it is one
/// login of ours. UUIDv8. Source: RFC 9562 5.8; `OpenID` Connect Front-Channel Logout 1.0, 3.
fn login_of(claims: &OutsideClaims) -> LoginId {
    let mut hash = digest::Context::new(&digest::SHA256);
    for part in [claims.sub.as_bytes(), claims.device_id.as_bytes(), claims.sid.as_bytes()] {
        hash.update(part);
    }
    let mut bytes = [0_u8; 16];
    for (byte, hashed) in bytes.iter_mut().zip(hash.finish().as_ref()) {
        *byte = *hashed;
    }
    uuid::Builder::from_custom_bytes(bytes).into_uuid().into()
}
