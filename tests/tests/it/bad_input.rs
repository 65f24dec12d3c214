//! What clients should never send, at both doors: each is answered with its code, and nothing breaks.

use entrenous_client::{
    Credential, Socket, SocketOptions,
    frame::{self, Body},
};
use entrenous_model::{ConversationId, EntryId, IdGenerator};
use entrenous_system_tests::{Person, Shape, System};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

use crate::support::{group, text};

#[tokio::test]
async fn bad_input_is_answered_and_harms_nobody() {
    let system = System::start(&Shape::one_process()).await.unwrap();
    let alice = Person::new(system.gateway(), "alice").await.unwrap();
    let bob = Person::new(system.gateway(), "bob").await.unwrap();
    let room = group(&alice, &[]).await;
    let foreign = group(&bob, &[]).await;
    frames_that_are_none(&alice).await;
    frames_with_bad_payloads(&alice, room, foreign).await;
    frames_without_their_parts(&alice, room).await;
    closing_frames(&alice).await;
    bodies(&alice, room, foreign).await;
    paths_and_methods(&alice).await;
    assert_eq!(alice.api.conversation(room).await.unwrap().last_seq, 1, "nothing of it was stored");
    assert_eq!(alice.api.send_message(room, &text("still there")).await.unwrap().seq, 2);
    system.stop().await;
}

async fn open(person: &Person) -> Socket {
    let credential = Credential::Header(person.token().to_owned());
    let mut socket = Socket::connect(person.api.base(), &credential, SocketOptions::default()).await.unwrap();
    assert!(matches!(frame::parse(&socket.next().await.unwrap()).unwrap().body, Body::Connected(_)));
    socket
}

/// The answer to a text: its id and code (`ack` for an ack).
async fn answer(socket: &mut Socket, text: impl Into<String>) -> (Option<EntryId>, String) {
    socket.send(text.into()).await.unwrap();
    loop {
        let frame = frame::parse(&socket.next().await.unwrap()).unwrap();
        match frame.body {
            Body::Error(refusal) => return (frame.id, refusal.code),
            Body::Ack(_) | Body::Pong | Body::SyncComplete(_) => return (frame.id, "ack".to_owned()),
            _ => {}
        }
    }
}

