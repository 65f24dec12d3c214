//! Each service with its own user on a real server.

use async_nats::{Client, ConnectOptions, jetstream};
use entrenous_local_servers::{
    Nats, NatsSpec, NatsUser, Password,
    permissions::{EVENTS_API_PREFIX, EVENTS_CONSUMERS, EVENTS_READER, Service},
};
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
        spec.users.push(NatsUser::events_reader(Password::Plain(plain(EVENTS_READER))));
        Ok(Self { nats: Nats::start(&spec).await?, _home: home })
    }

    async fn connect(&self, service: Service) -> anyhow::Result<Connection> {
        self.connect_as(service.name()).await
    }

    async fn connect_as(&self, user: &str) -> anyhow::Result<Connection> {
        let (refusals, refused) = mpsc::unbounded_channel();
        let options = ConnectOptions::with_user_and_password(user.to_owned(), plain(user))
            .custom_inbox_prefix(format!("_INBOX.{user}"))
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

fn plain(user: &str) -> String {
    format!("password-of-{user}")
}

fn password(service: Service) -> Password {
    Password::Plain(plain(service.name()))
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
    let wrong = ConnectOptions::with_user_and_password("gateway".to_owned(), plain("identity"));
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
        (Service::Identity, "entrenous.rpc.delivery-tracker.advance_cursors"),
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

/// A stream with two events, as the message store makes it.
async fn publish_events(store: &mut Connection) -> anyhow::Result<jetstream::Context> {
    let events = jetstream::new(store.client.clone());
    let config = jetstream::stream::Config {
        name: "EVENTS".to_owned(),
        subjects: vec!["entrenous.events.>".to_owned()],
        ..Default::default()
    };
    events.create_stream(config.clone()).await?;
    events.update_stream(config).await?;
    for event in ["one", "two"] {
        events.publish("entrenous.events.entry.appended", event.into()).await?.await?;
    }
    store.expect_no_refusal().await?;
    Ok(events)
}

/// The payloads of the first messages of a consumer, each acknowledged, and the acknowledgement confirmed.
async fn read(consumer: jetstream::consumer::PullConsumer, count: usize) -> anyhow::Result<Vec<String>> {
    let mut messages = consumer.messages().await?;
    let mut read = Vec::new();
    while read.len() < count {
        let message = tokio::time::timeout(LIMIT, messages.next()).await?.transpose()?;
        let message = message.ok_or_else(|| anyhow::anyhow!("no event"))?;
        message.double_ack().await.map_err(|error| anyhow::anyhow!("{error}"))?;
        read.push(String::from_utf8(message.payload.to_vec())?);
    }
    Ok(read)
}

#[tokio::test]
async fn events_go_from_the_store_to_the_tracker() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut store = server.connect(Service::MessageStore).await?;
    publish_events(&mut store).await?;
    let mut tracker = server.connect(Service::DeliveryTracker).await?;
    let stream = jetstream::new(tracker.client.clone()).get_stream("EVENTS").await?;
    let config = jetstream::consumer::pull::Config { durable_name: Some("tracker".to_owned()), ..Default::default() };
    let consumer = stream.get_or_create_consumer("tracker", config).await?;
    assert_eq!(read(consumer, 2).await?, ["one", "two"]);
    tracker.expect_no_refusal().await
}

fn consumer(name: &str) -> jetstream::consumer::pull::Config {
    jetstream::consumer::pull::Config { durable_name: Some(name.to_owned()), ..Default::default() }
}

#[tokio::test]
async fn outsiders_read_events() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut store = server.connect(Service::MessageStore).await?;
    let events = publish_events(&mut store).await?;
    for name in EVENTS_CONSUMERS {
        events.create_consumer_on_stream(consumer(name), "EVENTS").await?;
    }
    let mut reader = server.connect_as(EVENTS_READER).await?;
    let context = jetstream::with_prefix(reader.client.clone(), EVENTS_API_PREFIX);
    let stream = context.get_stream("EVENTS").await?;
    assert_eq!(stream.cached_info().state.messages, 2);
    for name in EVENTS_CONSUMERS {
        let consumer = context.get_consumer_from_stream(name, "EVENTS").await?;
        assert_eq!(read(consumer, 2).await?, ["one", "two"], "{name}");
        let left = stream.consumer_info(name).await?;
        assert_eq!((left.num_pending, left.num_ack_pending), (0, 0), "what {name} acknowledged has arrived");
    }
    reader.expect_no_refusal().await
}

