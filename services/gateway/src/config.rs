//! Settings of the gateway.

use std::{
    net::SocketAddr,
    num::{NonZeroU16, NonZeroUsize},
    time::Duration,
};

use entrenous_auth::SECRET_BYTES_MIN;
use entrenous_bus::NatsConfig;
use entrenous_config::{ConfigError, Secret};
use entrenous_protocol::{Limits, limits::MESSAGE_CONTENT_BYTES_MAX};
use entrenous_runtime::ProcessConfig;
use url::Url;

use crate::tokens::check_jwks_url;

/// Limits that other services enforce and `GET /api/v1/limits` tells: set them alike for both.
#[derive(Debug, Clone, clap::Args)]
pub struct LimitsOfOthers {
    /// Members of a group, at most, as the message store has it.
    #[arg(long, env, default_value_t = 1_000)]
    pub group_members_max: usize,
    /// Members of a channel, at most, as the message store has it.
    #[arg(long, env, default_value_t = 100_000)]
    pub channel_members_max: usize,
    /// Groups and channels of a user, at most, as the message store has it.
    #[arg(long, env, default_value_t = 100)]
    pub conversations_per_user_max: usize,
    /// Scheduled messages of a user, at most, as the message store has it.
    #[arg(long, env, default_value_t = 100)]
    pub scheduled_messages_max: usize,
    /// Characters in a password, at least, as identity has it.
    #[arg(long, env, default_value_t = 8)]
    pub password_min: usize,
    /// Characters in a password, at most, as identity has it.
    #[arg(long, env, default_value_t = 128)]
    pub password_max: usize,
    /// Wrong passwords within the window, as identity has it.
    #[arg(long, env, default_value_t = 5)]
    pub failed_logins: u32,
    /// How long a wrong password counts, as identity has it.
    #[arg(long, env, default_value_t = 900)]
    pub failed_logins_window_seconds: u64,
    /// Life of an access token, as identity has it.
    #[arg(long, env, default_value_t = 900)]
    pub access_token_seconds: u64,
    /// Life of a refresh token, as identity has it.
    #[arg(long, env, default_value_t = 2_592_000)]
    pub refresh_token_seconds: u64,
    /// Devices of a user, at most, as identity has it.
    #[arg(long, env, default_value_t = 20)]
    pub devices_per_user: usize,
}

/// An outside issuer whose tokens are taken instead of identity's; see docs/outside-issuers.md.
#[derive(Debug, Clone, clap::Args)]
#[expect(clippy::struct_field_names, reason = "the names are those of the variables")]
pub struct OutsideIssuer {
    /// Where an outside issuer publishes its keys (JWKS): its tokens are taken, and nobody signs in or registers here. HTTPS, or this machine. Set `TOKEN_ISSUER` and `TOKEN_AUDIENCE` to what its tokens say.
    #[arg(long, env)]
    pub token_jwks_url: Option<Url>,
    /// How often the keys at `TOKEN_JWKS_URL` are read again; an unknown key makes the gateway look at once, every 5 s at most.
    #[arg(long, env, default_value_t = 300, value_parser = clap::value_parser!(u32).range(5..=86_400))]
    pub token_jwks_refresh_seconds: u32,
    /// Secret that an outside issuer signs its tokens with (HS256), instead of `TOKEN_JWKS_URL`: at least 32 bytes, taken as they stand.
    #[arg(long, env)]
    pub token_hs256_secret: Option<Secret>,
}

impl OutsideIssuer {
    /// Checks what one field alone cannot tell.
    ///
    /// # Errors
    /// Names the variable that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |name, problem: String| Err(ConfigError::Value { name, problem });
        if let Some(url) = &self.token_jwks_url {
            if self.token_hs256_secret.is_some() {
                return wrong("TOKEN_HS256_SECRET", "set either this or TOKEN_JWKS_URL".to_owned());
            }
            if let Err(problem) = check_jwks_url(url) {
                return wrong("TOKEN_JWKS_URL", problem.to_owned());
            }
        }
        if let Some(secret) = &self.token_hs256_secret
            && secret.expose().len() < SECRET_BYTES_MIN
        {
            return wrong("TOKEN_HS256_SECRET", entrenous_auth::SecretError.to_string());
        }
        Ok(())
    }
}

