//! What every request needs.

use std::sync::Arc;

use entrenous_auth::Claims;
use entrenous_bus::{Bus, LivePublisher};
use entrenous_db::{Connection, Database, DbError};
use entrenous_model::{Clock, DeviceId, LoginId, Timestamp, UserId};
use entrenous_protocol::{live::UserNotice, rest::Tokens};

use crate::{
    config::Limits,
    domain::secrets::Secrets,
    error::RequestError,
    keyring::Keyring,
    metrics::chain,
    passwords::Passwords,
    store::{attempts::AttemptLimit, users::UserRow},
};

/// Notices of this service tell nothing about the store's incarnation.
const INCARNATION: u64 = 0;

/// The parts of the service. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct AppState(Arc<Parts>);

/// What [`AppState`] is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) database: Database,
    pub(crate) bus: Bus,
    pub(crate) live: LivePublisher,
    pub(crate) keyring: Keyring,
    pub(crate) passwords: Passwords,
    pub(crate) secrets: Secrets,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) limits: Limits,
    pub(crate) tokens: entrenous_auth::Settings,
}

impl AppState {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    pub(crate) fn database(&self) -> &Database {
        &self.0.database
    }

    pub(crate) fn bus(&self) -> &Bus {
        &self.0.bus
    }

    pub(crate) fn live(&self) -> &LivePublisher {
        &self.0.live
    }

    pub(crate) fn keyring(&self) -> &Keyring {
        &self.0.keyring
    }

    pub(crate) fn passwords(&self) -> &Passwords {
        &self.0.passwords
    }

    pub(crate) fn secrets(&self) -> &Secrets {
        &self.0.secrets
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// The present moment.
    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// A connection from the pool.
    pub(crate) async fn connection(&self) -> Result<Connection, DbError> {
        self.0.database.get().await
    }

    /// The limit on wrong passwords.
    pub(crate) fn attempt_limit(&self) -> AttemptLimit {
        AttemptLimit { max: self.0.limits.failed_logins, window: self.0.limits.failed_logins_window }
    }

    /// What a login or a refresh answers.
    pub(crate) fn tokens(
        &self,
        user: UserRow,
        device_id: DeviceId,
        login_id: LoginId,
        refresh_token: String,
    ) -> Result<Tokens, RequestError> {
        let now = self.now();
        let signer = self.0.keyring.signer(now).ok_or(RequestError::NoSigningKey)?;
        let claims = Claims {
            sub: user.id.into(),
            device_id,
            username: user.username.clone(),
            role: user.role(),
            iat: now.unix_seconds(),
            exp: (now + self.0.limits.access_token).unix_seconds(),
            iss: self.0.tokens.token_issuer.clone(),
            aud: self.0.tokens.token_audience.clone(),
            sid: login_id,
        };
        Ok(Tokens {
            access_token: signer.issue(&claims),
            refresh_token,
            token_type: "Bearer".to_owned(),
            expires_in: self.0.limits.access_token.as_secs(),
            user: user.into(),
            device_id,
        })
    }

    /// Tells the gateways that logins of a user have ended. When that fails, they learn it from the list of ended logins.
    pub(crate) async fn announce_ended(&self, user_id: UserId, login_ids: Vec<LoginId>) {
        if login_ids.is_empty() {
            return;
        }
        let notice = UserNotice::LoginsEnded { login_ids };
        if let Err(error) = self.0.live.publish_notice(user_id.as_uuid(), INCARNATION, &notice).await {
            tracing::warn!(error = chain(&error), "ended logins not announced");
        }
    }

    /// Tells the gateways that what a user allows others has changed. False when that failed.
    pub(crate) async fn announce_privacy(&self, user_id: UserId) -> bool {
        let notice = UserNotice::PrivacyChanged {};
        let sent = self.0.live.publish_notice(user_id.as_uuid(), INCARNATION, &notice).await;
        sent.inspect_err(|error| tracing::warn!(error = chain(error), "changed privacy not announced")).is_ok()
    }
}
