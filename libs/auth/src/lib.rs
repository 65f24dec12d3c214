//! Access tokens: what they say ([`Claims`]), how they are made ([`Signer`]) and how they are checked ([`Verifier`]).
//!
//! One algorithm, Ed25519, and one verifier for every part that takes a token. Does not belong here: refresh tokens,
//! passwords, where keys are kept and when they change (that is the identity service's).

mod claims;
mod signer;
mod verifier;

pub use claims::Claims;
pub use signer::{SignKeyError, Signer};
pub use verifier::{KeysError, TokenError, Verifier};

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
