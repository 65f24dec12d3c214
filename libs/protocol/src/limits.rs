//! The limits of docs/protocol.md, section 1, as values in force.

use serde::{Deserialize, Serialize};

/// What `GET /api/v1/limits` answers. Bytes, seconds and milliseconds as the names say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[expect(missing_docs, reason = "the names are the wire's and say it all")]
pub struct Limits {
    pub message_content_bytes: usize,
    pub frame_bytes: usize,
    pub sends_awaiting_ack: usize,
    pub attachments_per_message: usize,
    pub reactions_per_message: usize,
    pub pins_per_conversation: usize,
    pub group_members: usize,
    pub channel_members: usize,
    pub conversations_per_user: usize,
    pub scheduled_messages: usize,
    pub media_bytes: u64,
    pub mls_bundle_bytes: usize,
    pub password_min: usize,
    pub password_max: usize,
    pub failed_logins: u32,
    pub failed_logins_window_seconds: u64,
    pub access_token_seconds: u64,
    pub refresh_token_seconds: u64,
    pub devices_per_user: usize,
    pub heartbeat_interval_ms: u64,
    pub frames_per_second: u32,
}

/// Content above this is never allowed, whatever the configuration says.
pub const MESSAGE_CONTENT_BYTES_MAX: usize = 2 * 1024 * 1024;
/// What a frame needs beside its content: metadata of 4 KiB, ids, quoting.
const FRAME_OVERHEAD_BYTES: usize = 10 * 1024 + 680;
/// Mentions in one message.
pub const MENTIONS_MAX: usize = 100;
/// A reaction, in bytes of UTF-8.
pub const REACTION_BYTES_MAX: usize = 64;
/// Different reactions to one message.
pub const REACTIONS_PER_MESSAGE_MAX: usize = 100;
/// Reactions of one person to one message.
pub const REACTIONS_PER_PERSON_MAX: usize = 20;
/// Pinned messages of a conversation.
pub const PINS_MAX: usize = 100;
/// Metadata of a message, in bytes of JSON.
pub const METADATA_BYTES_MAX: usize = 4 * 1024;
/// Entries in one page of history.
pub const HISTORY_PAGE_MAX: u32 = 100;
/// Entries in one page of the raw log.
pub const LOG_PAGE_MAX: u32 = 500;
/// Bytes in one page, or in a conversation's part of a `sync`.
pub const PAGE_BYTES_MAX: usize = 512 * 1024;
/// Entries of one conversation in a `sync`, when the client names no limit.
pub const SYNC_LIMIT_DEFAULT: u32 = 200;
/// Entries of one conversation in a `sync`, at most.
pub const SYNC_LIMIT_MAX: u32 = 1_000;
/// Entries of one `sync` in all.
pub const SYNC_ENTRIES_MAX: usize = 2_000;
/// Bytes of one `sync` in all.
pub const SYNC_BYTES_MAX: usize = 2 * 1024 * 1024;

impl Limits {
    /// The frame size that a message at the content limit needs: base64 and what stands around it.
    pub const fn frame_bytes_for(message_content_bytes: usize) -> usize {
        message_content_bytes.div_ceil(3) * 4 + FRAME_OVERHEAD_BYTES
    }
}

impl Default for Limits {
    fn default() -> Self {
        let message_content_bytes = 64 * 1024;
        Self {
            message_content_bytes,
            frame_bytes: Self::frame_bytes_for(message_content_bytes),
            sends_awaiting_ack: 256,
            attachments_per_message: 10,
            reactions_per_message: REACTIONS_PER_MESSAGE_MAX,
            pins_per_conversation: PINS_MAX,
            group_members: 1_000,
            channel_members: 100_000,
            conversations_per_user: 100,
            scheduled_messages: 100,
            media_bytes: 100 * 1024 * 1024,
            mls_bundle_bytes: 1024 * 1024,
            password_min: 8,
            password_max: 128,
            failed_logins: 5,
            failed_logins_window_seconds: 15 * 60,
            access_token_seconds: 15 * 60,
            refresh_token_seconds: 30 * 24 * 3_600,
            devices_per_user: 20,
            heartbeat_interval_ms: 30_000,
            frames_per_second: 200,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_frame_is_96_kib() {
        assert_eq!(Limits::default().frame_bytes, 96 * 1024);
    }
}
