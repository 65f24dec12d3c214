//! The document is one, is kept up to date, and says what really travels.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;

use entrenous_asyncapi::{
    document,
    frames::{FROM_CLIENTS, FROM_SERVER, Frame},
    text,
};
use entrenous_model::{Clock, DeviceId, IdGenerator, SystemClock};
use entrenous_protocol::{
    Code, Entry, Failure, Limits,
    device_message::DeviceMessage,
    entry::{ConversationKind, EntryKind, MemberChange, MemberContent, Role},
    event::{CloudEvent, ENTRY_APPENDED, EntryAppended},
    frame::{self, ReactionCount, SyncedConversation, SyncedQueue},
    live::{ChannelMembership, Receipt, ReceiptKind, Typing, UserNotice},
    rpc::{Reply, identity, store},
    scheduled::ScheduledEvent,
    status::UserStatus,
};
use jsonschema::Validator;
use serde_json::{Map, Value, json};

const PATH: &str = "../../docs/asyncapi.json";
const META_SCHEMA: &str = include_str!("data/asyncapi-3.0.0.json");
const CLIENT_FRAMES: &str = include_str!("../../../libs/protocol/tests/data/client-frames.json");
const FRAME_SOURCE: &str = include_str!("../../../libs/protocol/src/frame.rs");
const ID: &str = "01900000-0000-7000-8000-000000000001";

/// `UPDATE_GENERATED=1` writes the file anew.
#[test]
fn generated_asyncapi_is_up_to_date() {
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(PATH, text()).unwrap();
    }
    let committed = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(committed == text(), "docs/asyncapi.json is not up to date: make generate");
}

#[test]
fn it_is_an_asyncapi_document() {
    let meta: Value = serde_json::from_str(META_SCHEMA).unwrap();
    let validator = jsonschema::validator_for(&meta).unwrap();
    assert_valid(&validator, &document());
    // What the schema is for.
    for (pointer, wrong) in [("/channels/websocket/servers", json!("gateway")), ("/asyncapi", json!("2.6.0"))] {
        let mut document = document();
        *document.pointer_mut(pointer).unwrap() = wrong;
        assert!(!validator.is_valid(&document), "{pointer}");
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn check(value: &Value, document: &Value) {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            let pointer = reference.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        match value {
            Value::Array(items) => items.iter().for_each(|item| check(item, document)),
            Value::Object(members) => members.values().for_each(|member| check(member, document)),
            _ => {}
        }
    }
    check(&document(), &document());
}

fn assert_valid(validator: &Validator, value: &Value) {
    let errors: Vec<String> =
        validator.iter_errors(value).map(|error| format!("{} at {}", error, error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{value:#}");
}

/// Checks against the payload of a message. Unknown members are faults here: what is sent must be described.
fn payload_of(message: &str, is_strict: bool) -> Validator {
    let mut components = document()["components"].clone();
    assert!(components["messages"][message]["payload"].is_object(), "{message}");
    if is_strict {
        forbid_unknown(&mut components);
    }
    let reference = format!("#/components/messages/{message}/payload");
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "allOf": [{"$ref": reference}],
        "components": components,
    });
    jsonschema::validator_for(&schema).unwrap()
}

fn forbid_unknown(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if members.get("properties").is_some_and(Value::is_object) && !members.contains_key("oneOf") {
                members.entry("additionalProperties").or_insert(json!(false));
            }
            members.values_mut().for_each(forbid_unknown);
        }
        Value::Array(items) => items.iter_mut().for_each(forbid_unknown),
        _ => {}
    }
}

#[test]
fn frames_of_clients_are_described() {
    let frames: Vec<Value> = serde_json::from_str(CLIENT_FRAMES).unwrap();
    for frame in &frames {
        assert_valid(&payload_of(&format!("client.{}", frame["type"].as_str().unwrap()), false), frame);
    }
    let shown: BTreeSet<&str> = frames.iter().filter_map(|frame| frame["type"].as_str()).collect();
    assert_eq!(shown, names(FROM_CLIENTS));
}

#[test]
fn what_the_parser_refuses_by_its_shape_is_no_described_frame() {
    for (name, bad) in [
        ("sync", json!({"type": "sync", "payload": {"from": "yesterday"}})),
        ("sync", json!({"type": "sync", "payload": {"cursors": {ID: -1}}})),
        ("ping", json!({"type": "ping", "id": 7})),
        ("authenticate", json!({"type": "authenticate", "payload": {}})),
        (
            "group_message",
            json!({"type": "group_message", "id": ID, "payload": {"content": {"text": "x"}}, "meta": {}}),
        ),
        (
            "group_message",
            json!({"type": "group_message", "payload": {"content": {"text": "x"}}, "meta": {"target_id": ID}}),
        ),
        ("chat_message", json!({"type": "chat_message", "id": ID, "payload": {}, "meta": {"target_id": ID}})),
    ] {
        assert!(frame::parse(&bad.to_string(), &Limits::default()).is_err(), "{bad}");
        assert!(!payload_of(&format!("client.{name}"), false).is_valid(&bad), "{bad}");
    }
}