async fn frames_that_are_none(alice: &Person) {
    let mut socket = open(alice).await;
    let deep = format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000));
    for bad in [
        "",
        " ",
        "{",
        "null",
        "1",
        "[]",
        "\"ping\"",
        "{}",
        "{\"type\":null}",
        "{\"type\":1}",
        "{\"type\":[]}",
        "{\"type\":\"ping\"} x",
        "{'type':'ping'}",
        "{\"type\":\"ping\",\"payload\":}",
        &deep,
        "{\"type\":\"ping\",\"id\":5}",
        "{\"type\":\"ping\",\"id\":\"not-a-uuid\"}",
        "{\"type\":\"ping\",\"id\":\"\"}",
        "{\"type\":\"ping\",\"id\":{}}",
        "{\"type\":\"ping\",\"id\":1e999}",
        "\u{0}",
        "{\"type\":\"\\u0000\"}\u{0}",
    ] {
        let shown: String = bad.chars().take(60).collect();
        assert_eq!(answer(&mut socket, bad).await, (None, "invalid_request".to_owned()), "{shown:?}");
    }
    assert_eq!(answer(&mut socket, r#"{"type":"no_such_thing"}"#).await, (None, "unknown_type".to_owned()));
    let id: EntryId = IdGenerator.next();
    let unknown = json!({"type": "\u{0}", "id": id, "payload": {}}).to_string();
    assert_eq!(answer(&mut socket, unknown).await, (Some(id), "unknown_type".to_owned()));
    assert_eq!(
        answer(&mut socket, json!({"type": "ping", "id": id, "new": {}}).to_string()).await,
        (Some(id), "ack".into())
    );
}

/// Payloads of a message that are not valid, with the code that each deserves.
fn bad_messages() -> Vec<(Value, &'static str)> {
    let clear = |mut more: Value| {
        more["content"] = json!({"text": "hi"});
        more
    };
    vec![
        (json!({}), "invalid_request"),
        (json!(null), "invalid_request"),
        (json!([]), "invalid_request"),
        (json!("text"), "invalid_request"),
        (json!({"content": null}), "invalid_request"),
        (json!({"content": {}}), "invalid_request"),
        (json!({"content": {"text": ""}}), "invalid_request"),
        (json!({"content": {"text": 5}}), "invalid_request"),
        (json!({"content": {"text": "a\u{0}b"}}), "invalid_request"),
        (json!({"content": {"text": "x".repeat(64 * 1024 + 1)}}), "too_large"),
        (json!({"content": {"scheme": "x", "ciphertext": "not base64!"}}), "invalid_request"),
        (json!({"content": {"scheme": "x"}}), "invalid_request"),
        (json!({"content": {"text": "hi", "format": "html"}}), "invalid_request"),
        (clear(json!({"message_type": "nonsense"})), "invalid_request"),
        (clear(json!({"reply_to": "not-a-uuid"})), "invalid_request"),
        (clear(json!({"reply_to": 7})), "invalid_request"),
        (clear(json!({"attachments": "x"})), "invalid_request"),
        (clear(json!({"attachments": vec!["01900000-0000-7000-8000-000000000001"; 11]})), "too_large"),
        (clear(json!({"mentions": [1]})), "invalid_request"),
        (clear(json!({"metadata": []})), "invalid_request"),
        (clear(json!({"metadata": {"a": "\u{0}"}})), "invalid_request"),
        (clear(json!({"metadata": {"a": "x".repeat(5_000)}})), "too_large"),
        (clear(json!({"signature": "c2hvcnQ="})), "invalid_request"),
    ]
}

async fn frames_with_bad_payloads(alice: &Person, room: ConversationId, foreign: ConversationId) {
    let mut socket = open(alice).await;
    for (payload, code) in bad_messages() {
        let shown: String = payload.to_string().chars().take(80).collect();
        let id: EntryId = IdGenerator.next();
        let frame = json!({"type": "group_message", "id": id, "payload": payload, "meta": {"target_id": room}});
        assert_eq!(answer(&mut socket, frame.to_string()).await, (Some(id), code.to_owned()), "{shown}");
    }
    let hi = json!({"content": {"text": "hi"}});
    let unknown: ConversationId = IdGenerator.next();
    for (target, code) in [
        (json!(foreign), "not_found"),
        (json!(unknown), "not_found"),
        (json!("x"), "invalid_request"),
        (json!(5), "invalid_request"),
        (json!(null), "invalid_request"),
    ] {
        let id: EntryId = IdGenerator.next();
        let frame = json!({"type": "group_message", "id": id, "payload": hi, "meta": {"target_id": target}});
        assert_eq!(answer(&mut socket, frame.to_string()).await, (Some(id), code.to_owned()), "{target}");
    }
    for (kind, payload) in [
        ("sync", json!({"cursors": []})),
        ("sync", json!({"cursors": {"x": 1}})),
        ("sync", json!({"cursors": {room.to_string(): -1}})),
        ("sync", json!({"cursors": {room.to_string(): 1.5}})),
        ("sync", json!({"from": "yesterday"})),
        ("sync", json!({"limit": "many"})),
        ("delivery_receipt", json!({"conversation_id": room})),
        ("delivery_receipt", json!({"conversation_id": room, "seq": -1})),
        ("delivery_receipt", json!({"conversation_id": 1, "seq": 1})),
        ("subscribe", json!({"conversation_ids": room})),
        ("authenticate", json!({"token": 5})),
    ] {
        let id: EntryId = IdGenerator.next();
        let frame = json!({"type": kind, "id": id, "payload": payload});
        assert_eq!(answer(&mut socket, frame.to_string()).await, (Some(id), "invalid_request".to_owned()), "{frame}");
    }
}

async fn frames_without_their_parts(alice: &Person, room: ConversationId) {
    let mut socket = open(alice).await;
    for frame in [
        json!({"type": "group_message", "payload": {"content": {"text": "hi"}}, "meta": {"target_id": room}}),
        json!({"type": "group_message", "id": null, "payload": {"content": {"text": "hi"}}, "meta": {"target_id": room}}),
    ] {
        assert_eq!(answer(&mut socket, frame.to_string()).await, (None, "invalid_request".to_owned()), "{frame}");
    }
    let id: EntryId = IdGenerator.next();
    for frame in [
        json!({"type": "group_message", "id": id, "payload": {"content": {"text": "hi"}}}),
        json!({"type": "group_message", "id": id, "meta": {"target_id": room}}),
        json!({"type": "group_message", "id": id, "payload": {"content": {"text": "hi"}}, "meta": []}),
    ] {
        assert_eq!(answer(&mut socket, frame.to_string()).await, (Some(id), "invalid_request".to_owned()), "{frame}");
    }
    // Deeper than anybody looks.
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    let deep = format!(
        r#"{{"type":"group_message","id":"{id}","payload":{{"content":{{"text":"hi"}},"metadata":{{"a":{deep}}}}},"meta":{{"target_id":"{room}"}}}}"#
    );
    assert_eq!(answer(&mut socket, deep).await, (Some(id), "invalid_request".to_owned()));
    // Numbers that no machine has.
    let huge =
        format!(r#"{{"type":"delivery_receipt","id":"{id}","payload":{{"conversation_id":"{room}","seq":1e400}}}}"#);
    assert_eq!(answer(&mut socket, huge).await.1, "invalid_request");
    let huge = format!(
        r#"{{"type":"delivery_receipt","id":"{id}","payload":{{"conversation_id":"{room}","seq":99999999999999999999999}}}}"#
    );
    assert_eq!(answer(&mut socket, huge).await, (Some(id), "invalid_request".to_owned()));
    let ahead = json!({"type": "delivery_receipt", "id": id, "payload": {"conversation_id": room, "seq": u64::MAX}});
    assert_eq!(answer(&mut socket, ahead.to_string()).await, (Some(id), "ack".to_owned()), "cut to the head");
    let ahead = json!({"type": "sync", "id": id, "payload": {"cursors": {room.to_string(): u64::MAX}}});
    assert_eq!(answer(&mut socket, ahead.to_string()).await, (Some(id), "ack".to_owned()), "listed as paused");
}

async fn closing_frames(alice: &Person) {
    let invalid = Frame::message(vec![b'"', 0xff, 0xfe, b'"'], OpCode::Data(Data::Text), true);
    for (message, code) in [
        (Message::binary(b"{}".to_vec()), 1003),
        (Message::Frame(invalid), 1007),
        (Message::text(format!(r#"{{"type":"ping","payload":{{"a":"{}"}}}}"#, "x".repeat(100 * 1024))), 1009),
    ] {
        let mut socket = open(alice).await;
        socket.send_message(message).await.unwrap();
        let end = loop {
            if let Err(end) = socket.next().await {
                break end;
            }
        };
        assert_eq!(end.code, Some(code), "{end:?}");
    }
    // In two fragments, of which neither alone is too large.
    let mut socket = open(alice).await;
    let half = "x".repeat(60 * 1024);
    let first = Frame::message(format!("\"{half}").into_bytes(), OpCode::Data(Data::Text), false);
    let rest = Frame::message(format!("{half}\"").into_bytes(), OpCode::Data(Data::Continue), true);
    socket.send_message(Message::Frame(first)).await.unwrap();
    // The server may already have closed.
    drop(socket.send_message(Message::Frame(rest)).await);
    let end = loop {
        if let Err(end) = socket.next().await {
            break end;
        }
    };
    assert!(matches!(end.code, Some(1009)), "{end:?}");
}

/// Status and code of the answer to a body.
async fn post(alice: &Person, path: &str, content_type: &str, body: impl Into<String>) -> (u16, String) {
    let request = alice.api.request(reqwest::Method::POST, path).header("Content-Type", content_type);
    let response = request.body(body.into()).send().await.unwrap();
    let status = response.status().as_u16();
    if status >= 400 {
        let kind = response.headers().get("Content-Type").unwrap().to_str().unwrap();
        assert!(kind.starts_with("application/problem+json"), "{path}: {kind}");
    }
    let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default();
    let code = body["code"].as_str().unwrap_or_default().to_owned();
    if status >= 400 {
        assert_eq!(body["status"], status, "{path}");
    }
    (status, code)
}

async fn bodies(alice: &Person, room: ConversationId, foreign: ConversationId) {
    let json_type = "application/json";
    let messages = format!("conversations/{room}/messages");
    let id: EntryId = IdGenerator.next();
    let malformed = (400, "invalid_request".to_owned());
    for bad in ["", "{", "\u{0}", "{'a':1}", "{\"content\":{\"text\":\"hi\"}} x"] {
        assert_eq!(post(alice, &messages, json_type, bad).await, malformed, "{bad:?}");
    }
    let deep = format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000));
    assert_eq!(post(alice, &messages, json_type, deep).await.1, "invalid_request");
    for (mut payload, code) in bad_messages() {
        let shown: String = payload.to_string().chars().take(80).collect();
        if payload.is_object() {
            payload["id"] = json!(id);
        }
        let status = if code == "too_large" { 413 } else { 422 };
        assert_eq!(post(alice, &messages, json_type, payload.to_string()).await, (status, code.to_owned()), "{shown}");
    }
    let hi = json!({"content": {"text": "hi"}}).to_string();
    assert_eq!(post(alice, &messages, json_type, hi.clone()).await, (422, "invalid_request".into()), "without id");
    let hi = json!({"id": id, "content": {"text": "hi"}}).to_string();
    let foreign = format!("conversations/{foreign}/messages");
    assert_eq!(post(alice, &foreign, json_type, hi.clone()).await, (404, "not_found".into()));
    let no_id = "conversations/not-a-uuid/messages";
    assert_eq!(post(alice, no_id, json_type, hi.clone()).await, (422, "invalid_request".into()));
    assert_eq!(post(alice, &messages, "text/plain", hi).await, (415, "unsupported_type".into()));
    let huge = json!({"id": id, "content": {"text": "x".repeat(3 << 20)}}).to_string();
    assert_eq!(post(alice, &messages, json_type, huge).await, (413, "too_large".into()));
    for body in [
        json!({"kind": "direct", "members": []}),
        json!({"kind": "direct", "members": [alice.user_id]}),
        json!({"kind": "party", "members": []}),
        json!({"kind": "group", "members": "all"}),
        json!({"kind": "group", "title": "a\u{0}b", "members": []}),
    ] {
        let (status, code) = post(alice, "conversations", json_type, body.to_string()).await;
        assert_eq!((status, code.as_str()), (422, "invalid_request"), "{body}");
    }
    let stranger = json!({"kind": "group", "members": ["01900000-0000-7000-8000-00000000dead"]});
    assert_eq!(post(alice, "conversations", json_type, stranger.to_string()).await, (404, "not_found".into()));
}

async fn paths_and_methods(alice: &Person) {
    let get = async |path: &str| alice.api.request(reqwest::Method::GET, path).send().await.unwrap();
    for (path, status) in [
        ("nothing", 404),
        ("conversations/x", 422),
        ("users/x", 422),
        ("users/01900000-0000-7000-8000-00000000dead", 404),
        ("conversations/01900000-0000-7000-8000-00000000dead", 404),
    ] {
        assert_eq!(get(path).await.status(), status, "{path}");
    }
    let wrong = alice.api.request(reqwest::Method::PUT, "auth/login").send().await.unwrap();
    assert_eq!(wrong.status(), 405);
    assert!(wrong.headers().contains_key("Allow"));
    for query in ["conversations?limit=x", "conversations?limit=-1", "conversations?cursor=%00"] {
        let url = format!("{}api/v1/{query}", alice.api.base());
        let response = reqwest::Client::new().get(url).bearer_auth(alice.token()).send().await.unwrap();
        assert!([400, 422].contains(&response.status().as_u16()), "{query}: {}", response.status());
    }
}
