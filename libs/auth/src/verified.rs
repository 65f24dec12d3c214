//! Tokens whose signatures were found good, so that the next request with the same token costs a hash.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

use crate::{Claims, TokenError};

/// Tokens remembered: some hundreds of bytes each, so about 10 MiB. Above, all are forgotten and checked anew.
const TOKENS_MAX: usize = 32_768;

type Hash = [u8; SHA256_OUTPUT_LEN];

/// What tokens say, by their SHA-256. Belongs to the keys that they were checked with, and ends with them. That a token has
/// expired, or its login has ended, is for whoever asks to see.
#[derive(Default)]
pub(crate) struct Verified(RwLock<HashMap<Hash, Claims>>);

impl Verified {
    /// What the token says: as it was read before, else as it is read now.
    pub(crate) fn claims(
        &self,
        token: &str,
        read: impl FnOnce() -> Result<Claims, TokenError>,
    ) -> Result<Claims, TokenError> {
        let hash: Hash =
            digest(&SHA256, token.as_bytes()).as_ref().try_into().map_err(|_length| TokenError::Invalid)?;
        if let Some(claims) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&hash) {
            return Ok(claims.clone());
        }
        let claims = read()?;
        let mut tokens = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= TOKENS_MAX {
            tokens.clear();
        }
        tokens.insert(hash, claims.clone());
        Ok(claims)
    }
}