/// Settings of the gateway.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "gateway", about = "Entrenous gateway: the only thing clients reach")]
pub struct Config {
    /// NATS.
    #[command(flatten)]
    pub nats: NatsConfig,
    /// The process.
    #[command(flatten)]
    pub process: ProcessConfig,
    /// Tokens.
    #[command(flatten)]
    pub tokens: entrenous_auth::Settings,
    /// Whose tokens are taken.
    #[command(flatten)]
    pub outside_issuer: OutsideIssuer,
    /// What other services enforce and the gateway tells.
    #[command(flatten)]
    pub limits_of_others: LimitsOfOthers,
    /// Address that clients reach.
    #[arg(long, env, default_value = "0.0.0.0:8080")]
    pub gateway_addr: SocketAddr,
    /// Threads that serve connections; by default one for each core.
    #[arg(long, env)]
    pub gateway_workers: Option<NonZeroUsize>,
    /// Connections that each worker takes at most.
    #[arg(long, env, default_value_t = 25_000)]
    pub gateway_connections_per_worker_max: usize,
    /// Origins that browsers may call from, separated by commas; `*` for all. Requests without an origin (apps) are always let in, and so are pages from the gateway's own address.
    #[arg(long, env, value_delimiter = ',')]
    pub gateway_origins: Vec<String>,
    /// Proxies in front of the gateway that add to `X-Forwarded-For`; 0 takes the peer's address.
    #[arg(long, env, default_value_t = 0)]
    pub gateway_trusted_proxies: usize,
    /// Content of a message, in bytes, at most 2 MiB. The size of a frame follows from it.
    #[arg(long, env, default_value_t = 64 * 1024, value_parser = clap::value_parser!(u32).range(1_024..=2_097_152))]
    pub message_content_bytes: u32,
    /// Between two heartbeats.
    #[arg(long, env, default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(1_000..=300_000))]
    pub heartbeat_interval_ms: u64,
    /// Sends of a connection that may await their ack.
    #[arg(long, env, default_value_t = 256)]
    pub sends_awaiting_ack_max: usize,
    /// Frames that a connection may send a second.
    #[arg(long, env, default_value_t = 200)]
    pub frames_per_second_max: u32,
    /// Frames that wait for a connection; above it the connection is closed with 4400.
    #[arg(long, env, default_value_t = 4_096)]
    pub outbox_frames_max: usize,
    /// Bytes that wait for a connection; above it the connection is closed with 4400. A page of a log must fit, at least 1 MiB.
    #[arg(long, env, default_value_t = 4 * 1024 * 1024, value_parser = clap::value_parser!(u64).range(1_048_576..))]
    pub outbox_bytes_max: u64,
    /// Changes of others' presence that the gateway sends its clients a second; above it they wait, and what changes again meanwhile is sent once.
    #[arg(long, env, default_value = "5000")]
    pub presence_frames_per_second: NonZeroUsize,
    /// Batches of sends that this gateway has on their way to the message store at once. Fewer make them larger, and each costs PostgreSQL a commit; more use more of its processors.
    #[arg(long, env, default_value = "2")]
    pub send_batches: NonZeroU16,
    /// Bytes of all sends of this gateway that await their ack; above it sends are answered `unavailable`.
    #[arg(long, env, default_value_t = 64 * 1024 * 1024)]
    pub sends_bytes_max: usize,
    /// How long a send is tried before it is answered `unavailable`.
    #[arg(long, env, default_value_t = 10_000)]
    pub send_deadline_ms: u64,
    /// How long the gateway may be unsure whether it has heard everything before it tells its clients `degraded`. Without NATS for so long it is not ready.
    #[arg(long, env, default_value_t = 3_000, value_parser = clap::value_parser!(u64).range(1_500..=60_000))]
    pub degraded_after_ms: u64,
    /// Without NATS for so long the gateway sends its clients elsewhere (1012), spread over the drain's spread.
    #[arg(long, env, default_value_t = 15_000, value_parser = clap::value_parser!(u64).range(2_000..=300_000))]
    pub cut_off_after_ms: u64,
    /// How long a stop waits for the load balancer before connections are closed.
    #[arg(long, env, default_value_t = 5_000)]
    pub drain_wait_ms: u64,
    /// Over how long the connections are closed at a stop.
    #[arg(long, env, default_value_t = 10_000)]
    pub drain_spread_ms: u64,
}

