//! Scheduled messages over REST.

use std::time::Duration;

use entrenous_model::{Clock, SystemClock};
use entrenous_test_support::wait_for;
use serde_json::{Value, json};

use crate::rest_stack::{Stack, message, new_id};

fn from_now(seconds: u64) -> String {
    (SystemClock.now() + Duration::from_secs(seconds)).to_string()
}

fn scheduled(text: &str, send_at: &str) -> Value {
    let mut message = message(text);
    message["send_at"] = json!(send_at);
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_waits_for_its_time_and_every_device_sees_it() {
    let stack = Stack::start().await;
    let (alice, bob) = (stack.person("alice").await, stack.person("bob").await);
    let group = stack.group(&alice, &[&bob]).await;
    let url = format!("/api/v1/conversations/{group}/messages");
    let send_at = from_now(3_600);
    let later = scheduled("later", &send_at);
    let waiting = stack.post(&url, Some(&alice.token), &later).await.ok(202);
    assert_eq!((&waiting["id"], &waiting["state"]), (&later["id"], &json!("waiting")));
    assert_eq!((&waiting["send_at"], &waiting["content"]), (&later["send_at"], &later["content"]));
    assert_eq!((&waiting["conversation_id"], &waiting["sender_id"]), (&json!(group), &json!(alice.id)));
    assert_eq!(stack.post(&url, Some(&alice.token), &later).await.ok(202), waiting);
    let mut other = later.clone();
    other["content"]["text"] = json!("another");
    stack.post(&url, Some(&alice.token), &other).await.problem(409, "id_conflict");

    let second = stack.login("alice").await;
    let list = stack.get("/api/v1/scheduled", Some(&second.token)).await.ok(200);
    assert_eq!(list, json!({"items": [waiting], "has_more": false}));
    assert_eq!(stack.get("/api/v1/scheduled", Some(&bob.token)).await.ok(200)["items"], json!([]));

    let one = format!("/api/v1/scheduled/{}", later["id"].as_str().unwrap());
    let patch = json!({"content": {"text": "changed"}, "mentions": [bob.id]});
    let changed = stack.send("PATCH", &one, Some(&second.token), &patch).await.ok(200);
    assert_eq!((&changed["content"]["text"], &changed["mentions"]), (&json!("changed"), &json!([bob.id])));
    stack.send("PATCH", &one, Some(&bob.token), &patch).await.problem(404, "not_found");
    let now = json!({"send_at": "2020-01-01T00:00:00Z"});
    let sent = stack.send("PATCH", &one, Some(&second.token), &now).await.ok(201);
    assert_eq!((&sent["seq"], &sent["content"]["text"]), (&json!(2), &json!("changed")));
    assert_eq!(sent["sender_device_id"], json!(alice.device_id), "the device that made it");
    let log = stack.get(&format!("/api/v1/conversations/{group}/log?after=1"), Some(&bob.token)).await.ok(200);
    for (name, value) in log["items"][0].as_object().unwrap() {
        assert_eq!(&sent[name], value, "{name}");
    }
    stack.send("PATCH", &one, Some(&alice.token), &now).await.problem(404, "not_found");
    stack.delete(&one, Some(&alice.token)).await.problem(404, "not_found");

    let later = scheduled("never", &send_at);
    stack.post(&url, Some(&alice.token), &later).await.ok(202);
    let one = format!("/api/v1/scheduled/{}", later["id"].as_str().unwrap());
    assert_eq!(stack.delete(&one, Some(&alice.token)).await.status, 204);
    assert_eq!(stack.get("/api/v1/scheduled", Some(&alice.token)).await.ok(200)["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_has_passed_is_now() {
    let stack = Stack::start().await;
    let alice = stack.person("alice").await;
    let group = stack.group(&alice, &[]).await;
    let url = format!("/api/v1/conversations/{group}/messages");
    for send_at in ["2020-01-01T00:00:00Z", "0001-01-01T00:00:00Z", &from_now(0)] {
        let message = scheduled("now", send_at);
        let sent = stack.post(&url, Some(&alice.token), &message).await.ok(201);
        assert_eq!(stack.post(&url, Some(&alice.token), &message).await.ok(201), sent);
    }
    let soon = scheduled("soon", &from_now(2));
    stack.post(&url, Some(&alice.token), &soon).await.ok(202);
    let one = format!("{url}/{}", soon["id"].as_str().unwrap());
    let look = async || match stack.get(&one, Some(&alice.token)).await.status {
        200 => Ok(()),
        other => Err(other.to_string()),
    };
    wait_for("the message", look).await.unwrap();
    assert_eq!(stack.post(&url, Some(&alice.token), &soon).await.ok(201)["seq"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_scheduled() {
    let stack = Stack::with(&[("SCHEDULED_MESSAGES_MAX", "77")], true).await;
    assert_eq!(stack.get("/api/v1/limits", None).await.ok(200)["scheduled_messages"], 77);
    let (alice, eve) = (stack.person("alice").await, stack.person("eve").await);
    let group = stack.group(&alice, &[]).await;
    let url = format!("/api/v1/conversations/{group}/messages");
    for bad in ["tomorrow", "2030-01-01", "9999-12-31T23:59:59Z", &from_now(367 * 24 * 3_600)] {
        let answer = stack.post(&url, Some(&alice.token), &scheduled("hi", bad)).await;
        assert_eq!(answer.problem(422, "invalid_request"), ["send_at"], "{bad}");
    }
    let send_at = from_now(60);
    stack.post(&url, Some(&eve.token), &scheduled("hi", &send_at)).await.problem(404, "not_found");
    let sealed = json!({"id": new_id(), "content": {"scheme": "mls", "ciphertext": "aGk="}, "send_at": send_at});
    assert_eq!(stack.post(&url, Some(&alice.token), &sealed).await.problem(422, "invalid_request"), ["content"]);
    let later = scheduled("hi", &send_at);
    stack.post(&url, Some(&alice.token), &later).await.ok(202);
    let one = format!("/api/v1/scheduled/{}", later["id"].as_str().unwrap());
    for (patch, field) in [
        (json!({"content": {}}), "content"),
        (json!({"content": sealed["content"]}), "content"),
        (json!({"send_at": "later"}), "send_at"),
        (json!({"send_at": "9999-12-31T23:59:59Z"}), "send_at"),
        (json!({"metadata": []}), "metadata"),
        (json!({"mentions": ["x"]}), "mentions[0]"),
    ] {
        let answer = stack.send("PATCH", &one, Some(&alice.token), &patch).await;
        assert_eq!(answer.problem(422, "invalid_request"), [field], "{patch}");
    }
    let large = json!({"content": {"text": "x".repeat(64 * 1024 + 1)}});
    stack.send("PATCH", &one, Some(&alice.token), &large).await.problem(413, "too_large");
    for bad in ["limit=0", "limit=101", "cursor=x"] {
        stack.get(&format!("/api/v1/scheduled?{bad}"), Some(&alice.token)).await.problem(422, "invalid_request");
    }
}
