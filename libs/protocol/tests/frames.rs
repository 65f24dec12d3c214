//! Whatever a client sends is taken or refused with a code; nothing panics, nothing is taken that was not meant.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use entrenous_model::ConversationId;
use entrenous_protocol::{
    Code, Limits,
    frame::{self, ClientFrame, SyncFrom},
    status::{ChosenStatus, STATUS_TEXT_MAX, WATCHED_MAX},
};
use proptest::prelude::*;
use serde_json::{Value, json};

const ID: &str = "01900000-0000-7000-8000-000000000001";
const OTHER: &str = "01900000-0000-7000-8000-000000000002";

fn refused(text: &str) -> Code {
    match frame::parse(text, &Limits::default()) {
        Ok((_, frame)) => panic!("taken: {frame:?}"),
        Err(rejected) => rejected.failure.code,
    }
}

fn message(content: &Value) -> Value {
    json!({"type": "group_message", "id": ID, "payload": {"content": content}, "meta": {"target_id": OTHER}})
}

#[test]
fn frames_of_every_type_are_taken() {
    let limits = Limits::default();
    let is_ping: fn(&ClientFrame) -> bool = |frame| matches!(frame, ClientFrame::Ping);
    for (text, is_expected) in [
        (json!({"type": "ping"}), is_ping),
        (json!({"type": "authenticate", "payload": {"token": "x"}}), |frame| {
            matches!(frame, ClientFrame::Authenticate { .. })
        }),
        (
            json!({"type": "sync", "id": ID}),
            |frame| matches!(frame, ClientFrame::Sync(sync) if sync.cursors.is_empty()),
        ),
        (json!({"type": "sync", "payload": {"cursors": {OTHER: 3}, "from": "now", "limit": 5}}), |frame| {
            matches!(frame, ClientFrame::Sync(sync) if sync.from == Some(SyncFrom::Now)
                && sync.cursors.get(&OTHER.parse::<ConversationId>().unwrap()) == Some(&3))
        }),
        (json!({"type": "delivery_receipt", "payload": {"conversation_id": OTHER, "seq": 1}}), |frame| {
            matches!(frame, ClientFrame::DeliveryReceipt { seq: 1, .. })
        }),
        (json!({"type": "status_update", "payload": {"status": "busy", "text": ""}}), |frame| {
            matches!(frame, ClientFrame::StatusUpdate(choice) if choice.status == ChosenStatus::Busy
                && choice.text.is_none())
        }),
        (
            json!({"type": "watch_status", "payload": {"user_ids": [OTHER]}}),
            |frame| matches!(frame, ClientFrame::WatchStatus { user_ids } if user_ids.len() == 1),
        ),
        (json!({"type": "unwatch_status", "payload": {"user_ids": []}}), |frame| {
            matches!(frame, ClientFrame::UnwatchStatus { .. })
        }),
        (json!({"type": "subscribe", "payload": {"conversation_ids": [OTHER]}}), |frame| {
            matches!(frame, ClientFrame::Subscribe { .. })
        }),
        (message(&json!({"scheme": "mls", "ciphertext": "aGk=", "unknown": 1})), |frame| {
            matches!(frame, ClientFrame::GroupMessage { message, .. } if message.content.get()
                == r#"{"scheme":"mls","ciphertext":"aGk="}"#)
        }),
    ] {
        let (_, frame) = frame::parse(&text.to_string(), &limits).unwrap();
        assert!(is_expected(&frame), "{text} became {frame:?}");
    }
}

#[test]
fn statuses_and_those_who_are_watched_are_bounded() {
    let status = |payload: Value| json!({"type": "status_update", "payload": payload}).to_string();
    assert_eq!(refused(&status(json!({"status": "offline"}))), Code::Invalid);
    assert_eq!(refused(&status(json!({}))), Code::Invalid);
    assert_eq!(refused(&status(json!({"status": "busy", "text": "x".repeat(STATUS_TEXT_MAX + 1)}))), Code::Invalid);
    assert_eq!(refused(&status(json!({"status": "busy", "text": "a\0"}))), Code::Invalid);
    let watched = vec![OTHER; WATCHED_MAX + 1];
    let watch = json!({"type": "watch_status", "payload": {"user_ids": watched}});
    assert_eq!(refused(&watch.to_string()), Code::TooLarge);
}

/// Messages for one device, with these ids and this content.
fn for_device(ids: &[u128], content: &Value) -> String {
    let one =
        |id: &u128| json!({"id": uuid::Uuid::from_u128(*id), "user_id": ID, "device_id": OTHER, "content": content});
    let messages: Vec<Value> = ids.iter().map(one).collect();
    json!({"type": "device_message", "id": ID, "payload": {"messages": messages}}).to_string()
}

#[test]
fn device_messages_are_bounded_and_their_contents_comparable() {
    let hundred: Vec<u128> = (1..=100).collect();
    let (_, frame) = frame::parse(&for_device(&hundred, &json!({"b": 1, "a": "\0"})), &Limits::default()).unwrap();
    let ClientFrame::DeviceMessage(batch) = frame else { panic!("{frame:?}") };
    assert_eq!((batch.messages.len(), batch.complete_for), (100, None));
    assert_eq!(batch.messages[0].content.get(), r#"{"a":"\u0000","b":1}"#);
    assert_eq!(refused(&for_device(&[], &json!({}))), Code::Invalid);
    assert_eq!(refused(&for_device(&[hundred, vec![101]].concat(), &json!({}))), Code::Invalid);
    assert_eq!(refused(&for_device(&[1, 2, 1], &json!({}))), Code::Invalid);
    for content in [json!([]), json!("x"), json!(null)] {
        assert_eq!(refused(&for_device(&[1], &content)), Code::Invalid);
    }
    assert_eq!(refused(&for_device(&[1], &json!({"a": "x".repeat(64 * 1024)}))), Code::TooLarge);
    assert_eq!(refused(r#"{"type":"device_message_ack","payload":{"up_to":-1}}"#), Code::Invalid);
}

#[test]
fn bad_frames_get_their_code() {
    assert_eq!(refused(""), Code::Malformed);
    assert_eq!(refused("{"), Code::Malformed);
    assert_eq!(refused("[]"), Code::Malformed);
    assert_eq!(refused("7"), Code::Malformed);
    assert_eq!(refused(r#"{"type": 7}"#), Code::Malformed);
    assert_eq!(refused("{}"), Code::Invalid);
    assert_eq!(refused(r#"{"type":"ping","id":"x"}"#), Code::Invalid);
    assert_eq!(refused(r#"{"type":"ping","id":7}"#), Code::Invalid);
    assert_eq!(refused(r#"{"type":"no_such_type"}"#), Code::UnknownType);
    assert_eq!(refused(r#"{"type":"edit_message","payload":{}}"#), Code::Invalid);
    assert_eq!(refused(r#"{"type":"sync","payload":{"cursors":{"x":1}}}"#), Code::Invalid);
    assert_eq!(refused(r#"{"type":"sync","payload":{"from":"yesterday"}}"#), Code::Invalid);
    assert_eq!(refused(&json!({"type": "sync", "payload": {"cursors": {OTHER: -1}}}).to_string()), Code::Invalid);
    assert_eq!(refused(&format!(r#"{{"type":"sync","payload":{{"limit":1{}}}}}"#, "0".repeat(400))), Code::Invalid);
    assert_eq!(
        refused(&format!(r#"{{"type":"sync","payload":{}{}}}"#, "[".repeat(9_000), "]".repeat(9_000))),
        Code::Invalid
    );
    assert_eq!(refused(&message(&json!({"text": "a\u{0}b"})).to_string()), Code::Invalid);
    assert_eq!(refused(&message(&json!({"scheme": 3, "ciphertext": "aGk="})).to_string()), Code::Invalid);
    let nested = format!(
        r#"{{"type":"group_message","id":"{ID}","payload":{{"content":{{"text":"x"}},"metadata":{}1{}}},"meta":{{"target_id":"{OTHER}"}}}}"#,
        r#"{"a":"#.repeat(500),
        "}".repeat(500)
    );
    assert_eq!(refused(&nested), Code::Invalid);
    let mut no_id = message(&json!({"text": "x"}));
    no_id["id"] = Value::Null;
    assert_eq!(refused(&no_id.to_string()), Code::Invalid);
    let mut no_target = message(&json!({"text": "x"}));
    no_target["meta"] = json!({});
    assert_eq!(refused(&no_target.to_string()), Code::Invalid);
}

#[test]
fn an_error_names_the_clients_frame_and_never_quotes_it() {
    let frame =
        json!({"type": "group_message", "id": ID, "payload": {"content": "top secret"}, "meta": {"target_id": OTHER}});
    let rejected = frame::parse(&frame.to_string(), &Limits::default()).unwrap_err();
    assert_eq!(rejected.id.unwrap().to_string(), ID);
    assert!(!rejected.failure.frame(rejected.id).contains("top secret"));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        Just(Value::from(ID)),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-z_]{1,12}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_frame() -> impl Strategy<Value = Value> {
    let r#type = prop_oneof![
        Just("chat_message"),
        Just("group_message"),
        Just("sync"),
        Just("ping"),
        Just("authenticate"),
        Just("delivery_receipt"),
        Just("subscribe"),
        Just("unsubscribe"),
        Just("edit_message"),
    ];
    let payload = prop_oneof![
        any_json(),
        any_json().prop_map(|content| json!({"content": content})),
        (any_json(), any_json()).prop_map(|(seq, id)| json!({"conversation_id": id, "seq": seq})),
        any_json().prop_map(|cursors| json!({"cursors": cursors})),
    ];
    (r#type, any_json(), payload, any_json())
        .prop_map(|(r#type, id, payload, meta)| json!({"type": r#type, "id": id, "payload": payload, "meta": meta}))
}

proptest! {
    #[test]
    fn any_text_is_answered(text in ".{0,200}") {
        let _ = frame::parse(&text, &Limits::default());
    }

    #[test]
    fn any_frame_is_taken_or_refused_as_the_clients_fault(frame in any_frame()) {
        if let Err(rejected) = frame::parse(&frame.to_string(), &Limits::default()) {
            prop_assert!(matches!(
                rejected.failure.code,
                Code::Malformed | Code::Invalid | Code::UnknownType | Code::TooLarge
            ), "{:?}", rejected);
            prop_assert!(serde_json::from_str::<Value>(&rejected.failure.frame(rejected.id)).is_ok());
        }
    }

    #[test]
    fn text_content_is_kept_as_it_is(text in "[^\u{0}]{1,100}") {
        let frame = message(&json!({"text": text}));
        let (_, parsed) = frame::parse(&frame.to_string(), &Limits::default()).unwrap();
        let ClientFrame::GroupMessage { message, .. } = parsed else { panic!("another type") };
        let content: Value = serde_json::from_str(message.content.get()).unwrap();
        prop_assert_eq!(content, json!({"text": text}));
    }
}
