//! The live plane's message: a fixed preamble, then what clients get, byte for byte.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 1 | version, 1 |
//! | 1 | 1 | [`LiveKind`] |
//! | 2 | 2 | flags |
//! | 4 | 4 | how many have left the channel so far; 0 where the subject is no channel |
//! | 8 | 8 | publisher: drawn at its start |
//! | 16 | 8 | the publisher's number in this shard: 1, 2, 3, …; 0 in a beat |
//! | 24 | 16 | conversation or user; 0 in a beat |
//! | 40 | 8 | seq, of a membership the head; 0 where there is none; in a beat the publisher's age in milliseconds |
//! | 48 | 8 | origin: the connection that sent it, 0 where there is none |
//! | 56 | 8 | incarnation of the store |
//!
//! Numbers are big-endian. A reader skips versions and kinds that it does not know.

use bytes::{BufMut, Bytes, BytesMut};
use entrenous_model::{ConnectionId, ConversationId, DeviceId, EntryId, LoginId, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    entry::{ConversationKind, MemberContent},
    scheduled::ScheduledEvent,
};

/// Length of the preamble in bytes.
pub const PREAMBLE_BYTES: usize = 64;
/// Number of live shards. Every process of a deployment must agree.
pub const LIVE_SHARDS: u16 = 1_024;
const VERSION: u8 = 1;
/// Flag: a `member` entry, so that a gateway looks into it.
pub const FLAG_MEMBER: u16 = 1;
/// Flag: the last entry of a conversation that was deleted. After it nobody is a member.
pub const FLAG_END: u16 = 2;

/// What follows the preamble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveKind {
    /// A log entry's frame.
    Entry,
    /// A [`UserNotice`] in JSON, about a user's connections.
    UserNotice,
    /// How far a publisher has numbered each shard: the [`encode_numbers`] of every one that it has used. Once a second.
    Beat,
    /// A [`ChannelMembership`] in JSON: somebody joined or left a channel, which is no entry.
    Membership,
    /// The frame `reactions_changed` of a channel, which is no entry either.
    Reactions,
}

/// The fixed head of a live message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the table of the module explains them")]
pub struct Preamble {
    pub kind: LiveKind,
    pub flags: u16,
    pub leaves: u32,
    pub publisher: u64,
    pub number: u64,
    pub subject: Uuid,
    pub seq: u64,
    pub origin: u64,
    pub incarnation: u64,
}

/// A live message that was read.
#[derive(Debug, Clone)]
pub struct LiveMessage {
    /// The head.
    pub preamble: Preamble,
    /// What clients get; shares the memory of the message.
    pub body: Bytes,
    /// The `traceparent` that came beside it.
    pub trace: Option<String>,
}

/// A change of a channel's members. The preamble says where it stands: a join begins after the head, and a leave ends with it;
/// `leaves` counts it where it is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChannelMembership {
    /// What changed.
    pub content: MemberContent,
    /// Who looks after the members and is told of each change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moderators: Vec<UserId>,
}

/// What a user's connections must hear that is no entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "notice", rename_all = "snake_case")]
pub enum UserNotice {
    /// The user is a member of a conversation from `joined_seq` on.
    ConversationJoined {
        /// Which.
        conversation_id: ConversationId,
        /// What it is.
        kind: ConversationKind,
        /// The first seq that the membership covers.
        joined_seq: u64,
    },
    /// These logins have ended: their connections close with 4503.
    LoginsEnded {
        /// Which.
        login_ids: Vec<LoginId>,
    },
    /// Entries were delivered to somebody, or read: told to their authors, and to all connections of who received them.
    Receipt(Receipt),
    /// A device connected: its connections with a lower number close with 4509.
    DeviceConnected {
        /// Which.
        device_id: DeviceId,
        /// Grows per device.
        connection_no: u64,
    },
    /// Something was queued for a device: its connections read their queue on.
    DeviceMessages {
        /// Which.
        device_id: DeviceId,
        /// The queue's last seq.
        last_seq: u64,
    },
    /// The user has deleted a message for themselves.
    MessageHidden {
        /// Where.
        conversation_id: ConversationId,
        /// Which.
        message_id: EntryId,
    },
    /// A message that the user had scheduled was sent at its time, or could not be.
    Scheduled {
        /// Which.
        message_id: EntryId,
        /// What became of it.
        event: ScheduledEvent,
    },
    /// The user's own settings of a conversation are these now.
    SettingsChanged {
        /// Which.
        conversation_id: ConversationId,
        /// All of them.
        settings: Map<String, Value>,
    },
    /// What the user allows others has changed, blocks included, and the message store has taken it over: who may see whom
    /// is asked anew.
    PrivacyChanged {},
}

/// What a `delivery_receipt` or `read_receipt` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Receipt {
    /// Which of the two.
    pub kind: ReceiptKind,
    /// Where.
    pub conversation_id: ConversationId,
    /// Who received or read.
    pub user_id: UserId,
    /// On which device; only the user's own connections are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
    /// Everything up to here.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
}

/// Delivered or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReceiptKind {
    /// It is on one of the user's devices.
    Delivered,
    /// The user has read it.
    Read,
}

/// Somebody is typing, or no longer: from gateway to gateway, at most once, not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Typing {
    /// Where.
    pub conversation_id: ConversationId,
    /// Who.
    pub user_id: UserId,
    /// Begins or goes on; else it has ended.
    pub typing: bool,
}

/// [`Typing`] as one gateway tells it to all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TypingBroadcast {
    /// What clients are told.
    #[serde(flatten)]
    pub typing: Typing,
    /// Members who are not told: between them and who types there is a block.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hidden_from: Vec<UserId>,
}

