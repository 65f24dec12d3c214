//! The AsyncAPI document: WebSocket frames, and what travels over NATS. Made from the types of the protocol, kept as
//! docs/asyncapi.json, and served by gateways. Source: AsyncAPI 3.0.

pub mod frames;

use entrenous_bus::subjects;
use entrenous_protocol::{
    event::{CloudEvent, ENTRY_APPENDED, EntryAppended},
    failure::Failure,
    live::{ChannelMembership, LIVE_SHARDS, TypingBroadcast, UserNotice},
    rpc::{
        self,
        presence::{GatewayReport, ListRequest, ReplicaBeat, StatusReport},
    },
};
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use frames::{FROM_CLIENTS, FROM_SERVER, Frame, FrameId};

const DESCRIPTION: &str = "What travels over WebSocket between clients and gateways, and over NATS between the services \
    and to programs outside. `docs/protocol.md` is the contract with clients; the REST calls are in `openapi.json`. \
    Schemas say what a receiver must be ready for: members that may be left out are not required, and unknown members \
    and types are to be ignored.";

/// The document, as it is kept and served.
pub fn text() -> String {
    let mut text = serde_json::to_string_pretty(&document()).unwrap_or_default();
    text.push('\n');
    text
}

/// The document.
pub fn document() -> Value {
    let mut parts = Parts::new();
    parts.websocket();
    parts.requests();
    parts.live();
    parts.presence();
    parts.typing();
    parts.events();
    let mut document = json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Entrenous",
            "version": "1",
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "gateway": {
                "host": "localhost:8080",
                "protocol": "ws",
                "description": "Any gateway; `wss` behind a proxy with a certificate. Subprotocol `entrenous.v1`.",
            },
            "nats": {
                "host": "nats:4222",
                "protocol": "nats",
                "description": "Inside a deployment: each service has a user with permissions (docs/nats-permissions.md).",
            },
        },
        "channels": parts.channels,
        "operations": parts.operations,
        "components": {"messages": parts.messages, "schemas": parts.generator.take_definitions(true)},
    });
    unlink(&mut document);
    document
}

