//! Each service with its own user on a real server.

use async_nats::{Client, ConnectOptions, jetstream};
use entrenous_local_servers::{Nats, NatsSpec, NatsUser, Password, permissions::Service};
use futures::StreamExt;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::LIMIT;

struct Server {
    nats: Nats,
    _home: TempDir,
}

/// A connection, and what the server refused it.
struct Connection {
    client: Client,
    refused: mpsc::UnboundedReceiver<String>,
}

impl Server {
    async fn start() -> anyhow::Result<Self> {
        let home = tempfile::tempdir()?;
        let mut spec = NatsSpec::new(home.path());
        spec.users = Service::ALL.map(|service| NatsUser::service(service, password(service))).to_vec();
        Ok(Self { nats: Nats::start(&spec).await?, _home: home })
    }

    async fn connect(&self, service: Service) -> anyhow::Result<Connection> {
        let (refusals, refused) = mpsc::unbounded_channel();
        let options = ConnectOptions::with_user_and_password(service.name().to_owned(), plain(service))
            .custom_inbox_prefix(format!("_INBOX.{}", service.name()))
            .event_callback(move |event| {
                let refusals = refusals.clone();
                async move {
                    if let async_nats::Event::ServerError(error) = event {
                        // The test may have ended.
                        refusals.send(error.to_string()).unwrap_or_default();
                    }
                }
            });
        Ok(Connection { client: options.connect(self.nats.url()).await?, refused })
    }
}

impl Connection {
    /// Waits for the server's word that it refused something about this subject.
    async fn expect_refusal(&mut self, subject: &str) -> anyhow::Result<()> {
        let refusal = tokio::time::timeout(LIMIT, self.refused.recv()).await?.unwrap_or_default();
        anyhow::ensure!(refusal.to_lowercase().contains("permissions violation"), "{refusal}");
        anyhow::ensure!(refusal.to_lowercase().contains(&subject.to_lowercase()), "{refusal} is not about {subject}");
        Ok(())
    }

    /// Everything sent so far has reached the server and was taken.
    ///
    /// The server works in order: when it refuses what is sent last, it has seen the rest.
    async fn expect_no_refusal(&mut self) -> anyhow::Result<()> {
        self.client.publish("fence", "".into()).await?;
        self.expect_refusal("fence").await
    }
}

fn plain(service: Service) -> String {
    format!("password-of-{}", service.name())
}

fn password(service: Service) -> Password {
    Password::Plain(plain(service))
}

async fn answer_one(server: &mut Connection, subject: &'static str) -> anyhow::Result<tokio::task::JoinHandle<()>> {
    let mut requests = server.client.queue_subscribe(subject, "replicas".to_owned()).await?;
    server.expect_no_refusal().await?;
    let server = server.client.clone();
    Ok(tokio::spawn(async move {
        if let Some(request) = requests.next().await
            && let Some(reply) = request.reply
        {
            // A failure shows as a missing answer.
            server.publish(reply, "answer".into()).await.unwrap_or_default();
        }
    }))
}

#[tokio::test]
async fn strangers_stay_outside() -> anyhow::Result<()> {
    let server = Server::start().await?;
    assert!(async_nats::connect(server.nats.url()).await.is_err());
    let wrong = ConnectOptions::with_user_and_password("gateway".to_owned(), plain(Service::Identity));
    assert!(wrong.connect(server.nats.url()).await.is_err());
    Ok(())
}

#[tokio::test]
async fn everybody_may_ask_whether_the_server_has_seen_it_all() -> anyhow::Result<()> {
    let server = Server::start().await?;
    for service in Service::ALL {
        let client = server.connect(service).await?.client;
        let error = client.request("entrenous.rpc.nobody.fence", "".into()).await.unwrap_err();
        assert_eq!(error.kind(), async_nats::RequestErrorKind::NoResponders, "{service:?}");
    }
    Ok(())
}

#[tokio::test]
async fn requests_are_answered() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut store = server.connect(Service::MessageStore).await?;
    let mut gateway = server.connect(Service::Gateway).await?;
    let answering = answer_one(&mut store, "entrenous.rpc.message-store.append_batch").await?;
    let request = gateway.client.request("entrenous.rpc.message-store.append_batch", "question".into());
    let answer = tokio::time::timeout(LIMIT, request).await??;
    assert_eq!(answer.payload, "answer");
    answering.await?;
    store.expect_no_refusal().await?;
    gateway.expect_no_refusal().await
}