fn names(frames: &[Frame]) -> BTreeSet<&'static str> {
    frames.iter().map(|frame| frame.name).collect()
}

/// Every type of docs/protocol.md that clients may send.
const CLIENT_TYPES: [&str; 24] = [
    "authenticate",
    "chat_message",
    "group_message",
    "edit_message",
    "delete_message",
    "add_reaction",
    "remove_reaction",
    "pin_message",
    "unpin_message",
    "join_conversation",
    "leave_conversation",
    "delivery_receipt",
    "read_receipt",
    "typing_indicator",
    "status_update",
    "watch_status",
    "unwatch_status",
    "subscribe",
    "unsubscribe",
    "sync",
    "device_message",
    "device_message_ack",
    "ping",
    "no_such_type",
];

#[test]
fn exactly_the_types_that_are_served_are_described() {
    let is_served = |name: &&str| match frame::parse(&json!({"type": name}).to_string(), &Limits::default()) {
        Ok(_) => true,
        Err(rejected) => rejected.failure.code != Code::UnknownType,
    };
    assert_eq!(CLIENT_TYPES.into_iter().filter(is_served).collect::<BTreeSet<_>>(), names(FROM_CLIENTS));
    let printed = FRAME_SOURCE.split("print(\"").skip(1).filter_map(|rest| rest.split('"').next());
    for name in printed {
        assert!(names(FROM_SERVER).contains(name), "{name} is sent and not described");
    }
}

/// Every frame that the server prints.
fn receipt(kind: ReceiptKind, device_id: Option<DeviceId>) -> Receipt {
    let (conversation_id, user_id) = (IdGenerator.next(), IdGenerator.next());
    Receipt { kind, conversation_id, user_id, device_id, seq: 1, at: SystemClock.now() }
}

fn device_message() -> DeviceMessage {
    DeviceMessage {
        seq: 7,
        id: IdGenerator.next(),
        sender_id: IdGenerator.next(),
        sender_device_id: IdGenerator.next(),
        content: serde_json::value::to_raw_value(&json!({"ciphertext": "aGk="})).unwrap(),
        sent_at: SystemClock.now(),
    }
}

fn member_content() -> MemberContent {
    let (user_id, by) = (IdGenerator.next(), IdGenerator.next());
    MemberContent { user_id, change: MemberChange::Added, role: Some(Role::Member), by, members: Vec::new() }
}

fn own_settings() -> Map<String, Value> {
    serde_json::from_value(json!({"muted_until": "2026-11-21T00:00:00Z", "pinned": true})).unwrap()
}

fn server_frames() -> Vec<String> {
    let now = SystemClock.now();
    let synced = SyncedConversation {
        conversation_id: IdGenerator.next(),
        first_seq: 1,
        starts_at: 2,
        last_seq: 3,
        sent_up_to: 3,
        has_more: false,
    };
    let id = Some(IdGenerator.next());
    let mut frames = vec![
        frame::connected(IdGenerator.next(), IdGenerator.next(), IdGenerator.next(), 30_000, now, "00ff"),
        frame::token_expiring(60_000),
        frame::draining(0),
        frame::degraded(true),
        frame::degraded(false),
        frame::ack_entry(IdGenerator.next(), IdGenerator.next(), 7, now),
        frame::ack(IdGenerator.next()),
        frame::pong(None),
        frame::pong(id),
        frame::heartbeat(Some(7), 0),
        frame::heartbeat(None, 9),
        frame::receipt(&receipt(ReceiptKind::Delivered, None)),
        frame::receipt(&receipt(ReceiptKind::Read, Some(IdGenerator.next()))),
        frame::typing(&Typing { conversation_id: IdGenerator.next(), user_id: IdGenerator.next(), typing: true }),
        frame::status_update(&UserStatus::hidden(IdGenerator.next())),
        frame::status_update(&UserStatus {
            text: Some("in a train".to_owned()),
            last_seen_at: Some(SystemClock.now()),
            ..UserStatus::hidden(IdGenerator.next())
        }),
        frame::conversation_joined(IdGenerator.next(), 1),
        frame::conversation_left(IdGenerator.next(), 1),
        frame::channel_member_changed(IdGenerator.next(), 1, &member_content()),
        frame::message_hidden(IdGenerator.next(), IdGenerator.next()),
        frame::reactions_changed(
            IdGenerator.next(),
            IdGenerator.next(),
            &[ReactionCount { reaction: "👍".to_owned(), count: 2 }],
        ),
        frame::device_messages_expired(7),
        frame::scheduled(IdGenerator.next(), ScheduledEvent::Sent),
        frame::scheduled(IdGenerator.next(), ScheduledEvent::Stale),
        frame::scheduled(IdGenerator.next(), ScheduledEvent::Failed),
        frame::settings_changed(IdGenerator.next(), &own_settings()),
        frame::sync_complete(id, &[synced], SyncedQueue { last_seq: 7, has_more: true }),
        frame::sync_complete(None, &[], SyncedQueue::default()),
        frame::device_message(&device_message()),
        Failure::not_found().frame(id),
        Failure::invalid("payload", "is wrong").with_retry_after_ms(3).frame(None),
    ];
    frames.extend(entry_frames());
    frames
}