impl Config {
    /// Checks what one field alone cannot tell.
    ///
    /// # Errors
    /// Names the variable that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.outside_issuer.validate()
    }

    /// The limits in force, as `GET /api/v1/limits` tells them.
    pub fn limits(&self) -> Limits {
        let content_bytes = usize::try_from(self.message_content_bytes).unwrap_or(MESSAGE_CONTENT_BYTES_MAX);
        let others = &self.limits_of_others;
        Limits {
            message_content_bytes: content_bytes,
            frame_bytes: Limits::frame_bytes_for(content_bytes),
            sends_awaiting_ack: self.sends_awaiting_ack_max,
            heartbeat_interval_ms: self.heartbeat_interval_ms,
            frames_per_second: self.frames_per_second_max,
            group_members: others.group_members_max,
            channel_members: others.channel_members_max,
            conversations_per_user: others.conversations_per_user_max,
            scheduled_messages: others.scheduled_messages_max,
            password_min: others.password_min,
            password_max: others.password_max,
            failed_logins: others.failed_logins,
            failed_logins_window_seconds: others.failed_logins_window_seconds,
            access_token_seconds: others.access_token_seconds,
            refresh_token_seconds: others.refresh_token_seconds,
            devices_per_user: others.devices_per_user,
            ..Limits::default()
        }
    }

    /// Bytes that wait for a connection.
    pub fn outbox_bytes(&self) -> usize {
        usize::try_from(self.outbox_bytes_max).unwrap_or(usize::MAX)
    }

    /// How long a send is tried.
    pub fn send_deadline(&self) -> Duration {
        Duration::from_millis(self.send_deadline_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(changes: &[(&str, &str)]) -> Result<(), String> {
        let pairs = [("NATS_URL", "nats://localhost")].iter().chain(changes);
        let pairs: Vec<_> = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let config = entrenous_config::from_pairs::<Config>(&pairs).map_err(|error| error.to_string())?;
        assert!(config.outside_issuer.token_hs256_secret.is_none() || !format!("{config:?}").contains("sesame"));
        config.validate().map_err(|error| error.to_string())
    }

    const SECRET: &str = "open sesame, open sesame, open sesame";

    #[test]
    fn an_outside_issuer_has_keys_or_a_secret() {
        for good in [
            &[][..],
            &[("TOKEN_JWKS_URL", "https://issuer.example/keys")],
            &[("TOKEN_JWKS_URL", "http://127.0.0.1:9/keys")],
            &[("TOKEN_JWKS_URL", "http://localhost/keys")],
            &[("TOKEN_JWKS_URL", "http://[::1]/keys")],
            &[("TOKEN_HS256_SECRET", SECRET)],
        ] {
            check(good).unwrap();
        }
    }

    #[test]
    fn wrong_values_are_named_and_secrets_are_not_shown() {
        for (name, wrong) in [
            ("TOKEN_JWKS_URL", &[("TOKEN_JWKS_URL", "http://issuer.example/keys")][..]),
            ("TOKEN_JWKS_URL", &[("TOKEN_JWKS_URL", "http://127.0.0.1.example/keys")]),
            ("TOKEN_JWKS_URL", &[("TOKEN_JWKS_URL", "file:///etc/keys")]),
            ("TOKEN_JWKS_URL", &[("TOKEN_JWKS_URL", "https://user:sesame@issuer.example/keys")]),
            ("TOKEN_JWKS_URL", &[("TOKEN_JWKS_URL", "issuer.example/keys")]),
            ("TOKEN_JWKS_REFRESH_SECONDS", &[("TOKEN_JWKS_REFRESH_SECONDS", "0")]),
            ("TOKEN_HS256_SECRET", &[("TOKEN_HS256_SECRET", "sesame")]),
            ("TOKEN_HS256_SECRET", &[("TOKEN_HS256_SECRET", "")]),
            (
                "TOKEN_HS256_SECRET",
                &[("TOKEN_HS256_SECRET", SECRET), ("TOKEN_JWKS_URL", "https://issuer.example/keys")],
            ),
        ] {
            let error = check(wrong).unwrap_err();
            assert!(error.contains(name) && !error.contains("sesame"), "{error}");
        }
    }
}