#[tokio::test]
async fn nobody_subscribes_to_what_others_are_asked_or_answered() -> anyhow::Result<()> {
    let server = Server::start().await?;
    for service in Service::ALL {
        let mut connection = server.connect(service).await?;
        for other in Service::ALL.into_iter().filter(|other| *other != service) {
            for subject in [format!("entrenous.rpc.{}.>", other.name()), format!("_INBOX.{}.>", other.name())] {
                let _subscriber = connection.client.subscribe(subject.clone()).await?;
                connection.expect_refusal(&subject).await?;
            }
        }
        for subject in [">", "_INBOX.>", "entrenous.>", "entrenous.rpc.>", "entrenous.events.>"] {
            let _subscriber = connection.client.subscribe(subject).await?;
            connection.expect_refusal(subject).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn nobody_asks_or_tells_what_is_not_theirs() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let refused = [
        (Service::Presence, "entrenous.rpc.identity.log_in"),
        (Service::Identity, "entrenous.rpc.message-store.append_batch"),
        (Service::Gateway, "entrenous.live.7"),
        (Service::Gateway, "entrenous.events.entry.appended"),
        (Service::DeliveryTracker, "entrenous.events.entry.appended"),
        (Service::Identity, "$JS.API.STREAM.DELETE.EVENTS"),
        (Service::DeliveryTracker, "$JS.API.STREAM.DELETE.EVENTS"),
        (Service::Presence, "_INBOX.gateway.forged"),
        (Service::MessageStore, "entrenous.presence.report"),
    ];
    for (service, subject) in refused {
        let mut connection = server.connect(service).await?;
        connection.client.publish(subject, "forged".into()).await?;
        connection.expect_refusal(subject).await?;
    }
    Ok(())
}

#[tokio::test]
async fn live_frames_and_presence_reports_arrive() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut gateway = server.connect(Service::Gateway).await?;
    let mut live = gateway.client.subscribe("entrenous.live.7").await?;
    gateway.expect_no_refusal().await?;
    for service in Service::ALL.into_iter().filter(|service| *service != Service::Gateway) {
        let mut publisher = server.connect(service).await?;
        publisher.client.publish("entrenous.live.7", service.name().into()).await?;
        publisher.expect_no_refusal().await?;
        let frame = tokio::time::timeout(LIMIT, live.next()).await?;
        assert_eq!(frame.map(|frame| frame.payload), Some(service.name().into()));
    }
    let mut presence = server.connect(Service::Presence).await?;
    let mut reports = presence.client.subscribe("entrenous.presence.report").await?;
    presence.expect_no_refusal().await?;
    gateway.client.publish("entrenous.presence.report", "online".into()).await?;
    assert!(tokio::time::timeout(LIMIT, reports.next()).await?.is_some());
    Ok(())
}

#[tokio::test]
async fn events_go_from_the_store_to_the_tracker() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut store = server.connect(Service::MessageStore).await?;
    let events = jetstream::new(store.client.clone());
    let config = jetstream::stream::Config {
        name: "EVENTS".to_owned(),
        subjects: vec!["entrenous.events.>".to_owned()],
        ..Default::default()
    };
    events.create_stream(config.clone()).await?;
    events.update_stream(config).await?;
    events.publish("entrenous.events.entry.appended", "event".into()).await?.await?;
    store.expect_no_refusal().await?;

    let mut tracker = server.connect(Service::DeliveryTracker).await?;
    let stream = jetstream::new(tracker.client.clone()).get_stream("EVENTS").await?;
    let config = jetstream::consumer::pull::Config { durable_name: Some("tracker".to_owned()), ..Default::default() };
    let consumer = stream.get_or_create_consumer("tracker", config).await?;
    let mut messages = consumer.messages().await?;
    let message = tokio::time::timeout(LIMIT, messages.next()).await?.transpose()?;
    let message = message.ok_or_else(|| anyhow::anyhow!("no event"))?;
    message.double_ack().await.map_err(|error| anyhow::anyhow!("{error}"))?;
    tracker.expect_no_refusal().await
}

#[tokio::test]
async fn a_second_answer_is_refused() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut identity = server.connect(Service::Identity).await?;
    let gateway = server.connect(Service::Gateway).await?;
    let mut requests = identity.client.subscribe("entrenous.rpc.identity.get_users").await?;
    identity.expect_no_refusal().await?;
    let mut answers = gateway.client.subscribe("_INBOX.gateway.mine").await?;
    gateway.client.publish_with_reply("entrenous.rpc.identity.get_users", "_INBOX.gateway.mine", "?".into()).await?;
    tokio::time::timeout(LIMIT, requests.next()).await?;
    for _ in 0..2 {
        identity.client.publish("_INBOX.gateway.mine", "!".into()).await?;
    }
    identity.expect_refusal("_INBOX.gateway.mine").await?;
    assert!(tokio::time::timeout(LIMIT, answers.next()).await?.is_some());
    gateway.client.drain().await?;
    assert!(answers.next().await.is_none(), "only one answer arrives");
    Ok(())
}
