//! What is derived from, and sealed with, the service's one secret.

use std::{fmt, net::IpAddr};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    digest, hmac, rand,
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use entrenous_config::Secret;

const KEY_BYTES: usize = 32;
/// Random bytes of a login's first refresh token.
const REFRESH_TOKEN_BYTES: usize = 32;

/// Something cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretsError {
    /// The machine gives no randomness.
    #[error("no randomness")]
    NoRandomness,
    /// It was sealed under another secret, or changed.
    #[error("IDENTITY_KEY_ENCRYPTION_KEY does not open what was sealed with it")]
    NotOurs,
}

/// The secret and the keys derived from it.
pub(crate) struct Secrets {
    seal: RandomizedNonceKey,
    successors: hmac::Key,
    attempts: hmac::Key,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

impl Secrets {
    /// Reads the setting; `None` if it is not 32 bytes in base64.
    pub(crate) fn parse(setting: &Secret) -> Option<Self> {
        let key = STANDARD.decode(setting.expose()).ok().filter(|key| key.len() == KEY_BYTES)?;
        let seal = RandomizedNonceKey::new(&AES_256_GCM, &key).ok()?;
        let root = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let derive = |purpose: &str| hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, purpose.as_bytes()).as_ref());
        Some(Self {
            seal,
            successors: derive("entrenous.identity.refresh-successor.v1"),
            attempts: derive("entrenous.identity.attempt-key.v1"),
        })
    }

    /// Nonce, ciphertext and tag; opens only under the same name.
    pub(crate) fn seal(&self, name: &str, plain: &[u8]) -> Result<Vec<u8>, SecretsError> {
        let mut sealed = plain.to_vec();
        let nonce = self
            .seal
            .seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut sealed)
            .map_err(|_error| SecretsError::NoRandomness)?;
        Ok([nonce.as_ref().as_slice(), &sealed].concat())
    }

    /// What was sealed.
    pub(crate) fn open(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, SecretsError> {
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(SecretsError::NotOurs)?;
        let mut plain = ciphertext.to_vec();
        let opened = self
            .seal
            .open_in_place(Nonce::from(nonce), Aad::from(name.as_bytes()), &mut plain)
            .map_err(|_error| SecretsError::NotOurs)?;
        Ok(opened.to_vec())
    }

    /// The one refresh token that follows on another: so that an answer that was lost can be given again, though only
    /// hashes are kept.
    pub(crate) fn successor(&self, refresh_token: &str) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.successors, refresh_token.as_bytes()))
    }

    /// Under what tries for an account from an address are counted. The database does not learn the address.
    pub(crate) fn attempt_key(&self, username: &str, address: &str) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.attempts);
        context.update(network_of(address).as_bytes());
        context.update(b"\0");
        context.update(username.as_bytes());
        let mut key = [0; 32];
        key.copy_from_slice(context.sign().as_ref());
        key
    }
}

/// A login's first refresh token.
pub(crate) fn random_refresh_token() -> Result<String, SecretsError> {
    let mut bytes = [0; REFRESH_TOKEN_BYTES];
    rand::fill(&mut bytes).map_err(|_error| SecretsError::NoRandomness)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// What is kept of a refresh token.
pub(crate) fn hash(refresh_token: &str) -> Vec<u8> {
    digest::digest(&digest::SHA256, refresh_token.as_bytes()).as_ref().to_vec()
}

/// The address, and of IPv6 the first 64 bits: one subscriber has all the others. Source: RFC 6177 2.
fn network_of(address: &str) -> String {
    match address.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        Ok(address) => address.to_string(),
        Err(_) => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(byte: u8) -> Secrets {
        Secrets::parse(&Secret::new(STANDARD.encode([byte; 32]))).unwrap()
    }

    #[test]
    fn opens_only_what_it_sealed_and_under_the_same_name() {
        let sealed = secrets(1).seal("a", b"plain").unwrap();
        assert!(!sealed.windows(5).any(|part| part == b"plain"));
        assert_eq!(secrets(1).open("a", &sealed).unwrap(), b"plain");
        assert!(secrets(1).open("b", &sealed).is_err());
        assert!(secrets(2).open("a", &sealed).is_err());
        assert!(secrets(1).open("a", sealed.get(1..).unwrap()).is_err());
        assert!(secrets(1).open("a", b"").is_err());
        assert_ne!(secrets(1).seal("a", b"plain").unwrap(), sealed);
    }

    #[test]
    fn a_successor_depends_on_the_token_and_the_secret() {
        let token = random_refresh_token().unwrap();
        let successor = secrets(1).successor(&token);
        assert_eq!(secrets(1).successor(&token), successor);
        assert_ne!(secrets(2).successor(&token), successor);
        assert_ne!(secrets(1).successor(&successor), successor);
        assert_ne!(random_refresh_token().unwrap(), token);
    }

    #[test]
    fn tries_are_counted_by_account_and_network() {
        let key = |username: &str, address: &str| secrets(1).attempt_key(username, address);
        assert_eq!(key("alice", "10.0.0.1"), key("alice", "::ffff:10.0.0.1"));
        assert_ne!(key("alice", "10.0.0.1"), key("alice", "10.0.0.2"));
        assert_ne!(key("alice", "10.0.0.1"), key("bob", "10.0.0.1"));
        assert_eq!(key("alice", "2001:db8::1"), key("alice", "2001:db8::ffff"));
        assert_ne!(key("alice", "2001:db8::1"), key("alice", "2001:db8:0:1::1"));
        assert_ne!(key("alice", ""), key("alice", "unknown"));
    }
}