#[tokio::test]
async fn outsiders_do_nothing_but_read_events() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut store = server.connect(Service::MessageStore).await?;
    let events = publish_events(&mut store).await?;
    events.create_consumer_on_stream(consumer("tracker"), "EVENTS").await?;
    let mut reader = server.connect_as(EVENTS_READER).await?;
    for subject in [
        "entrenous.events.entry.appended",
        "entrenous.live.7",
        "entrenous.presence.report",
        "entrenous.rpc.identity.jwks",
        "entrenous.rpc.nobody.fence",
        "_INBOX.gateway.forged",
        "_INBOX.events-reader.forged",
        "$JS.API.STREAM.CREATE.OTHER",
        "$JS.API.STREAM.UPDATE.EVENTS",
        "$JS.API.STREAM.DELETE.EVENTS",
        "$JS.API.STREAM.PURGE.EVENTS",
        "$JS.API.STREAM.MSG.DELETE.EVENTS",
        "$JS.API.STREAM.MSG.GET.EVENTS",
        "$JS.API.STREAM.NAMES",
        "$JS.API.CONSUMER.CREATE.EVENTS",
        "$JS.API.CONSUMER.CREATE.EVENTS.reader-1",
        "$JS.API.CONSUMER.DURABLE.CREATE.EVENTS.reader-1",
        "$JS.API.CONSUMER.DELETE.EVENTS.reader-1",
        "$JS.API.CONSUMER.INFO.EVENTS.tracker",
        "$JS.API.CONSUMER.MSG.NEXT.EVENTS.tracker",
        "$JS.API.CONSUMER.MSG.NEXT.EVENTS.reader-1",
        "$JS.ACK.EVENTS.tracker.1.1.1.1.1",
        "EVENTS.API.STREAM.PURGE.EVENTS",
        "EVENTS.API.CONSUMER.MSG.NEXT.EVENTS.tracker",
    ] {
        reader.client.publish(subject, "forged".into()).await?;
        reader.expect_refusal(subject).await?;
    }
    for subject in
        [">", "entrenous.>", "entrenous.events.>", "entrenous.live.*", "_INBOX.>", "_INBOX.gateway.>", "$JS.>"]
    {
        let _subscriber = reader.client.subscribe(subject).await?;
        reader.expect_refusal(subject).await?;
    }
    Ok(())
}

/// What a server answers goes to the reply subject that the request names, whoever may publish there. In an account of its
/// own that subject is another one.
#[tokio::test]
async fn outsiders_cannot_have_events_delivered_to_the_services() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut store = server.connect(Service::MessageStore).await?;
    let events = publish_events(&mut store).await?;
    events.create_consumer_on_stream(consumer("reader-1"), "EVENTS").await?;
    let mut gateway = server.connect(Service::Gateway).await?;
    let mut live = gateway.client.subscribe("entrenous.live.7").await?;
    gateway.expect_no_refusal().await?;
    let mut reader = server.connect_as(EVENTS_READER).await?;
    let next = "EVENTS.API.CONSUMER.MSG.NEXT.EVENTS.reader-1";
    reader.client.publish_with_reply(next, "entrenous.live.7", "".into()).await?;
    reader.expect_no_refusal().await?;
    // Nobody is there in the readers' account, so the request went for nothing: the event is still the first one.
    let context = jetstream::with_prefix(reader.client.clone(), EVENTS_API_PREFIX);
    assert_eq!(read(context.get_consumer_from_stream("reader-1", "EVENTS").await?, 1).await?, ["one"]);
    store.client.publish("entrenous.live.7", "genuine".into()).await?;
    let first = tokio::time::timeout(LIMIT, live.next()).await?;
    assert_eq!(first.map(|message| message.payload), Some("genuine".into()));
    Ok(())
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