/// The `origin` of a connection: the random half of its id, never 0.
pub fn origin_of(connection_id: ConnectionId) -> u64 {
    connection_id.as_uuid().as_u64_pair().1
}

/// The live shard of a conversation or user. Part of the wire: FNV-1a over the 16 bytes, modulo [`LIVE_SHARDS`].
pub fn shard_of(id: Uuid) -> u16 {
    stable_hash(id, LIVE_SHARDS)
}

/// FNV-1a over an id, modulo `buckets`; the same in every process and version.
///
/// Source: <http://www.isthe.com/chongo/tech/comp/fnv/>, 64 bits.
pub fn stable_hash(id: Uuid, buckets: u16) -> u16 {
    let hash = id
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    // The low bits of FNV-1a are its weakest: fold the high ones in.
    u16::try_from((hash ^ (hash >> 32)) % u64::from(buckets.max(1))).unwrap_or_default()
}

impl Preamble {
    /// A preamble of this kind in which everything else is 0.
    pub fn empty(kind: LiveKind) -> Self {
        Self {
            kind,
            flags: 0,
            leaves: 0,
            publisher: 0,
            number: 0,
            subject: Uuid::nil(),
            seq: 0,
            origin: 0,
            incarnation: 0,
        }
    }

    /// The whole message: preamble, then body.
    pub fn encode(&self, body: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(PREAMBLE_BYTES + body.len());
        out.put_u8(VERSION);
        out.put_u8(match self.kind {
            LiveKind::Entry => 1,
            LiveKind::UserNotice => 2,
            LiveKind::Beat => 3,
            LiveKind::Membership => 4,
            LiveKind::Reactions => 5,
        });
        out.put_u16(self.flags);
        out.put_u32(self.leaves);
        out.put_u64(self.publisher);
        out.put_u64(self.number);
        out.put_slice(self.subject.as_bytes());
        out.put_u64(self.seq);
        out.put_u64(self.origin);
        out.put_u64(self.incarnation);
        out.put_slice(body);
        out.freeze()
    }
}

impl LiveMessage {
    /// Reads a message; `None` for one that is too short, or of a version or kind that this build does not know.
    pub fn decode(message: &Bytes) -> Option<Self> {
        let head = message.get(..PREAMBLE_BYTES)?;
        let number = |at: usize| -> Option<u64> { Some(u64::from_be_bytes(head.get(at..at + 8)?.try_into().ok()?)) };
        if *head.first()? != VERSION {
            return None;
        }
        let kind = match *head.get(1)? {
            1 => LiveKind::Entry,
            2 => LiveKind::UserNotice,
            3 => LiveKind::Beat,
            4 => LiveKind::Membership,
            5 => LiveKind::Reactions,
            _ => return None,
        };
        let preamble = Preamble {
            kind,
            flags: u16::from_be_bytes(head.get(2..4)?.try_into().ok()?),
            leaves: u32::from_be_bytes(head.get(4..8)?.try_into().ok()?),
            publisher: number(8)?,
            number: number(16)?,
            subject: Uuid::from_slice(head.get(24..40)?).ok()?,
            seq: number(40)?,
            origin: number(48)?,
            incarnation: number(56)?,
        };
        Some(Self { preamble, body: message.slice(PREAMBLE_BYTES..), trace: None })
    }
}

/// The body of a beat: shard (2 bytes) and number (8 bytes), big-endian, of each shard that was used.
pub fn encode_numbers(numbers: &[u64]) -> Vec<u8> {
    let used = (0_u16..).zip(numbers).filter(|(_, number)| **number > 0);
    used.flat_map(|(shard, number)| shard.to_be_bytes().into_iter().chain(number.to_be_bytes())).collect()
}

/// The inverse of [`encode_numbers`]; a tail that is cut off is left out.
pub fn decode_numbers(body: &[u8]) -> impl Iterator<Item = (u16, u64)> {
    body.chunks_exact(10).filter_map(|pair| {
        let (shard, number) = pair.split_at_checked(2)?;
        Some((u16::from_be_bytes(shard.try_into().ok()?), u64::from_be_bytes(number.try_into().ok()?)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_were_written() {
        let body = encode_numbers(&[0, 7, 0, u64::MAX]);
        assert_eq!(decode_numbers(&body).collect::<Vec<_>>(), [(1, 7), (3, u64::MAX)]);
        assert_eq!(decode_numbers(&body[..11]).collect::<Vec<_>>(), [(1, 7)]);
    }

    #[test]
    fn decodes_what_it_encoded_and_nothing_else() {
        let preamble = Preamble {
            kind: LiveKind::Entry,
            flags: FLAG_MEMBER,
            leaves: u32::MAX,
            publisher: 1,
            number: 2,
            subject: Uuid::from_u128(3),
            seq: 4,
            origin: 5,
            incarnation: u64::MAX,
        };
        let message = preamble.encode(b"{}");
        let decoded = LiveMessage::decode(&message).unwrap();
        assert_eq!((decoded.preamble, decoded.body.as_ref()), (preamble, b"{}".as_ref()));
        assert!(LiveMessage::decode(&message.slice(..PREAMBLE_BYTES - 1)).is_none());
        let mut newer = message.to_vec();
        newer[0] = 2;
        assert!(LiveMessage::decode(&newer.into()).is_none());
    }

    #[test]
    fn shards_are_part_of_the_wire() {
        assert_eq!(shard_of(Uuid::nil()), shard_of(Uuid::nil()));
        let used: std::collections::HashSet<_> = (0..20_000).map(|n| shard_of(Uuid::from_u128(n))).collect();
        assert!(used.len() > 1_000, "{}", used.len());
    }
}
