//! Accounts for a run.

use std::sync::Arc;

use anyhow::Context;
use entrenous_client::{
    Api, ApiError, Client, Credential, Socket, SocketOptions, SyncFrom, SyncStart, Url,
    client::{Login, MemoryCursors, Options, RefreshingTokens},
    frame::{self, Body, HeadKind},
    outgoing,
};
use entrenous_model::{DeviceId, IdGenerator, UserId};
use entrenous_protocol::{Code, rest::LoginDevice};
use futures::{StreamExt, TryStreamExt, stream};

use crate::output::Bar;

const PASSWORD: &str = "load generator password";
/// Calls under way at once while accounts and conversations are made.
pub(crate) const CALLS_AT_ONCE: usize = 16;
/// Connections that open at once.
const CONNECTS_AT_ONCE: usize = 64;
/// Entries of each conversation that one `sync` sends. Source: docs/protocol.md, section 3, at most 1,000.
const SYNC_LIMIT: u32 = 1_000;

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
    let bar = Bar::of(&format!("making {count} accounts"), count);
    // Names of other runs on the same servers must not meet these.
    let run: u32 = rand::random();
    let first = servers.first().context("no server")?;
    let api = Api::new(first.clone())?;
    let making = (0..count).map(|number| {
        let api = api.clone();
        let server = servers.get(number % servers.len()).unwrap_or(first).clone();
        let bar = &bar;
        async move { sign_up(&api, server, &format!("load-{run:08x}-{number}")).await.inspect(|_| bar.step()) }
    });
    stream::iter(making).buffered(CALLS_AT_ONCE).try_collect().await
}

async fn sign_up(api: &Api, server: Url, name: &str) -> anyhow::Result<Person> {
    let registered = api.register(name, PASSWORD, None).await;
    // The name is nobody else's: where it is taken, a first request that got no answer took it.
    let is_taken = |error: &ApiError| error.refusal().is_some_and(|refusal| refusal.code == Code::Conflict.as_str());
    if let Err(error) = registered
        && !is_taken(&error)
    {
        return Err(error).with_context(|| format!("cannot register {name}"));
    }
    let device = LoginDevice { id: None, name: "load generator".to_owned(), platform: None };
    let tokens = api.login(name, PASSWORD, device).await.with_context(|| format!("cannot sign in {name}"))?;
    Ok(Person {
        user_id: tokens.user.id,
        server,
        device_id: tokens.device_id,
        token: tokens.access_token.into(),
        refresh_token: tokens.refresh_token.into(),
    })
}

/// How much of its conversations a connection gets when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    /// It does not sync.
    None,
    /// What comes from now on.
    Now,
    /// Everything.
    Start,
}

/// Opens a connection for each.
pub(crate) async fn connect(people: &[Person], sync: Sync) -> anyhow::Result<Vec<Socket>> {
    let bar = Bar::of(&format!("opening {} connections", people.len()), people.len());
    let opening = people.iter().map(async |person| person.connect(sync).await.inspect(|_| bar.step()));
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

    /// Opens a connection: it is authenticated, and has synced as it was asked to.
    pub(crate) async fn connect(&self, sync: Sync) -> anyhow::Result<Socket> {
        let credential = Credential::Header(self.token.to_string());
        let mut socket = Socket::connect(&self.server, &credential, SocketOptions::default()).await?;
        wait_for(&mut socket, HeadKind::ConnectionEvent).await?;
        let from = match sync {
            Sync::None => return Ok(socket),
            Sync::Now => SyncFrom::Now,
            Sync::Start => SyncFrom::Start,
        };
        let start = SyncStart { from: Some(from), limit: Some(SYNC_LIMIT), ..SyncStart::default() };
        socket.send(outgoing::sync(IdGenerator.next(), &start)).await?;
        let complete = wait_for(&mut socket, HeadKind::SyncComplete).await?;
        if let Body::SyncComplete(complete) = frame::parse(&complete)?.body {
            let is_whole = complete.conversations.iter().all(|conversation| !conversation.has_more);
            anyhow::ensure!(is_whole, "there is more than one sync sends: give fewer messages or conversations");
        }
        Ok(socket)
    }
}

async fn wait_for(socket: &mut Socket, kind: HeadKind) -> anyhow::Result<String> {
    loop {
        let text = socket.next().await?;
        let head = frame::head(&text)?;
        anyhow::ensure!(head.kind != HeadKind::Error, "the server refuses: {text}");
        if head.kind == kind {
            return Ok(text.as_str().to_owned());
        }
    }
}
