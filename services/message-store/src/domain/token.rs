//! Tokens of invites: a secret that is told once, and of which only a digest is kept.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

const TOKEN_BYTES: usize = 16;

/// 128 random bits, as they stand in a link.
pub(crate) fn new_token() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; TOKEN_BYTES]>())
}

/// What is kept of a token. No salt: it is as random as a key.
pub(crate) fn token_digest(token: &str) -> Vec<u8> {
    digest(&SHA256, token.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_fit_into_a_path_and_are_never_the_same() {
        let (one, other) = (new_token(), new_token());
        assert_eq!(one.len(), 22);
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{one}");
        assert!(one != other && token_digest(&one) != token_digest(&other));
        assert_eq!(token_digest(&one), token_digest(&one));
    }
}
