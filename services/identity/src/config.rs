//! Settings of the identity service.

use std::{num::NonZeroUsize, time::Duration};

use entrenous_bus::NatsConfig;
use entrenous_config::{ConfigError, Secret};
use entrenous_db::DbConfig;
use entrenous_runtime::ProcessConfig;

use crate::{domain::secrets::Secrets, passwords::HashCost};

/// Settings of the identity service.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "identity", about = "Entrenous identity: users, logins, devices and the keys of access tokens")]
pub struct Config {
    /// PostgreSQL.
    #[command(flatten)]
    pub db: DbConfig,
    /// NATS.
    #[command(flatten)]
    pub nats: NatsConfig,
    /// The process.
    #[command(flatten)]
    pub process: ProcessConfig,
    /// Access tokens.
    #[command(flatten)]
    pub tokens: entrenous_auth::Settings,
    /// Secret that seals private keys in the database and from which refresh tokens are derived: 32 random bytes in base64 (`openssl rand -base64 32`). The same for all replicas.
    #[arg(long, env)]
    pub identity_key_encryption_key: Secret,
    /// Characters in a password, at least.
    #[arg(long, env, default_value_t = 8)]
    pub password_min: usize,
    /// Characters in a password, at most.
    #[arg(long, env, default_value_t = 128)]
    pub password_max: usize,
    /// Wrong passwords for an account from an address within the window; the next attempt is refused.
    #[arg(long, env, default_value = "5")]
    pub failed_logins: NonZeroUsize,
    /// How long a wrong password counts.
    #[arg(long, env, default_value_t = 900)]
    pub failed_logins_window_seconds: u32,
    /// Life of an access token.
    #[arg(long, env, default_value_t = 900, value_parser = clap::value_parser!(u32).range(10..=86_400))]
    pub access_token_seconds: u32,
    /// Life of a refresh token.
    #[arg(long, env, default_value_t = 2_592_000, value_parser = clap::value_parser!(u32).range(60..))]
    pub refresh_token_seconds: u32,
    /// Devices of a user, at most.
    #[arg(long, env, default_value_t = 20)]
    pub devices_per_user: u32,
    /// Memory of one password hash (argon2id), in KiB. When it is raised, passwords are hashed anew at their next login.
    #[arg(long, env, default_value_t = 19_456)]
    pub identity_hash_memory_kib: u32,
    /// Passes of one password hash.
    #[arg(long, env, default_value_t = 2)]
    pub identity_hash_iterations: u32,
    /// Passwords hashed at once; each takes the memory above.
    #[arg(long, env, default_value = "4")]
    pub identity_hashes_max: NonZeroUsize,
    /// Passwords that may wait for it; further ones are answered `unavailable`.
    #[arg(long, env, default_value_t = 64)]
    pub identity_hash_queue_max: usize,
    /// Age at which the key that signs access tokens gets a successor.
    #[arg(long, env, default_value_t = 2_592_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub identity_key_rotation_seconds: u32,
    /// How long a key is published before it signs.
    #[arg(long, env, default_value_t = 3_600)]
    pub identity_key_publish_ahead_seconds: u32,
    /// Between two looks at the keys and at what can be deleted.
    #[arg(long, env, default_value_t = 30_000, value_parser = clap::value_parser!(u32).range(10..=600_000))]
    pub identity_maintenance_interval_ms: u32,
}

/// The limits in force.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) password_min: usize,
    pub(crate) password_max: usize,
    pub(crate) failed_logins: usize,
    pub(crate) failed_logins_window: Duration,
    pub(crate) access_token: Duration,
    pub(crate) refresh_token: Duration,
    pub(crate) devices_per_user: u32,
}

impl Config {
    /// Checks what one field alone cannot tell.
    ///
    /// # Errors
    /// Names the variable that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |name, problem: &str| Err(ConfigError::Value { name, problem: problem.to_owned() });
        if Secrets::parse(&self.identity_key_encryption_key).is_none() {
            return wrong("IDENTITY_KEY_ENCRYPTION_KEY", "must be 32 bytes in base64");
        }
        if self.password_min == 0 || self.password_min > self.password_max {
            return wrong("PASSWORD_MIN", "must be between 1 and PASSWORD_MAX");
        }
        if self.identity_key_publish_ahead_seconds >= self.identity_key_rotation_seconds {
            return wrong("IDENTITY_KEY_PUBLISH_AHEAD_SECONDS", "must be less than IDENTITY_KEY_ROTATION_SECONDS");
        }
        if self.hash_cost().params().is_err() {
            return wrong("IDENTITY_HASH_MEMORY_KIB", "argon2 cannot work with it and IDENTITY_HASH_ITERATIONS");
        }
        Ok(())
    }

    pub(crate) fn hash_cost(&self) -> HashCost {
        HashCost { memory_kib: self.identity_hash_memory_kib, iterations: self.identity_hash_iterations }
    }

    pub(crate) fn limits(&self) -> Limits {
        let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
        Limits {
            password_min: self.password_min,
            password_max: self.password_max,
            failed_logins: self.failed_logins.get(),
            failed_logins_window: seconds(self.failed_logins_window_seconds),
            access_token: seconds(self.access_token_seconds),
            refresh_token: seconds(self.refresh_token_seconds),
            devices_per_user: self.devices_per_user,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn config(changes: &[(&str, &str)]) -> Result<(), String> {
        let mut pairs = vec![
            ("DATABASE_URL", "postgres://localhost/x"),
            ("NATS_URL", "nats://localhost"),
            ("IDENTITY_KEY_ENCRYPTION_KEY", KEY),
        ];
        pairs.retain(|(name, _)| !changes.iter().any(|(changed, _)| name == changed));
        pairs.extend(changes);
        let pairs: Vec<_> = pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let config = entrenous_config::from_pairs::<Config>(&pairs).map_err(|error| error.to_string())?;
        assert!(!format!("{config:?}").contains(KEY));
        config.validate().map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_those_of_the_protocol() {
        config(&[]).unwrap();
    }

    #[test]
    fn wrong_values_are_named_and_secrets_are_not_shown() {
        let bad = [
            ("IDENTITY_KEY_ENCRYPTION_KEY", "c2hvcnQ="),
            ("IDENTITY_KEY_ENCRYPTION_KEY", "!!"),
            ("PASSWORD_MIN", "129"),
            ("IDENTITY_KEY_PUBLISH_AHEAD_SECONDS", "2592000"),
            ("IDENTITY_HASH_MEMORY_KIB", "1"),
            ("FAILED_LOGINS", "0"),
        ];
        for (name, value) in bad {
            let error = config(&[(name, value)]).unwrap_err();
            assert!(error.contains(name), "{error}");
            assert!(name != "IDENTITY_KEY_ENCRYPTION_KEY" || !error.contains(value), "{error}");
        }
    }
}
