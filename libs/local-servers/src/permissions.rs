//! What each service may do on NATS: the same list for `entrenous dev` and for deployments.
//!
//! A service subscribes to requests for itself and to answers for itself, and to nothing that is meant for others.

use std::time::Duration;

/// How many answers a server may give to one request, and for how long.
///
/// Requests carry a deadline of seconds; the permission is kept longer than any of them.
const RESPONSES: Responses = Responses { count_max: 1, within: Duration::from_secs(120) };

/// A request that nobody serves: the server itself says so at once, which proves that it has seen everything before.
const FENCE: &str = "entrenous.rpc.nobody.fence";

/// The stream of events.
const EVENTS_STREAM: &str = "EVENTS";

/// The user of everybody outside who reads events.
pub const EVENTS_READER: &str = "events-reader";

/// The environment variable of nats-server that holds the password of [`EVENTS_READER`] in a deployment.
pub const EVENTS_READER_PASSWORD_VARIABLE: &str = "NATS_EVENTS_READER_PASSWORD";

/// The durable consumers of the stream that [`EVENTS_READER`] may read with. The message store makes them. They are a
/// fixed few because permissions cannot name consumers by a prefix, and whoever may make consumers may also let them
/// deliver to any subject.
pub const EVENTS_CONSUMERS: [&str; 4] = ["reader-1", "reader-2", "reader-3", "reader-4"];

/// A service with a user of its own on NATS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// Connections of clients.
    Gateway,
    /// Users, logins, devices.
    Identity,
    /// Conversations and their log.
    MessageStore,
    /// Cursors and receipts.
    DeliveryTracker,
    /// Who is online.
    Presence,
}

/// What a user may do. Subjects may have wildcards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// Subjects that may be published to.
    pub publish: Vec<String>,
    /// Subjects that may be subscribed to.
    pub subscribe: Vec<String>,
    /// Answers to what came in, to whatever subject it named.
    pub responses: Option<Responses>,
}

/// The right to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Responses {
    /// How many messages for one request.
    pub count_max: u32,
    /// How long after it.
    pub within: Duration,
}

impl Service {
    /// Every service.
    pub const ALL: [Self; 5] =
        [Self::Gateway, Self::Identity, Self::MessageStore, Self::DeliveryTracker, Self::Presence];

    /// Its name: the user on NATS, and the token in subjects.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Identity => "identity",
            Self::MessageStore => "message-store",
            Self::DeliveryTracker => "delivery-tracker",
            Self::Presence => "presence",
        }
    }

    /// The environment variable of nats-server that holds its password in a deployment.
    pub fn password_variable(self) -> String {
        format!("NATS_{}_PASSWORD", self.name().replace('-', "_").to_uppercase())
    }

    /// Its permissions.
    pub fn permissions(self) -> Permissions {
        let callees = self.callees().iter().map(|callee| format!("entrenous.rpc.{}.>", callee.name()));
        let mut permissions = Permissions {
            publish: callees.chain([FENCE.to_owned()]).collect(),
            subscribe: vec![format!("_INBOX.{}.>", self.name())],
            responses: None,
        };
        if self.is_server() {
            permissions.subscribe.push(format!("entrenous.rpc.{}.>", self.name()));
            permissions.responses = Some(RESPONSES);
            permissions.publish.push("entrenous.live.>".to_owned());
        }
        self.add_own(&mut permissions);
        permissions
    }

    /// Whom it asks.
    fn callees(self) -> &'static [Self] {
        match self {
            Self::Gateway => &[Self::Identity, Self::MessageStore, Self::DeliveryTracker, Self::Presence],
            Self::MessageStore => &[Self::Identity, Self::DeliveryTracker],
            Self::DeliveryTracker | Self::Identity => &[Self::MessageStore],
            Self::Presence => &[],
        }
    }

    /// Whether others ask it; such services also publish live frames.
    fn is_server(self) -> bool {
        self != Self::Gateway
    }

    fn add_own(self, permissions: &mut Permissions) {
        let Permissions { publish, subscribe, .. } = permissions;
        match self {
            Self::Gateway => {
                subscribe.push("entrenous.live.>".to_owned());
                subscribe.push("entrenous.typing".to_owned());
                subscribe.extend(["entrenous.presence.list".to_owned(), "entrenous.presence.status.*".to_owned()]);
                publish.extend(["entrenous.presence.report".to_owned(), "entrenous.typing".to_owned()]);
            }
            Self::Presence => {
                let between_replicas = "entrenous.presence.replica".to_owned();
                subscribe.extend(["entrenous.presence.report".to_owned(), between_replicas.clone()]);
                publish.extend(["entrenous.presence.list".to_owned(), "entrenous.presence.status.*".to_owned()]);
                publish.push(between_replicas);
            }
            Self::MessageStore => publish.extend(["entrenous.events.>".to_owned(), "$JS.API.>".to_owned()]),
            Self::DeliveryTracker => publish.extend(consuming(EVENTS_STREAM)),
            Self::Identity => {}
        }
    }
}

