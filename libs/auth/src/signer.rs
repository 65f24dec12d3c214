//! Makes access tokens.

use std::fmt;

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde_json::{Value, json};

use crate::Claims;

/// A private key that cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum SignKeyError {
    /// The machine gives no randomness.
    #[error("no key can be generated")]
    Generate,
    /// The bytes are no Ed25519 key in PKCS#8.
    #[error("not an Ed25519 key in PKCS#8")]
    Parse,
}

/// An Ed25519 key that signs access tokens. Source: RFC 8037 3.1.
pub struct Signer {
    key: Ed25519KeyPair,
    key_id: String,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl Signer {
    /// A new key, and its private half as PKCS#8 for safe keeping.
    ///
    /// # Errors
    /// [`SignKeyError::Generate`] when the machine gives no randomness.
    pub fn generate() -> Result<(Self, Vec<u8>), SignKeyError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_error| SignKeyError::Generate)?;
        Ok((Self::from_pkcs8(document.as_ref())?, document.as_ref().to_vec()))
    }

    /// A key from its private half.
    ///
    /// # Errors
    /// [`SignKeyError::Parse`].
    pub fn from_pkcs8(private_key: &[u8]) -> Result<Self, SignKeyError> {
        let key = Ed25519KeyPair::from_pkcs8(private_key).map_err(|_error| SignKeyError::Parse)?;
        let key_id = thumbprint(key.public_key().as_ref());
        Ok(Self { key, key_id })
    }

    /// The `kid`: the RFC 7638 thumbprint of the public half.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The public half, 32 bytes.
    pub fn public_key(&self) -> &[u8] {
        self.key.public_key().as_ref()
    }

    /// A signed access token: JWS compact serialisation. Source: RFC 7515 7.1.
    pub fn issue(&self, claims: &Claims) -> String {
        let header = json!({"typ": "JWT", "alg": "EdDSA", "kid": self.key_id}).to_string();
        // Written out because this, unlike serialising a struct, cannot fail.
        let payload = json!({
            "sub": claims.sub,
            "device_id": claims.device_id,
            "username": claims.username,
            "role": claims.role,
            "iat": claims.iat,
            "exp": claims.exp,
            "iss": claims.iss,
            "aud": claims.aud,
            "sid": claims.sid,
        })
        .to_string();
        let message = format!("{}.{}", BASE64.encode(header), BASE64.encode(payload));
        let signature = BASE64.encode(self.key.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }

    /// The public half as a JSON Web Key. Source: RFC 8037 2.
    pub fn jwk(&self) -> Value {
        Self::jwk_of(self.public_key())
    }

    /// The JSON Web Key of any Ed25519 public key.
    pub fn jwk_of(public_key: &[u8]) -> Value {
        json!({
            "kty": "OKP",
            "crv": "Ed25519",
            "use": "sig",
            "alg": "EdDSA",
            "kid": thumbprint(public_key),
            "x": BASE64.encode(public_key),
        })
    }
}

/// Source: RFC 7638 3; the members of an OKP key in RFC 8037 2.
fn thumbprint(public_key: &[u8]) -> String {
    let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, BASE64.encode(public_key));
    BASE64.encode(digest::digest(&digest::SHA256, members.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thumbprint_is_that_of_rfc_8037() {
        let public_key = BASE64.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        assert_eq!(thumbprint(&public_key), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn a_kept_key_is_the_same_key() {
        let (signer, private_key) = Signer::generate().unwrap();
        let again = Signer::from_pkcs8(&private_key).unwrap();
        assert_eq!((again.key_id(), again.jwk()), (signer.key_id(), signer.jwk()));
        assert!(matches!(Signer::from_pkcs8(b"no key"), Err(SignKeyError::Parse)));
    }

    #[test]
    fn debug_shows_no_key() {
        let (signer, _) = Signer::generate().unwrap();
        assert_eq!(format!("{signer:?}"), format!("Signer {{ key_id: {:?}, .. }}", signer.key_id()));
    }
}
