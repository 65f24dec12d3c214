//! Sending, history and the raw log.

use serde_json::{Value, json};

use crate::rest_stack::{Stack, message, new_id};

fn seqs(page: &Value) -> Vec<u64> {
    page["items"].as_array().unwrap().iter().map(|one| one["seq"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_stored_once() {
    let stack = Stack::start().await;
    let (alice, bob) = (stack.person("alice").await, stack.person("bob").await);
    let group = stack.group(&alice, &[&bob]).await;
    let url = format!("/api/v1/conversations/{group}/messages");
    let mut hello = message("hello");
    hello["metadata"] = json!({"b": 1, "a": [2]});
    hello["mentions"] = json!([bob.id]);
    let sent = stack.post(&url, Some(&alice.token), &hello).await.ok(201);
    assert_eq!((&sent["seq"], &sent["id"], &sent["kind"]), (&json!(2), &hello["id"], &json!("message")));
    assert_eq!((&sent["sender_id"], &sent["sender_device_id"]), (&json!(alice.id), &json!(alice.device_id)));
    assert_eq!((&sent["content"], &sent["metadata"]), (&hello["content"], &hello["metadata"]));
    assert_eq!((&sent["deleted"], &sent["edit_count"]), (&json!(false), &json!(0)));
    assert_eq!(stack.post(&url, Some(&alice.token), &hello).await.ok(201), sent);

    let mut other = hello.clone();
    other["content"]["text"] = json!("something else");
    stack.post(&url, Some(&alice.token), &other).await.problem(409, "id_conflict");
    let second = stack.login("alice").await;
    stack.post(&url, Some(&second.token), &hello).await.problem(409, "id_conflict");

    let one = stack.get(&format!("{url}/{}", hello["id"].as_str().unwrap()), Some(&bob.token)).await.ok(200);
    for (name, value) in sent.as_object().unwrap() {
        assert_eq!(&one[name], value, "{name}");
    }
    let log = stack.get(&format!("/api/v1/conversations/{group}/log?after=1"), Some(&bob.token)).await.ok(200);
    assert_eq!(log["items"], json!([sent]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent() {
    let stack = Stack::start().await;
    let (alice, bob, eve) = (stack.person("alice").await, stack.person("bob").await, stack.person("eve").await);
    let group = stack.group(&alice, &[]).await;
    let url = format!("/api/v1/conversations/{group}/messages");
    for (body, field) in [
        (json!({"content": {"text": "hi"}}), "id"),
        (json!({"id": new_id()}), "content"),
        (json!({"id": "x", "content": {"text": "hi"}}), "id"),
        (json!({"id": new_id(), "content": {}}), "content"),
        (json!({"id": new_id(), "content": {"text": "hi"}, "message_type": "loud"}), "message_type"),
        (json!({"id": new_id(), "content": {"text": "hi"}, "mentions": ["x"]}), "mentions[0]"),
        (json!({"id": new_id(), "content": {"text": "hi"}, "send_at": "2030-01-01T00:00:00Z"}), "send_at"),
        (json!({"id": new_id(), "content": {"text": "a\u{0}b"}}), "content.text"),
    ] {
        let answer = stack.post(&url, Some(&alice.token), &body).await;
        assert_eq!(answer.problem(422, "invalid_request"), [field], "{body}");
    }
    let large = message(&"x".repeat(64 * 1024 + 1));
    let answer = stack.post(&url, Some(&alice.token), &large).await;
    answer.problem(413, "too_large");
    assert!(answer.body["detail"].as_str().unwrap().contains("message_content_bytes"));
    stack.post(&url, Some(&alice.token), &message(&"x".repeat(64 * 1024))).await.ok(201);
    stack.post(&url, Some(&eve.token), &message("hi")).await.problem(404, "not_found");

    let direct = json!({"kind": "direct", "members": [bob.id]});
    let direct = stack.post("/api/v1/conversations", Some(&alice.token), &direct).await.ok(201);
    let url = format!("/api/v1/conversations/{}/messages", direct["id"].as_str().unwrap());
    stack.post(&url, Some(&alice.token), &message("clear text")).await.problem(422, "invalid_request");
    let sealed = json!({"id": new_id(), "content": {"scheme": "mls", "ciphertext": "aGk="}});
    stack.post(&url, Some(&alice.token), &sealed).await.ok(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn history_and_log_have_pages() {
    let stack = Stack::start().await;
    let (alice, bob) = (stack.person("alice").await, stack.person("bob").await);
    let group = stack.group(&alice, &[&bob]).await;
    let conversation = format!("/api/v1/conversations/{group}");
    for number in 2..=11 {
        let sent = stack.post(&format!("{conversation}/messages"), Some(&alice.token), &message("hi")).await.ok(201);
        assert_eq!(sent["seq"], number);
    }
    let get = async |rest: &str| stack.get(&format!("{conversation}/{rest}"), Some(&bob.token)).await.ok(200);
    for (query, expected, has_more) in [
        ("messages", vec![11, 10, 9, 8, 7, 6, 5, 4, 3, 2], false),
        ("messages?limit=3", vec![11, 10, 9], true),
        ("messages?limit=3&before=9", vec![8, 7, 6], true),
        ("messages?limit=3&before=4", vec![3, 2], false),
        ("messages?limit=3&after=4", vec![5, 6, 7], true),
        ("messages?limit=3&after=9", vec![10, 11], false),
        ("log?limit=4", vec![1, 2, 3, 4], true),
        ("log?limit=4&after=8", vec![9, 10, 11], false),
        ("log?after=99", vec![], false),
    ] {
        let page = get(query).await;
        assert_eq!((seqs(&page), &page["has_more"]), (expected, &json!(has_more)), "{query}");
    }
    assert!(seqs(&get("messages?limit=5&around=6").await).contains(&6));
    assert_eq!(get("log?limit=4").await["next"], "4");
    assert_eq!(get("log?limit=1").await["items"][0]["kind"], "member");
    let first = &get("messages?limit=1").await["items"][0];
    assert!(first["reactions"].is_array() && first["pinned"].is_boolean(), "{first:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_read_after_removal() {
    let stack = Stack::start().await;
    let (alice, bob) = (stack.person("alice").await, stack.person("bob").await);
    let group = stack.group(&alice, &[&bob]).await;
    let conversation = format!("/api/v1/conversations/{group}");
    let hello = message("hello");
    let url = format!("{conversation}/messages");
    let sent = stack.post(&url, Some(&bob.token), &hello).await.ok(201);
    let leave = format!("{conversation}/members/{}", bob.id);
    assert_eq!(stack.delete(&leave, Some(&bob.token)).await.status, 204);
    for path in ["messages", "log", &format!("messages/{}", hello["id"].as_str().unwrap())] {
        stack.get(&format!("{conversation}/{path}"), Some(&bob.token)).await.problem(404, "not_found");
    }
    stack.post(&url, Some(&bob.token), &message("again")).await.problem(404, "not_found");
    // A repeat is answered like the first time, also now.
    assert_eq!(stack.post(&url, Some(&bob.token), &hello).await.ok(201), sent);
}
