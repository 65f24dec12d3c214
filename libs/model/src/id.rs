//! One newtype per entity, so that a user's id can never be passed where a device's is meant.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// A text that is no UUID in its hyphenated form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID in its hyphenated form")]
pub struct ParseIdError;

fn parse_uuid(text: &str) -> Result<Uuid, ParseIdError> {
    if text.len() != uuid::fmt::Hyphenated::LENGTH {
        return Err(ParseIdError);
    }
    Uuid::parse_str(text).map_err(|_| ParseIdError)
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, utoipa::ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = Uuid)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub struct $name(Uuid);

        impl $name {
            /// The id as a plain UUID, for storage and codecs.
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }

            /// The 16 bytes of the id, in network order.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse_uuid(text).map(Self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = Uuid;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a UUID")
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Uuid, E> {
                        parse_uuid(text).map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Visitor).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )*};
}

ids! {
    /// A person's account.
    UserId;
    /// One of a user's devices; made by the server at the login that adds it.
    DeviceId;
    /// One sign-in of a user on a device (`sid` in the access token).
    LoginId;
    /// A direct conversation, group or channel.
    ConversationId;
    /// An entry of a conversation's log. For a message it is made by the client and is the idempotency key.
    EntryId;
    /// One WebSocket connection.
    ConnectionId;
    /// A link that lets people into a conversation.
    InviteId;
    /// An object in the media store.
    MediaId;
}

impl ConversationId {
    /// The id of the one direct conversation of two people, whichever of them asks.
    ///
    /// The first 16 bytes of SHA-256 over the two ids, the smaller first, with version 8 and the RFC 9562 variant set.
    ///
    /// Source: docs/protocol.md, section 1; RFC 9562 5.8.
    pub fn direct(one: UserId, other: UserId) -> Self {
        let (low, high) = if one <= other { (one, other) } else { (other, one) };
        let digest = Sha256::new().chain_update(low.as_bytes()).chain_update(high.as_bytes()).finalize();
        let mut bytes = [0_u8; 16];
        for (byte, hashed) in bytes.iter_mut().zip(digest) {
            *byte = hashed;
        }
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }
}

/// Makes the ids that the server gives out: UUIDv7, growing within a process.
#[derive(Debug, Default, Clone, Copy)]
pub struct IdGenerator;

impl IdGenerator {
    /// A new id. Source: RFC 9562 5.7.
    #[expect(clippy::disallowed_methods, reason = "this is the place that makes ids")]
    pub fn next<T: From<Uuid>>(self) -> T {
        T::from(Uuid::now_v7())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn direct_conversation_is_the_same_for_both() {
        let one: UserId = "00000000-0000-7000-8000-000000000001".parse().unwrap();
        let other: UserId = "00000000-0000-7000-8000-000000000002".parse().unwrap();
        let id = ConversationId::direct(one, other);
        assert_eq!(id, ConversationId::direct(other, one));
        assert_eq!(id.as_uuid().get_version_num(), 8);
        assert_eq!(id.as_uuid().get_variant(), uuid::Variant::RFC4122);
        // Computed by hand: sha256(one || other)[..16] with version and variant set.
        assert_eq!(id.to_string(), "37a46966-99c5-8f33-91c1-c31c091a59b7");
    }

    #[test]
    fn only_hyphenated_uuids_are_ids() {
        for bad in ["", "1", "{00000000-0000-7000-8000-000000000001}", "00000000000070008000000000000001"] {
            assert_eq!(bad.parse::<UserId>(), Err(ParseIdError), "{bad}");
        }
        let upper: UserId = "0000000A-0000-7000-8000-00000000000F".parse().unwrap();
        assert_eq!(serde_json::to_string(&upper).unwrap(), "\"0000000a-0000-7000-8000-00000000000f\"");
    }
}
