//! Access tokens: whose are taken, and where the keys come from.

mod jwks;
mod pace;

use std::time::Duration;

use entrenous_auth::{Claims, TokenError, Verifier};
use entrenous_bus::Bus;
use entrenous_config::ConfigError;
use entrenous_protocol::{
    Code, Failure,
    rpc::{Done, identity},
};
use tokio::{sync::Mutex, time::Instant};

use crate::{config::Config, state::CALL_MAX};
use jwks::Jwks;
pub(crate) use jwks::check_url as check_jwks_url;
use pace::Pace;

/// How often the keys are read again from identity, which publishes a key an hour before it signs.
const IDENTITY_REFRESH: Duration = Duration::from_secs(300);

/// Checks access tokens, and keeps the keys for it.
#[derive(Debug)]
pub struct Tokens {
    verifier: Verifier,
    source: Source,
    refresh: Duration,
    pace: Mutex<Pace>,
}

/// Where the keys come from.
#[derive(Debug)]
enum Source {
    /// Identity, which signs our own tokens.
    Identity,
    /// An outside issuer, at its address.
    Outside(Jwks),
    /// The settings: a secret that an outside issuer shares with us.
    Settings,
}

impl Tokens {
    /// As the settings say.
    ///
    /// # Errors
    /// Names the variable that is wrong.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        config.outside_issuer.validate()?;
        let outside = &config.outside_issuer;
        let (issuer, audience) = (config.tokens.token_issuer.clone(), config.tokens.token_audience.clone());
        let refresh = Duration::from_secs(u64::from(outside.token_jwks_refresh_seconds));
        let (verifier, source, refresh) = match (&outside.token_jwks_url, &outside.token_hs256_secret) {
            (Some(url), _) => (Verifier::outside(issuer, audience), Source::Outside(Jwks::new(url.clone())?), refresh),
            (None, Some(secret)) => {
                let verifier = Verifier::shared_secret(issuer, audience, secret.expose().as_bytes());
                let wrong = |error: entrenous_auth::SecretError| ConfigError::Value {
                    name: "TOKEN_HS256_SECRET",
                    problem: error.to_string(),
                };
                (verifier.map_err(wrong)?, Source::Settings, refresh)
            }
            (None, None) => (Verifier::new(issuer, audience), Source::Identity, IDENTITY_REFRESH),
        };
        Ok(Self { verifier, source, refresh, pace: Mutex::default() })
    }

    /// Whether an outside issuer signs people in, and identity does not.
    pub fn are_outside(&self) -> bool {
        !matches!(self.source, Source::Identity)
    }

    /// How often the keys are to be read again.
    pub fn refresh_interval(&self) -> Duration {
        self.refresh
    }

    /// What a token says. A key that is not known is asked for, once in a while.
    ///
    /// # Errors
    /// `token_expired`, `unauthenticated`; `unavailable` when the keys cannot be had.
    pub async fn verify(&self, bus: &Bus, token: &str) -> Result<Claims, Failure> {
        let claims = match self.verifier.verify(token) {
            Err(TokenError::UnknownKey) => {
                self.refresh(bus).await?;
                self.verifier.verify(token)
            }
            verified => verified,
        };
        claims.map_err(|error| match error {
            TokenError::Expired => Failure::new(Code::TokenExpired, ""),
            TokenError::UnknownKey | TokenError::Invalid => {
                Failure::new(Code::Unauthenticated, "the token is not good")
            }
        })
    }

    /// Reads the keys again, unless that was done a moment ago; then what came of it holds. The keys that are there stay
    /// until there are new ones.
    ///
    /// # Errors
    /// `unavailable` when whoever has them is away, `internal` when they cannot be used.
    pub async fn refresh(&self, bus: &Bus) -> Result<(), Failure> {
        // Held while it asks: whoever else has an unknown key waits for the same answer.
        let mut pace = self.pace.lock().await;
        if let Some(outcome) = pace.last(Instant::now()) {
            return outcome;
        }
        let outcome = self.read_keys(bus).await;
        pace.note(Instant::now(), outcome.clone());
        outcome
    }

    async fn read_keys(&self, bus: &Bus) -> Result<(), Failure> {
        let keys = match &self.source {
            Source::Identity => bus.call::<identity::Jwks>(&Done {}, CALL_MAX).await?,
            Source::Outside(jwks) => jwks.fetch().await.map_err(|error| {
                tracing::warn!(%error, "TOKEN_JWKS_URL: no keys; those that are there stay");
                Failure::unavailable("the issuer of the tokens is away")
            })?,
            Source::Settings => return Ok(()),
        };
        self.verifier.set_keys(&keys).map_err(|error| {
            tracing::error!(%error, "there are keys that cannot be used");
            Failure::internal()
        })
    }
}
