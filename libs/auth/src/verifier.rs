//! Checks access tokens.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use entrenous_model::{Clock, SystemClock};
use jsonwebtoken::Algorithm;
use serde_json::Value;

use crate::{
    Claims,
    claims::OutsideClaims,
    keys::{self, Key, KeysError, SecretError},
    verified::Verified,
};

/// How far the clocks of two machines may be apart, in seconds.
const LEEWAY_SECONDS: i64 = 5;
/// How long a token may live from now, in seconds: a day. A login that ended is remembered longer.
const LIFE_SECONDS_MAX: i64 = 24 * 3_600;
/// A token that is longer is none of ours.
const TOKEN_BYTES_MAX: usize = 4 * 1024;

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

/// Checks access tokens, against a set of public keys, which may be exchanged at any time, or a shared secret.
pub struct Verifier {
    issuer: String,
    audience: String,
    clock: Arc<dyn Clock>,
    trust: Trust,
}

/// Whose tokens are taken, and by what they are known.
enum Trust {
    /// Our own.
    Own(KeySet),
    /// Those of an outside issuer with public keys.
    Outside(KeySet),
    /// Those of whoever has the secret.
    Shared(Box<Trusted<Key>>),
}

/// What tokens are known by, and those that are known.
#[derive(Default)]
struct Trusted<K> {
    keys: K,
    verified: Verified,
}

impl<K> Trusted<K> {
    fn new(keys: K) -> Self {
        Self { keys, verified: Verified::default() }
    }
}

type KeySet = RwLock<Arc<Trusted<HashMap<String, Key>>>>;

/// What our own keys sign with.
const OWN_ALGORITHMS: &[Algorithm] = &[Algorithm::EdDSA];
/// What an outside issuer's public keys may sign with.
const OUTSIDE_ALGORITHMS: &[Algorithm] = &[Algorithm::EdDSA, Algorithm::ES256, Algorithm::RS256, Algorithm::PS256];

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

impl Verifier {
    /// Takes our own tokens, of this issuer for this audience. Has no keys yet: until [`Verifier::set_keys`] every token
    /// names an unknown key.
    pub fn new(issuer: String, audience: String) -> Self {
        Self::with_trust(issuer, audience, Trust::Own(KeySet::default()))
    }

    /// Takes tokens of an outside issuer, signed with `EdDSA`, ES256, RS256 or PS256. Has no keys yet, as [`Verifier::new`].
    pub fn outside(issuer: String, audience: String) -> Self {
        Self::with_trust(issuer, audience, Trust::Outside(KeySet::default()))
    }

    /// Takes tokens of an outside issuer that shares a secret with us, signed with HS256.
    ///
    /// # Errors
    /// When the secret is too short.
    pub fn shared_secret(issuer: String, audience: String, secret: &[u8]) -> Result<Self, SecretError> {
        Ok(Self::with_trust(issuer, audience, Trust::Shared(Box::new(Trusted::new(Key::shared(secret)?)))))
    }

    fn with_trust(issuer: String, audience: String, trust: Trust) -> Self {
        Self { issuer, audience, clock: Arc::new(SystemClock), trust }
    }

    /// The same with another clock.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Exchanges the keys. Keys of other kinds are left out. A shared secret needs none. Source: RFC 7517 5.
    ///
    /// # Errors
    /// When nothing usable is in the set; the old keys stay.
    pub fn set_keys(&self, jwks: &Value) -> Result<(), KeysError> {
        let Some(set) = self.trust.set() else {
            return Ok(());
        };
        let keys = keys::from_set(jwks, self.trust.algorithms())?;
        *set.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Trusted::new(keys));
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
        let claims = match &self.trust {
            Trust::Own(set) => {
                let trusted = current(set);
                trusted.verified.claims(token, || decode(token, find(&trusted.keys, self.key_id(token)?)?))
            }
            Trust::Outside(set) => {
                let trusted = current(set);
                trusted.verified.claims(token, || self.decode_outside(token, find(&trusted.keys, self.key_id(token)?)?))
            }
            Trust::Shared(trusted) => trusted.verified.claims(token, || {
                self.key_id(token)?;
                self.decode_outside(token, &trusted.keys)
            }),
        };
        self.check(claims?)
    }

    /// Which key a token names, if its header can be taken at all.
    fn key_id(&self, token: &str) -> Result<Option<String>, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_error| TokenError::Invalid)?;
        // `crit` names extensions that one must understand, and we understand none. Source: RFC 7515 4.1.11.
        if !self.trust.algorithms().contains(&header.alg) || header.crit.is_some() {
            return Err(TokenError::Invalid);
        }
        Ok(header.kid)
    }

    fn decode_outside(&self, token: &str, key: &Key) -> Result<Claims, TokenError> {
        let claims = decode::<OutsideClaims>(token, key)?;
        if claims.not_before().is_some_and(|from| from.saturating_sub(LEEWAY_SECONDS) > self.now()) {
            return Err(TokenError::Invalid);
        }
        claims.into_claims(&self.audience).ok_or(TokenError::Invalid)
    }

    fn check(&self, claims: Claims) -> Result<Claims, TokenError> {
        if claims.iss != self.issuer || claims.aud != self.audience {
            return Err(TokenError::Invalid);
        }
        let left = claims.exp.saturating_sub(self.now());
        if left > LIFE_SECONDS_MAX + LEEWAY_SECONDS {
            return Err(TokenError::Invalid);
        }
        if left <= -LEEWAY_SECONDS {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }

    fn now(&self) -> i64 {
        self.clock.now().unix_seconds()
    }
}

impl Trust {
    fn set(&self) -> Option<&KeySet> {
        match self {
            Self::Own(set) | Self::Outside(set) => Some(set),
            Self::Shared(_) => None,
        }
    }

    fn algorithms(&self) -> &'static [Algorithm] {
        match self {
            Self::Own(_) => OWN_ALGORITHMS,
            Self::Outside(_) => OUTSIDE_ALGORITHMS,
            Self::Shared(_) => &[Algorithm::HS256],
        }
    }
}

fn current(set: &KeySet) -> Arc<Trusted<HashMap<String, Key>>> {
    Arc::clone(&set.read().unwrap_or_else(PoisonError::into_inner))
}

fn find(keys: &HashMap<String, Key>, key_id: Option<String>) -> Result<&Key, TokenError> {
    let key_id = key_id.ok_or(TokenError::Invalid)?;
    keys.get(&key_id).ok_or(TokenError::UnknownKey)
}

fn decode<T: serde::de::DeserializeOwned>(token: &str, key: &Key) -> Result<T, TokenError> {
    let decoded = jsonwebtoken::decode::<T>(token, &key.decoding, &key.validation);
    decoded.map(|token| token.claims).map_err(|_error| TokenError::Invalid)
}

#[cfg(test)]
mod tests;
