//! Keys that tokens are checked with. Each is good for the algorithms of its kind and for no other: what a token says of
//! itself decides nothing. Source: RFC 8725 3.1.

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value;

/// Bytes of a shared secret, at least: those of the hash. Source: RFC 7518 3.2.
pub const SECRET_BYTES_MIN: usize = 32;
/// Length of an Ed25519 public key. Source: RFC 8032 5.1.5.
const ED25519_BYTES: usize = 32;
/// Length of a coordinate on P-256. Source: RFC 7518 6.2.1.2.
const P256_BYTES: usize = 32;
/// Length of an RSA modulus: 2048 to 8192 bits. Source: RFC 7518 3.3; what aws-lc-rs takes.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1_024;
/// Keys of a set that are looked at.
const KEYS_MAX: usize = 100;

/// Why a key set is refused; the old one stays in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// No `keys` in it.
    #[error("not a JSON Web Key Set")]
    NotASet,
    /// No public key with a `kid` in it that we can use.
    #[error("no usable key in the set")]
    NoUsableKey,
}

/// A shared secret that is too short to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be at least {SECRET_BYTES_MIN} bytes")]
pub struct SecretError;

/// A key and what it is good for.
pub(crate) struct Key {
    pub(crate) decoding: DecodingKey,
    pub(crate) validation: Validation,
}

impl Key {
    fn new(decoding: DecodingKey, algorithms: &[Algorithm]) -> Self {
        // Source: `Validation` of jsonwebtoken. Its defaults check less than one thinks (only `exp` is required, 60 s of
        // leeway), and times against the machine's clock only: the verifier checks what a token says.
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.algorithms = algorithms.to_vec();
        validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        validation.validate_exp = false;
        validation.validate_aud = false;
        Self { decoding, validation }
    }

    /// A secret that the issuer and we share.
    pub(crate) fn shared(secret: &[u8]) -> Result<Self, SecretError> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(SecretError);
        }
        Ok(Self::new(DecodingKey::from_secret(secret), &[Algorithm::HS256]))
    }
}

/// The usable keys of a JSON Web Key Set, by `kid`. Others are left out. Source: RFC 7517 5.
pub(crate) fn from_set(jwks: &Value, wanted: &[Algorithm]) -> Result<HashMap<String, Key>, KeysError> {
    let list = jwks.get("keys").and_then(Value::as_array).ok_or(KeysError::NotASet)?;
    let keys: HashMap<String, Key> = list.iter().take(KEYS_MAX).filter_map(|jwk| from_jwk(jwk, wanted)).collect();
    if keys.is_empty() { Err(KeysError::NoUsableKey) } else { Ok(keys) }
}

/// The id and the key, if it is one that we can use. A symmetric key (`oct`) never is: a set is public.
fn from_jwk(jwk: &Value, wanted: &[Algorithm]) -> Option<(String, Key)> {
    let text = |member: &str| jwk.get(member).and_then(Value::as_str);
    if jwk.get("use").is_some_and(|usage| usage != "sig") {
        return None;
    }
    let is_to_verify = |operations: &Vec<Value>| operations.iter().any(|operation| operation == "verify");
    if jwk.get("key_ops").is_some_and(|operations| !operations.as_array().is_some_and(is_to_verify)) {
        return None;
    }
    let (decoding, possible) = public_key(jwk)?;
    let named = jwk.get("alg");
    let is_good = |algorithm: &Algorithm| {
        wanted.contains(algorithm) && named.is_none_or(|named| named == format!("{algorithm:?}").as_str())
    };
    let algorithms: Vec<Algorithm> = possible.iter().copied().filter(is_good).collect();
    (!algorithms.is_empty()).then_some(())?;
    Some((text("kid")?.to_owned(), Key::new(decoding, &algorithms)))
}

/// The key and the algorithms of its kind. Source: RFC 7518 6; RFC 8037 2.
fn public_key(jwk: &Value) -> Option<(DecodingKey, &'static [Algorithm])> {
    let text = |member: &str| jwk.get(member).and_then(Value::as_str);
    let bytes = |member: &str| BASE64.decode(text(member)?).ok();
    match (text("kty")?, text("crv")) {
        ("OKP", Some("Ed25519")) => {
            let public_key = bytes("x").filter(|key| key.len() == ED25519_BYTES)?;
            Some((DecodingKey::from_ed_der(&public_key), &[Algorithm::EdDSA]))
        }
        ("EC", Some("P-256")) => {
            let is_coordinate = |member| bytes(member).is_some_and(|bytes| bytes.len() == P256_BYTES);
            (is_coordinate("x") && is_coordinate("y")).then_some(())?;
            Some((DecodingKey::from_ec_components(text("x")?, text("y")?).ok()?, &[Algorithm::ES256]))
        }
        ("RSA", _) => {
            let (modulus, exponent) = (bytes("n")?, bytes("e")?);
            let significant = modulus.iter().skip_while(|byte| **byte == 0).count();
            (RSA_BYTES.contains(&significant) && !exponent.is_empty()).then_some(())?;
            let key = DecodingKey::from_rsa_raw_components(&modulus, &exponent);
            Some((key, &[Algorithm::RS256, Algorithm::PS256]))
        }
        _ => None,
    }
}
