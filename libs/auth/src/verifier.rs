//! Checks access tokens.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use entrenous_model::{Clock, SystemClock};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value;

use crate::Claims;

/// How far the clocks of two machines may be apart, in seconds.
const LEEWAY_SECONDS: i64 = 5;
/// A token that is longer is none of ours.
const TOKEN_BYTES_MAX: usize = 4 * 1024;
/// Length of an Ed25519 public key. Source: RFC 8032 5.1.5.
const PUBLIC_KEY_BYTES: usize = 32;

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It was good and its time is over.
    #[error("the token has expired")]
    Expired,
    /// It names a key that is not in the set: perhaps the set is old.
    #[error("the token names an unknown key")]
    UnknownKey,
    /// Anything else.
    #[error("the token is not valid")]
    Invalid,
}

/// Why a key set is refused; the old one stays in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// No `keys` in it.
    #[error("not a JSON Web Key Set")]
    NotASet,
    /// No Ed25519 key with a `kid` in it.
    #[error("no usable key in the set")]
    NoUsableKey,
}

type Keys = HashMap<String, DecodingKey>;

/// Checks access tokens against a set of public keys, which may be exchanged at any time.
pub struct Verifier {
    validation: Validation,
    issuer: String,
    audience: String,
    clock: Arc<dyn Clock>,
    keys: RwLock<Arc<Keys>>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

impl Verifier {
    /// Takes tokens of this issuer for this audience. Has no keys yet: until [`Verifier::set_keys`] every token names an
    /// unknown key.
    pub fn new(issuer: String, audience: String) -> Self {
        Self::with_clock(issuer, audience, Arc::new(SystemClock))
    }

    /// As [`Verifier::new`], with another clock.
    pub fn with_clock(issuer: String, audience: String, clock: Arc<dyn Clock>) -> Self {
        // Source: `Validation` of jsonwebtoken. Its defaults check less than one thinks (only `exp` is required, 60 s of
        // leeway), and times against the machine's clock only: times are checked here.
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        validation.set_audience(&[&audience]);
        validation.set_issuer(&[&issuer]);
        validation.validate_exp = false;
        Self { validation, issuer, audience, clock, keys: RwLock::default() }
    }

    /// Exchanges the keys. Keys of other kinds are left out. Source: RFC 7517 5.
    ///
    /// # Errors
    /// When nothing usable is in the set; the old keys stay.
    pub fn set_keys(&self, jwks: &Value) -> Result<(), KeysError> {
        let list = jwks.get("keys").and_then(Value::as_array).ok_or(KeysError::NotASet)?;
        let keys: Keys = list.iter().filter_map(usable_key).collect();
        if keys.is_empty() {
            return Err(KeysError::NoUsableKey);
        }
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(())
    }

    /// What a token says, if it is good.
    ///
    /// # Errors
    /// [`TokenError::Expired`] only for a token that is good otherwise.
    pub fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Invalid);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_error| TokenError::Invalid)?;
        // `crit` names extensions that one must understand, and we understand none. Source: RFC 7515 4.1.11.
        if header.alg != Algorithm::EdDSA || header.crit.is_some() {
            return Err(TokenError::Invalid);
        }
        let key_id = header.kid.ok_or(TokenError::Invalid)?;
        let keys = Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner));
        let key = keys.get(&key_id).ok_or(TokenError::UnknownKey)?;
        let claims =
            jsonwebtoken::decode::<Claims>(token, key, &self.validation).map_err(|_error| TokenError::Invalid)?.claims;
        self.check(claims)
    }

    fn check(&self, claims: Claims) -> Result<Claims, TokenError> {
        if claims.iss != self.issuer || claims.aud != self.audience {
            return Err(TokenError::Invalid);
        }
        if claims.exp.saturating_add(LEEWAY_SECONDS) <= self.clock.now().unix_seconds() {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }
}

/// The id and the key, if it is one that we can use. Source: RFC 8037 2.
fn usable_key(jwk: &Value) -> Option<(String, DecodingKey)> {
    let text = |member: &str| jwk.get(member).and_then(Value::as_str);
    let is_absent_or = |member: &str, wanted: &str| jwk.get(member).is_none_or(|value| value == wanted);
    if text("kty") != Some("OKP") || text("crv") != Some("Ed25519") {
        return None;
    }
    if !is_absent_or("use", "sig") || !is_absent_or("alg", "EdDSA") {
        return None;
    }
    let public_key = BASE64.decode(text("x")?).ok().filter(|key| key.len() == PUBLIC_KEY_BYTES)?;
    Some((text("kid")?.to_owned(), DecodingKey::from_ed_der(&public_key)))
}

#[cfg(test)]
mod tests;
