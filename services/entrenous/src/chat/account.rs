//! Who talks: the login, and how its tokens are renewed.

use anyhow::Context;
use entrenous_client::{
    Api, ApiError,
    client::{Login, RefreshingTokens, RenewError, TokenSource},
};
use entrenous_config::Secret;
use entrenous_model::{DeviceId, UserId};
use entrenous_protocol::{
    Code,
    rest::{LoginDevice, Tokens},
};

use super::device::DeviceSlot;

const PLATFORM: &str = "terminal";

/// A login on this machine's device.
pub(super) struct Account {
    api: Api,
    login: Login,
    /// Held, so that no other terminal takes the same device.
    _slot: DeviceSlot,
}

impl Account {
    /// Signs in on the device that was used last time, or on a new one. Gives the source of further tokens too.
    pub(super) async fn login(
        api: Api,
        username: String,
        password: Secret,
        mut slot: DeviceSlot,
    ) -> anyhow::Result<(Self, LoginTokens)> {
        let known = slot.device_id();
        let tokens = match sign_in(&api, &username, &password, known).await {
            // The device was removed meanwhile: begin anew.
            Err(error) if known.is_some() && error.is(Code::NotFound) => {
                sign_in(&api, &username, &password, None).await
            }
            result => result,
        };
        let tokens = tokens.map_err(explain).with_context(|| format!("cannot sign in as {username}"))?;
        slot.remember(tokens.device_id)?;
        let login = Login::new(&api, &tokens);
        let refreshing = RefreshingTokens::new(api.clone(), tokens.refresh_token);
        let source = LoginTokens { api: api.clone(), username, password, device_id: tokens.device_id, refreshing };
        Ok((Self { api: api.with_token(&tokens.access_token), login, _slot: slot }, source))
    }

    /// The REST calls of this login.
    pub(super) fn api(&self) -> &Api {
        &self.api
    }

    pub(super) fn user_id(&self) -> UserId {
        self.login.user_id
    }

    /// What a client begins with.
    pub(super) fn to_login(&self) -> Login {
        self.login.clone()
    }

    /// From now on REST uses this token.
    pub(super) fn use_token(&mut self, token: &str) {
        if self.api.token() != Some(token) {
            self.api = self.api.with_token(token);
        }
    }
}

/// Renews by the refresh token, else by the password.
pub(super) struct LoginTokens {
    api: Api,
    username: String,
    password: Secret,
    device_id: DeviceId,
    refreshing: RefreshingTokens,
}

impl TokenSource for LoginTokens {
    async fn renew(&mut self) -> Result<String, RenewError> {
        match self.refreshing.renew().await {
            Err(RenewError::LoginEnded { .. }) => {}
            renewed => return renewed,
        }
        let tokens = sign_in(&self.api, &self.username, &self.password, Some(self.device_id)).await?;
        self.refreshing = RefreshingTokens::new(self.api.clone(), tokens.refresh_token);
        Ok(tokens.access_token)
    }
}

async fn sign_in(
    api: &Api,
    username: &str,
    password: &Secret,
    device_id: Option<DeviceId>,
) -> Result<Tokens, ApiError> {
    let device = LoginDevice { id: device_id, name: device_name(), platform: Some(PLATFORM.to_owned()) };
    api.login(username, password.expose(), device).await
}

fn explain(error: ApiError) -> anyhow::Error {
    let is_unknown = error.is(Code::Unauthenticated);
    let error = anyhow::Error::new(error);
    if is_unknown { error.context("wrong name or password (--register makes an account)") } else { error }
}

fn device_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    if host.is_empty() { "entrenous chat".to_owned() } else { format!("entrenous chat on {host}") }
}
