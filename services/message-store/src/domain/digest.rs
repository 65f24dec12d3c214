//! What an id stands for: a keyed digest over the values of a message that a repeat must share.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use entrenous_protocol::{NewMessage, act::NewEdit};

/// Bytes of the key.
const KEY_BYTES: usize = 32;

/// The key of the digests. Keyed, so that who reads the database cannot test guesses of erased content.
#[derive(Clone)]
pub struct DigestKey(hmac::Key);

impl std::fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DigestKey")
    }
}

/// A key that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("ENTRY_DIGEST_KEY: must be 32 bytes in base64")]
pub struct DigestKeyError;

impl DigestKey {
    /// Reads the key.
    ///
    /// # Errors
    /// When it is not 32 bytes in base64 with padding.
    pub fn parse(text: &str) -> Result<Self, DigestKeyError> {
        let bytes = STANDARD.decode(text).map_err(|_| DigestKeyError)?;
        if bytes.len() != KEY_BYTES {
            return Err(DigestKeyError);
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// HMAC-SHA256 over `message_type`, `content`, `reply_to`, `thread_id`, `attachments`, `mentions` and `metadata`, each
    /// preceded by its length as 8 bytes big-endian; ids as 16 bytes, lists of them concatenated, what is absent empty.
    /// Source: docs/protocol.md, section 3, promise 2.
    pub fn digest(&self, message: &NewMessage) -> [u8; 32] {
        let mut digest = Values(hmac::Context::with_key(&self.0));
        let mut value = |parts: &[&[u8]]| digest.value(parts);
        value(&[message.message_type.as_str().as_bytes()]);
        value(&[message.content.get().as_bytes()]);
        value(&message.reply_to.iter().map(|id| id.as_bytes().as_slice()).collect::<Vec<_>>());
        value(&message.thread_id.iter().map(|id| id.as_bytes().as_slice()).collect::<Vec<_>>());
        value(&message.attachments.iter().map(|id| id.as_bytes().as_slice()).collect::<Vec<_>>());
        value(&message.mentions.iter().map(|id| id.as_bytes().as_slice()).collect::<Vec<_>>());
        value(&[message.metadata.get().as_bytes()]);
        digest.end()
    }

    /// The same over what an edit says: which message, `content` and `metadata`.
    pub fn digest_edit(&self, edit: &NewEdit) -> [u8; 32] {
        let mut digest = Values(hmac::Context::with_key(&self.0));
        digest.value(&[edit.message_id.as_bytes().as_slice()]);
        digest.value(&[edit.content.get().as_bytes()]);
        digest.value(&edit.metadata.iter().map(|metadata| metadata.get().as_bytes()).collect::<Vec<_>>());
        digest.end()
    }
}

struct Values(hmac::Context);

impl Values {
    fn value(&mut self, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        self.0.update(&u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes());
        for part in parts {
            self.0.update(part);
        }
    }

    fn end(self) -> [u8; 32] {
        let mut digest = [0; 32];
        digest.iter_mut().zip(self.0.sign().as_ref()).for_each(|(byte, signed)| *byte = *signed);
        digest
    }
}

#[cfg(test)]
mod tests {
    use entrenous_protocol::{Limits, message::MessageFields};

    use super::*;

    fn digest(json: &str) -> [u8; 32] {
        let fields: MessageFields = serde_json::from_str(json).unwrap();
        let id = "01900000-0000-7000-8000-000000000001".parse().unwrap();
        DigestKey::parse(&STANDARD.encode([7; 32])).unwrap().digest(&fields.check(id, &Limits::default()).unwrap())
    }

    #[test]
    fn every_named_value_counts_and_the_signature_does_not() {
        let id = "01900000-0000-7000-8000-000000000002";
        let base = r#"{"content":{"text":"a"}}"#;
        assert_eq!(digest(base), digest(r#"{"metadata":{},"content":{"text":"a"},"message_type":"text"}"#));
        let mut seen = std::collections::HashSet::from([digest(base)]);
        for other in [
            r#"{"content":{"text":"b"}}"#.to_owned(),
            r#"{"content":{"text":"a"},"message_type":"media"}"#.to_owned(),
            r#"{"content":{"text":"a"},"metadata":{"a":1}}"#.to_owned(),
            format!(r#"{{"content":{{"text":"a"}},"reply_to":"{id}"}}"#),
            format!(r#"{{"content":{{"text":"a"}},"thread_id":"{id}"}}"#),
            format!(r#"{{"content":{{"text":"a"}},"attachments":["{id}"]}}"#),
            format!(r#"{{"content":{{"text":"a"}},"mentions":["{id}"]}}"#),
        ] {
            assert!(seen.insert(digest(&other)), "{other}");
        }
        let signature = STANDARD.encode([1; 64]);
        assert_eq!(digest(base), digest(&format!(r#"{{"content":{{"text":"a"}},"signature":"{signature}"}}"#)));
    }

    #[test]
    fn only_32_bytes_are_a_key() {
        for bad in ["", "x", &STANDARD.encode([0; 31]), &STANDARD.encode([0; 33])] {
            assert_eq!(DigestKey::parse(bad).unwrap_err(), DigestKeyError);
        }
    }
}
