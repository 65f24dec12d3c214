//! Who talks: the login, its tokens and how they are renewed.

use anyhow::Context;
use entrenous_client::{Api, ApiError};
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
    username: String,
    password: Secret,
    slot: DeviceSlot,
    tokens: Tokens,
}

impl Account {
    /// Signs in on the device that was used last time, or on a new one.
    pub(super) async fn login(
        api: Api,
        username: String,
        password: Secret,
        mut slot: DeviceSlot,
    ) -> anyhow::Result<Self> {
        let tokens = sign_in(&api, &username, &password, &mut slot).await?;
        Ok(Self { api: api.with_token(&tokens.access_token), username, password, slot, tokens })
    }

    /// The REST calls of this login.
    pub(super) fn api(&self) -> &Api {
        &self.api
    }

    pub(super) fn token(&self) -> &str {
        &self.tokens.access_token
    }

    pub(super) fn user_id(&self) -> UserId {
        self.tokens.user.id
    }

    /// Gets a new access token: by the refresh token, else by the password.
    pub(super) async fn renew(&mut self) -> anyhow::Result<()> {
        self.tokens = match self.api.refresh(&self.tokens.refresh_token).await {
            Ok(tokens) => tokens,
            Err(error) if error.is_outcome_unknown() => return Err(error).context("cannot renew the login"),
            Err(_) => sign_in(&self.api, &self.username, &self.password, &mut self.slot).await?,
        };
        self.api = self.api.with_token(&self.tokens.access_token);
        Ok(())
    }
}

async fn sign_in(api: &Api, username: &str, password: &Secret, slot: &mut DeviceSlot) -> anyhow::Result<Tokens> {
    let login = async |id: Option<DeviceId>| {
        let device = LoginDevice { id, name: device_name(), platform: Some(PLATFORM.to_owned()) };
        api.login(username, password.expose(), device).await
    };
    let tokens = match login(slot.device_id()).await {
        // The device was removed meanwhile: begin anew.
        Err(error) if slot.device_id().is_some() && error.is(Code::NotFound) => login(None).await,
        result => result,
    };
    let tokens = tokens.map_err(explain).with_context(|| format!("cannot sign in as {username}"))?;
    slot.remember(tokens.device_id)?;
    Ok(tokens)
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
