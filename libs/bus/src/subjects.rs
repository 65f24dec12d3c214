//! Every subject, made and parsed here alone.

use uuid::Uuid;

/// Subject of a method of a service.
pub fn rpc(service: &str, method: &str) -> String {
    format!("entrenous.rpc.{service}.{method}")
}

/// Subject of a live shard.
pub fn live(shard: u16) -> String {
    format!("entrenous.live.{shard}")
}

/// The inverse of [`live`].
pub fn parse_live(subject: &str) -> Option<u16> {
    subject.strip_prefix("entrenous.live.")?.parse().ok()
}

/// What publishers say of their numbers. Of the live plane, so that it comes after what they published before.
pub const LIVE_BEAT: &str = "entrenous.live.beat";

/// All live shards, and the beat.
pub const LIVE_ALL: &str = "entrenous.live.*";

/// What gateways tell presence.
pub const PRESENCE_REPORT: &str = "entrenous.presence.report";

/// Presence asks gateways to say everything again.
pub const PRESENCE_LIST: &str = "entrenous.presence.list";

/// What replicas of presence tell each other.
pub const PRESENCE_REPLICA: &str = "entrenous.presence.replica";

/// What presence tells one gateway.
pub fn presence_status(gateway: Uuid) -> String {
    format!("entrenous.presence.status.{gateway}")
}

/// Who is typing: from gateways to gateways.
pub const TYPING: &str = "entrenous.typing";

/// The stream of events.
pub const EVENTS_STREAM: &str = "EVENTS";

/// Durable consumers of the stream that outsiders may read with; the permissions of nats-server name the same.
pub const EVENTS_CONSUMERS: [&str; 4] = ["reader-1", "reader-2", "reader-3", "reader-4"];

/// All events.
pub const EVENTS_ALL: &str = "entrenous.events.>";

/// Subject of batches of appended entries.
pub const EVENTS_ENTRY_APPENDED: &str = "entrenous.events.entry.appended";

/// Replies to one process of a service.
pub fn inbox(service: &str, process: &str) -> String {
    format!("_INBOX.{service}.{process}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_subjects_are_parsed_as_they_are_made() {
        for shard in [0, 1, 1_023, u16::MAX] {
            assert_eq!(parse_live(&live(shard)), Some(shard));
        }
        assert_eq!(parse_live("entrenous.live.x"), None);
        assert_eq!(parse_live("entrenous.events.1"), None);
    }
}
