//! Access tokens: what they say ([`Claims`]), how they are made ([`Signer`]) and how they are checked ([`Verifier`]).
//!
//! Our own tokens are signed with Ed25519. One verifier for every part that takes a token, also where they are those of an
//! outside issuer. Does not belong here: refresh tokens, passwords, where keys are kept and when they change (that is the
//! identity service's), how the keys of others are fetched (the gateway's).

mod claims;
mod keys;
mod signer;
mod verified;
mod verifier;

pub use claims::Claims;
pub use keys::{KeysError, SECRET_BYTES_MIN, SecretError};
pub use signer::{SignKeyError, Signer};
pub use verifier::{TokenError, Verifier};

/// Settings that whoever issues tokens and whoever checks them must share.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// `iss` of access tokens.
    #[arg(long, env, default_value = "entrenous")]
    pub token_issuer: String,
    /// `aud` of access tokens.
    #[arg(long, env, default_value = "entrenous")]
    pub token_audience: String,
}