/// Descriptions come from the comments of the code, whose links lead nowhere here.
fn unlink(value: &mut Value) {
    match value {
        Value::String(text) => *text = text.replace("[`", "`").replace("`]", "`"),
        Value::Array(items) => items.iter_mut().for_each(unlink),
        Value::Object(members) => members.values_mut().for_each(unlink),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What the document is put together from.
struct Parts {
    generator: SchemaGenerator,
    channels: Map<String, Value>,
    operations: Map<String, Value>,
    messages: Map<String, Value>,
}

/// A subject on NATS.
struct Subject<'a> {
    name: &'a str,
    address: String,
    help: &'a str,
    /// By name: what is sent there.
    messages: Vec<(String, Value)>,
    /// As the document's application, which is all services together, sees it.
    action: &'static str,
}

fn reference(path: &str) -> Value {
    json!({"$ref": format!("#/{path}")})
}

impl Parts {
    fn new() -> Self {
        let settings = SchemaSettings::draft07().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Self {
            generator: settings.into_generator(),
            channels: Map::new(),
            operations: Map::new(),
            messages: Map::new(),
        }
    }

    /// Adds a message to the components and gives its name there.
    fn message(&mut self, name: String, message: Value) -> String {
        self.messages.insert(name.clone(), message);
        name
    }

    fn websocket(&mut self) {
        let both = [("client", "receive", FROM_CLIENTS), ("server", "send", FROM_SERVER)];
        let mut in_channel = Map::new();
        for (side, action, frames) in both {
            let mut of_operation = Vec::new();
            for frame in frames {
                let message = self.frame(frame);
                let name = self.message(format!("{side}.{}", frame.name), message);
                in_channel.insert(name.clone(), reference(&format!("components/messages/{name}")));
                of_operation.push(reference(&format!("channels/websocket/messages/{name}")));
            }
            let operation = json!({
                "action": action,
                "channel": reference("channels/websocket"),
                "summary": format!("Frames that the {side} sends."),
                "messages": of_operation,
            });
            self.operations.insert(format!("websocket.{side}"), operation);
        }
        let channel = json!({
            "address": "/api/v1/ws",
            "description": "One JSON object in each text frame. The token comes in `Authorization`, in a subprotocol \
                `bearer.<token>`, or in a first frame `authenticate`.",
            "servers": [reference("servers/gateway")],
            "messages": in_channel,
            "bindings": {"ws": {"method": "GET"}},
        });
        self.channels.insert("websocket".to_owned(), channel);
    }

    fn frame(&mut self, frame: &Frame) -> Value {
        let id = match frame.id {
            FrameId::Required => json!({"type": "string", "format": "uuid"}),
            FrameId::Optional => json!({"type": ["string", "null"], "format": "uuid"}),
        };
        let mut required = vec!["type"];
        let mut meta = json!({"type": "object"});
        if frame.id == FrameId::Required {
            required.extend(["id", "payload"]);
        }
        if let Some(target) = frame.target {
            required.push("meta");
            meta["required"] = json!(["target_id"]);
            meta["properties"] = json!({"target_id": {"type": "string", "format": "uuid", "description": target}});
        }
        let payload = (frame.payload)(&mut self.generator);
        json!({
            "name": frame.name,
            "summary": frame.summary,
            "payload": {
                "type": "object",
                "required": required,
                "properties": {"type": {"const": frame.name}, "id": id, "payload": payload, "meta": meta},
            },
        })
    }

    fn requests(&mut self) {
        let failure = self.generator.subschema_for::<Failure>();
        for method in rpc::describe(&mut self.generator) {
            let name = format!("rpc.{}.{}", method.service, method.name);
            let request = json!({"name": "request", "summary": method.help.trim(), "payload": method.request});
            let answer = json!({
                "name": "answer",
                "payload": {"oneOf": [
                    {"type": "object", "required": ["ok"], "properties": {"ok": method.response}},
                    {"type": "object", "required": ["err"], "properties": {"err": failure}},
                ]},
            });
            let answers = format!("{name}.answer");
            let answer = self.message(answers.clone(), answer);
            let channel = json!({
                "address": null,
                "description": "The reply subject of the request.",
                "servers": [reference("servers/nats")],
                "messages": {answer.clone(): reference(&format!("components/messages/{answer}"))},
            });
            self.channels.insert(answers.clone(), channel);
            self.subject(Subject {
                name: &name,
                address: subjects::rpc(method.service, method.name),
                help: method.help.trim(),
                messages: vec![(format!("{name}.request"), request)],
                action: "receive",
            });
            if let Some(operation) = self.operations.get_mut(&name) {
                operation["reply"] = json!({
                    "channel": reference(&format!("channels/{answers}")),
                    "messages": [reference(&format!("channels/{answers}/messages/{answer}"))],
                });
            }
        }
    }

    fn live(&mut self) {
        let notice = self.generator.subschema_for::<UserNotice>();
        let membership = self.generator.subschema_for::<ChannelMembership>();
        let preamble = "A preamble of 64 bytes (libs/protocol/src/live.rs)";
        let entry = json!({
            "name": "entry",
            "summary": format!("{preamble}, then the frame that clients get, byte for byte."),
            "contentType": "application/octet-stream",
        });
        let notice = json!({
            "name": "user notice",
            "summary": format!("{preamble}, then this in JSON."),
            "contentType": "application/octet-stream",
            "payload": notice,
        });
        let membership = json!({
            "name": "membership",
            "summary": format!("{preamble}, then this in JSON: somebody joined or left a channel."),
            "contentType": "application/octet-stream",
            "payload": membership,
        });
        self.subject(Subject {
            name: "live",
            address: "entrenous.live.{shard}".to_owned(),
            help: "What gateways hand to connections; at most once.",
            messages: vec![
                ("live.entry".to_owned(), entry),
                ("live.membership".to_owned(), membership),
                ("live.user_notice".to_owned(), notice),
            ],
            action: "send",
        });
        if let Some(channel) = self.channels.get_mut("live") {
            let shard = format!("0 to {}: a hash of the conversation or user.", LIVE_SHARDS - 1);
            channel["parameters"] = json!({"shard": {"description": shard}});
        }
    }

    fn presence(&mut self) {
        let report = self.generator.subschema_for::<GatewayReport>();
        let list = self.generator.subschema_for::<ListRequest>();
        let beat = self.generator.subschema_for::<ReplicaBeat>();
        let status = self.generator.subschema_for::<StatusReport>();
        let gateway = subjects::presence_status(Uuid::nil()).replace(&Uuid::nil().to_string(), "{gateway}");
        for (name, address, help, summary, payload) in [
            (
                "presence.report",
                subjects::PRESENCE_REPORT.to_owned(),
                "What gateways tell presence; at most once.",
                "Who is connected to a gateway, and whom its clients watch.",
                report,
            ),
            (
                "presence.list",
                subjects::PRESENCE_LIST.to_owned(),
                "What presence asks of gateways; at most once.",
                "A gateway is to say everything again.",
                list,
            ),
            (
                "presence.replica",
                subjects::PRESENCE_REPLICA.to_owned(),
                "What replicas of presence tell each other; at most once.",
                "A replica is there, and what users chose.",
                beat,
            ),
            (
                "presence.status",
                gateway,
                "What presence tells one gateway; at most once.",
                "What users show whom clients of the gateway watch.",
                status,
            ),
        ] {
            let message = json!({"name": name, "summary": summary, "payload": payload});
            self.subject(Subject {
                name,
                address,
                help,
                messages: vec![(format!("{name}.message"), message)],
                action: "send",
            });
        }
        if let Some(channel) = self.channels.get_mut("presence.status") {
            channel["parameters"] = json!({"gateway": {"description": "The id that the gateway drew at its start."}});
        }
    }

    fn typing(&mut self) {
        let payload = self.generator.subschema_for::<TypingBroadcast>();
        let typing = json!({"name": "typing", "summary": "Somebody is typing, or no longer.", "payload": payload});
        self.subject(Subject {
            name: "typing",
            address: subjects::TYPING.to_owned(),
            help: "What gateways tell each other; at most once.",
            messages: vec![("typing.message".to_owned(), typing)],
            action: "send",
        });
    }

    fn events(&mut self) {
        let event = self.generator.subschema_for::<CloudEvent<EntryAppended>>();
        let batch = json!({
            "name": ENTRY_APPENDED,
            "summary": "Entries were appended to logs: one message for each committed batch.",
            "contentType": "application/cloudevents-batch+json",
            "payload": {"type": "array", "minItems": 1, "items": event},
        });
        self.subject(Subject {
            name: "events.entry.appended",
            address: subjects::EVENTS_ENTRY_APPENDED.to_owned(),
            help: "The JetStream stream EVENTS, for programs outside (docs/events.md); at least once.",
            messages: vec![("events.entry.appended.batch".to_owned(), batch)],
            action: "send",
        });
    }

    fn subject(&mut self, subject: Subject<'_>) {
        let Subject { name, address, help, messages, action } = subject;
        let mut in_channel = Map::new();
        let mut of_operation = Vec::new();
        for (message, value) in messages {
            let message = self.message(message, value);
            in_channel.insert(message.clone(), reference(&format!("components/messages/{message}")));
            of_operation.push(reference(&format!("channels/{name}/messages/{message}")));
        }
        let channel = json!({
            "address": address,
            "description": help,
            "servers": [reference("servers/nats")],
            "messages": in_channel,
        });
        self.channels.insert(name.to_owned(), channel);
        let operation = json!({
            "action": action,
            "channel": reference(&format!("channels/{name}")),
            "summary": help,
            "messages": of_operation,
        });
        self.operations.insert(name.to_owned(), operation);
    }
}