fn entry_frames() -> Vec<String> {
    use EntryKind::{Deletion, Edit, Member, Message, Pin, Reaction, Settings, Unpin, Unreaction};
    let resource = json!({
        "id": ID, "conversation_id": ID, "seq": 42, "kind": "message", "sender_id": ID, "sender_device_id": ID,
        "message_type": "text", "content": {"scheme": "mls", "ciphertext": "aGk="}, "reply_to": null,
        "thread_id": null, "attachments": [], "mentions": [ID], "metadata": {}, "signature": null,
        "sent_at": "2026-11-20T10:30:00.123Z", "edited_at": null, "edit_count": 0, "deleted": false, "expires_at": null
    });
    let kinds = [Message, Edit, Deletion, Reaction, Unreaction, Pin, Unpin, Member, Settings];
    let of = |kind: EntryKind, conversation| {
        let mut entry: Entry = serde_json::from_str(&resource.to_string()).unwrap();
        entry.kind = kind;
        entry.frame(conversation, IdGenerator.next()).get().to_owned()
    };
    let in_groups = kinds.into_iter().map(|kind| of(kind, ConversationKind::Group));
    in_groups.chain([of(Message, ConversationKind::Direct)]).collect()
}

#[test]
fn frames_of_the_server_are_described() {
    let frames: Vec<Value> = server_frames().iter().map(|frame| serde_json::from_str(frame).unwrap()).collect();
    for frame in &frames {
        assert_valid(&payload_of(&format!("server.{}", frame["type"].as_str().unwrap()), true), frame);
    }
    let shown: BTreeSet<&str> = frames.iter().filter_map(|frame| frame["type"].as_str()).collect();
    assert_eq!(shown, names(FROM_SERVER));
}

#[test]
fn what_travels_over_nats_is_described() {
    let request = store::ConversationRequest { caller: IdGenerator.next(), conversation_id: IdGenerator.next() };
    assert_valid(&payload_of("rpc.message-store.get_conversation.request", true), &json!(request));
    let answer = Reply::Ok(identity::LoginAdmitted { is_new_device: true });
    assert_valid(&payload_of("rpc.identity.admit_login.answer", true), &json!(answer));
    let refusal = Reply::<()>::Err(Failure::invalid("ids", "too many"));
    assert_valid(&payload_of("rpc.identity.users.answer", true), &json!(refusal));
    let notice = UserNotice::LoginsEnded { login_ids: vec![IdGenerator.next()] };
    assert_valid(&payload_of("live.user_notice", true), &json!(notice));
    let notice = UserNotice::SettingsChanged { conversation_id: IdGenerator.next(), settings: own_settings() };
    assert_valid(&payload_of("live.user_notice", true), &json!(notice));
    let membership = ChannelMembership { content: member_content(), moderators: vec![IdGenerator.next()] };
    assert_valid(&payload_of("live.membership", true), &json!(membership));
    let data = EntryAppended {
        conversation_id: IdGenerator.next(),
        seq: 1,
        id: IdGenerator.next(),
        kind: EntryKind::Message,
        message_type: None,
        sender_id: IdGenerator.next(),
        countable_no: 1,
        batch_id: IdGenerator.next(),
    };
    let event = CloudEvent::new("x/1".into(), "message-store", ENTRY_APPENDED, "x".into(), SystemClock.now(), data);
    let batch = payload_of("events.entry.appended.batch", true);
    assert_valid(&batch, &json!([event]));
    assert!(!batch.is_valid(&json!([])));
}

#[test]
fn nothing_that_reaches_events_has_a_member_for_content() {
    let schemas = &document()["components"]["schemas"];
    let members: Vec<&String> = schemas["EntryAppended"]["properties"].as_object().unwrap().keys().collect();
    for word in ["content", "ciphertext", "metadata"] {
        assert!(!members.iter().any(|member| member.contains(word)), "{members:?}");
    }
}
