//! Settings of the message store.

use std::num::NonZeroU32;

use entrenous_bus::NatsConfig;
use entrenous_config::Secret;
use entrenous_db::DbConfig;
use entrenous_runtime::ProcessConfig;

use crate::moderation::ModerationConfig;

/// Settings of the message store.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "message-store", about = "Entrenous message store: conversations, members, and their logs")]
pub struct Config {
    /// Key of the digests by which a repeated message is recognised: 32 random bytes in base64. Every replica has the same; another key makes the repeats of earlier messages look like other messages.
    #[arg(long, env)]
    pub entry_digest_key: Secret,
    /// Members of a group, at most. Groups that exist keep the limit that they were made with.
    #[arg(long, env, default_value = "1000")]
    pub group_members_max: NonZeroU32,
    /// Members of a channel, at most. Channels that exist keep the limit that they were made with.
    #[arg(long, env, default_value = "100000")]
    pub channel_members_max: NonZeroU32,
    /// Groups and channels that a user owns or is in, at most.
    #[arg(long, env, default_value = "100")]
    pub conversations_per_user_max: NonZeroU32,
    /// Scheduled messages of a user, at most.
    #[arg(long, env, default_value = "100")]
    pub scheduled_messages_max: NonZeroU32,
    /// Days for which a scheduled message that could not be sent, or is stale, is kept for its author.
    #[arg(long, env, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=3_650))]
    pub scheduled_messages_kept_days: u16,
    /// Language of the texts in clear that are written from now on: a text search configuration of PostgreSQL, such as `simple` (no language: every word as it stands) or `german`. Texts that are there stay findable by the rules of theirs; the replica that started last decides.
    #[arg(long, env, default_value = "simple")]
    pub search_language: String,
    /// Checks of clear text.
    #[command(flatten)]
    pub moderation: ModerationConfig,
    /// The database.
    #[command(flatten)]
    pub db: DbConfig,
    /// NATS.
    #[command(flatten)]
    pub nats: NatsConfig,
    /// The process.
    #[command(flatten)]
    pub process: ProcessConfig,
}