/// What stands before `STREAM.INFO.EVENTS` and the like for [`EVENTS_READER`], in place of `$JS.API`: that is where each
/// account would find streams of its own.
pub const EVENTS_API_PREFIX: &str = "EVENTS.API";

/// What [`EVENTS_READER`] may do. It is in an account of its own, into which nothing else of the services' leads: there
/// not even the reply subject of a request can be one of theirs.
pub fn events_reader() -> Permissions {
    Permissions {
        publish: events_services().into_iter().map(|service| service.local).collect(),
        subscribe: vec![format!("_INBOX.{EVENTS_READER}.>")],
        responses: None,
    }
}

/// A subject of the services' account that readers of events may ask at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventsService {
    pub(crate) subject: String,
    /// What it is called in the readers' account.
    pub(crate) local: String,
    /// Answers with many messages.
    pub(crate) is_stream: bool,
}

/// What reading takes: to look at stream and consumer, to ask for messages, to acknowledge them.
pub(crate) fn events_services() -> Vec<EventsService> {
    let api = |request: String, is_stream| EventsService {
        subject: format!("$JS.API.{request}"),
        local: format!("{EVENTS_API_PREFIX}.{request}"),
        is_stream,
    };
    let of_consumer = |name| {
        let acks = format!("$JS.ACK.{EVENTS_STREAM}.{name}.>");
        [
            api(format!("CONSUMER.INFO.{EVENTS_STREAM}.{name}"), false),
            api(format!("CONSUMER.MSG.NEXT.{EVENTS_STREAM}.{name}"), true),
            EventsService { local: acks.clone(), subject: acks, is_stream: false },
        ]
    };
    let stream = api(format!("STREAM.INFO.{EVENTS_STREAM}"), false);
    std::iter::once(stream).chain(EVENTS_CONSUMERS.into_iter().flat_map(of_consumer)).collect()
}

/// What a durable pull consumer of a stream needs: to make it, to ask for messages, to acknowledge them.
fn consuming(stream: &str) -> Vec<String> {
    vec![
        format!("$JS.API.STREAM.INFO.{stream}"),
        format!("$JS.API.CONSUMER.*.{stream}.>"),
        format!("$JS.API.CONSUMER.DURABLE.CREATE.{stream}.>"),
        format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.>"),
        format!("$JS.ACK.{stream}.>"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_hears_what_is_meant_for_others() {
        for service in Service::ALL {
            for other in Service::ALL.into_iter().filter(|other| *other != service) {
                let subscribe = service.permissions().subscribe;
                assert!(!subscribe.contains(&format!("_INBOX.{}.>", other.name())), "{service:?} {other:?}");
                assert!(!subscribe.contains(&format!("entrenous.rpc.{}.>", other.name())), "{service:?} {other:?}");
            }
        }
    }

    const DOCUMENT: &str = "../../docs/nats-permissions.md";
    const BEGIN: &str = "<!-- generated: make generate -->\n";
    const END: &str = "<!-- end of the generated part -->\n";

    fn table() -> String {
        let row = |(name, permissions): (&str, Permissions)| {
            let Permissions { publish, subscribe, responses } = permissions;
            let list = |subjects: Vec<String>| format!("`{}`", subjects.join("`<br>`"));
            let responses = responses.map_or("no", |_| "yes");
            format!("| {name} | {} | {} | {responses} |\n", list(publish), list(subscribe))
        };
        let services = Service::ALL.into_iter().map(|service| (service.name(), service.permissions()));
        let rows: String = services.chain([(EVENTS_READER, events_reader())]).map(row).collect();
        format!("\n| user | publishes to | subscribes to | answers |\n|---|---|---|---|\n{rows}\n")
    }

    #[test]
    fn generated_document_is_up_to_date() {
        let text = std::fs::read_to_string(DOCUMENT).unwrap();
        let (before, rest) = text.split_once(BEGIN).unwrap();
        let (_, after) = rest.split_once(END).unwrap();
        let wanted = format!("{before}{BEGIN}{}{END}{after}", table());
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            std::fs::write(DOCUMENT, &wanted).unwrap();
        } else {
            assert!(text == wanted, "docs/nats-permissions.md is not up to date: run make generate");
        }
    }

    #[test]
    fn password_variables_are_shell_names() {
        assert_eq!(Service::MessageStore.password_variable(), "NATS_MESSAGE_STORE_PASSWORD");
    }
}
