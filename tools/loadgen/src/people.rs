//! Accounts for a run.

use std::sync::Arc;

use anyhow::Context;
use entrenous_client::{
    Api, Client, Credential, Socket, SocketOptions, SyncFrom, SyncStart, Url,
    client::{Login, MemoryCursors, Options, RefreshingTokens},
    frame,
    frame::HeadKind,
    outgoing,
};
use entrenous_model::{DeviceId, IdGenerator, UserId};
use entrenous_protocol::rest::LoginDevice;
use futures::{StreamExt, TryStreamExt, stream};

use crate::output::progress;

const PASSWORD: &str = "load generator password";
/// Calls under way at once while accounts and conversations are made.
pub(crate) const CALLS_AT_ONCE: usize = 16;
/// Connections that open at once.
const CONNECTS_AT_ONCE: usize = 64;

/// Somebody signed in.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub(crate) user_id: UserId,
    pub(crate) server: Url,
    device_id: DeviceId,
    token: Arc<str>,
    refresh_token: Arc<str>,
}

/// Makes as many accounts, each signed in on one device.
pub(crate) async fn make(servers: &[Url], count: usize) -> anyhow::Result<Vec<Person>> {
    progress(&format!("making {count} accounts"));
    // Names of other runs on the same servers must not meet these.
    let run: u32 = rand::random();
    let first = servers.first().context("no server")?;
    let api = Api::new(first.clone())?;
    let making = (0..count).map(|number| {
        let api = api.clone();
        let server = servers.get(number % servers.len()).unwrap_or(first).clone();
        async move { sign_up(&api, server, &format!("load-{run:08x}-{number}")).await }
    });
    stream::iter(making).buffered(CALLS_AT_ONCE).try_collect().await
}

async fn sign_up(api: &Api, server: Url, name: &str) -> anyhow::Result<Person> {
    let user = api.register(name, PASSWORD, None).await.with_context(|| format!("cannot register {name}"))?;
    let device = LoginDevice { id: None, name: "load generator".to_owned(), platform: None };
    let tokens = api.login(name, PASSWORD, device).await.with_context(|| format!("cannot sign in {name}"))?;
    Ok(Person {
        user_id: user.id,
        server,
        device_id: tokens.device_id,
        token: tokens.access_token.into(),
        refresh_token: tokens.refresh_token.into(),
    })
}

/// Opens a connection for each, and syncs it from the head on if asked to.
pub(crate) async fn connect(people: &[Person], with_sync: bool) -> anyhow::Result<Vec<Socket>> {
    progress(&format!("opening {} connections", people.len()));
    let opening = people.iter().map(|person| person.connect(with_sync));
    stream::iter(opening).buffered(CONNECTS_AT_ONCE).try_collect().await
}

impl Person {
    /// The REST calls of this login.
    pub(crate) fn api(&self) -> anyhow::Result<Api> {
        Ok(Api::new(self.server.clone())?.with_token(&self.token))
    }

    /// Starts a client that stays.
    pub(crate) fn stay(&self, options: Options) -> anyhow::Result<Client> {
        let api = Api::new(self.server.clone())?;
        let login = Login {
            api: api.clone(),
            user_id: self.user_id,
            device_id: self.device_id,
            access_token: self.token.to_string(),
        };
        let tokens = RefreshingTokens::new(api, &*self.refresh_token);
        Ok(Client::start(login, tokens, MemoryCursors, options))
    }

    async fn connect(&self, with_sync: bool) -> anyhow::Result<Socket> {
        let credential = Credential::Header(self.token.to_string());
        let mut socket = Socket::connect(&self.server, &credential, SocketOptions::default()).await?;
        wait_for(&mut socket, HeadKind::ConnectionEvent).await?;
        if with_sync {
            let start = SyncStart { from: Some(SyncFrom::Now), ..SyncStart::default() };
            socket.send(outgoing::sync(IdGenerator.next(), &start)).await?;
            wait_for(&mut socket, HeadKind::SyncComplete).await?;
        }
        Ok(socket)
    }
}

async fn wait_for(socket: &mut Socket, kind: HeadKind) -> anyhow::Result<()> {
    loop {
        let text = socket.next().await?;
        let head = frame::head(&text)?;
        anyhow::ensure!(head.kind != HeadKind::Error, "the server refuses: {text}");
        if head.kind == kind {
            return Ok(());
        }
    }
}
