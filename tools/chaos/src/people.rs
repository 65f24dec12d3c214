//! People who talk.

use anyhow::Context;
use entrenous_client::{Api, Connection, Credential, SocketOptions, Url};
use entrenous_model::{DeviceId, UserId};
use entrenous_protocol::rest::{LoginDevice, Tokens};

/// Everybody's password.
pub const PASSWORD: &str = "correct horse battery staple";

/// Somebody, signed in on a device.
#[derive(Debug, Clone)]
pub struct Person {
    /// Who.
    pub name: String,
    /// Who.
    pub user_id: UserId,
    /// On which device.
    pub device_id: DeviceId,
    /// The REST calls of this login.
    pub api: Api,
    /// For renewing the login.
    pub refresh_token: String,
}

impl Person {
    /// Makes an account and signs in.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn new(gateway: &Url, name: &str) -> anyhow::Result<Self> {
        let api = Api::new(gateway.clone())?;
        api.register(name, PASSWORD, None).await.with_context(|| format!("cannot register {name}"))?;
        Self::login(gateway, name, "first").await
    }

    /// Signs in on a new device.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn login(gateway: &Url, name: &str, device: &str) -> anyhow::Result<Self> {
        let api = Api::new(gateway.clone())?;
        let device = LoginDevice { id: None, name: device.to_owned(), platform: None };
        let tokens = api.login(name, PASSWORD, device).await.with_context(|| format!("cannot sign in {name}"))?;
        Ok(Self::with_tokens(&api, name, tokens))
    }

    /// From the answer to a login or refresh.
    pub fn with_tokens(api: &Api, name: &str, tokens: Tokens) -> Self {
        Self {
            name: name.to_owned(),
            user_id: tokens.user.id,
            device_id: tokens.device_id,
            api: api.with_token(&tokens.access_token),
            refresh_token: tokens.refresh_token,
        }
    }

    /// The access token.
    pub fn token(&self) -> &str {
        self.api.token().unwrap_or_default()
    }

    /// Opens a connection at this login's gateway.
    ///
    /// # Errors
    /// When there is none.
    pub async fn connect(&self) -> anyhow::Result<Connection> {
        let credential = Credential::Subprotocol(self.token().to_owned());
        Ok(Connection::connect(self.api.base(), &credential, SocketOptions::default()).await?)
    }
}
