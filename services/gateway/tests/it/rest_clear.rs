//! Clear text over REST: what is stored, search, threads, filters, mentions first.

use serde_json::{Value, json};

use crate::rest_stack::{Stack, message, new_id};

fn texts(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|one| one["content"]["text"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_shows_what_was_stored() {
    let stack = Stack::start().await;
    let (alice, bob) = (stack.person("alice").await, stack.person("bob").await);
    let group = stack.group(&alice, &[&bob]).await;
    let url = format!("/api/v1/conversations/{group}/messages");
    let bold = message("a <b>bold</b> word");
    let sent = stack.post(&url, Some(&alice.token), &bold).await.ok(201);
    assert_eq!(sent["content"], json!({"text": "a bold word"}));
    assert_eq!(stack.post(&url, Some(&alice.token), &bold).await.ok(201), sent);
    let log = stack.get(&format!("/api/v1/conversations/{group}/log?after=1"), Some(&bob.token)).await.ok(200);
    assert_eq!(log["items"], json!([sent]));
    let answer = stack.post(&url, Some(&alice.token), &message("<br>")).await;
    assert_eq!(answer.problem(422, "invalid_request"), ["content.text"]);
    let mut stranger = message("hi");
    stranger["mentions"] = json!([new_id()]);
    assert_eq!(stack.post(&url, Some(&alice.token), &stranger).await.problem(422, "invalid_request"), ["mentions"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn search_and_history_find_what_is_asked_for() {
    let stack = Stack::start().await;
    let (alice, bob, eve) = (stack.person("alice").await, stack.person("bob").await, stack.person("eve").await);
    let group = stack.group(&alice, &[&bob]).await;
    let url = format!("/api/v1/conversations/{group}/messages");
    let root = message("apple one");
    stack.post(&url, Some(&alice.token), &root).await.ok(201);
    let mut reply = message("apple two");
    reply["thread_id"] = root["id"].clone();
    let second = stack.post(&url, Some(&bob.token), &reply).await.ok(201);

    let get = async |path: String| stack.get(&path, Some(&alice.token)).await;
    let found = get("/api/v1/messages/search?q=apple".to_owned()).await.ok(200);
    assert_eq!((texts(&found), &found["has_more"]), (vec!["apple two", "apple one"], &json!(false)));
    let found = get(format!("/api/v1/messages/search?q=apple&conversation_id={group}&limit=1")).await.ok(200);
    let cursor = found["next"].as_str().unwrap();
    let found = get(format!("/api/v1/messages/search?q=apple&limit=1&cursor={cursor}")).await.ok(200);
    assert_eq!((texts(&found), &found["items"][0]["thread_count"]), (vec!["apple one"], &json!(1)));
    let found = get(format!("/api/v1/messages/search?q=apple&sender_id={}", bob.id)).await.ok(200);
    assert_eq!(texts(&found), ["apple two"]);
    let found = get("/api/v1/messages/search?q=apple&from=2020-01-01&to=2020-12-31".to_owned()).await.ok(200);
    assert_eq!(texts(&found), [""; 0]);
    for (query, field) in
        [("", "q"), ("q=", "q"), ("q=a&from=x", "from"), ("q=a&limit=0", "limit"), ("q=a&cursor=x", "cursor")]
    {
        let answer = get(format!("/api/v1/messages/search?{query}")).await;
        assert_eq!(answer.problem(422, "invalid_request"), [field], "{query}");
    }
    let path = format!("/api/v1/messages/search?q=apple&conversation_id={group}");
    stack.get(&path, Some(&eve.token)).await.problem(404, "not_found");

    let root_id = root["id"].as_str().unwrap();
    let thread = get(format!("/api/v1/conversations/{group}/threads/{root_id}")).await.ok(200);
    assert_eq!(thread["items"][0]["id"], second["id"]);
    get(format!("/api/v1/conversations/{group}/threads/{}", new_id())).await.problem(404, "not_found");

    let sent_at = second["sent_at"].as_str().unwrap();
    for (query, wanted) in [
        (format!("sender_id={}", alice.id), vec!["apple one"]),
        (format!("from={sent_at}&sender_id={}", bob.id), vec!["apple two"]),
        ("type=media".to_owned(), vec![]),
        ("to=2020-01-01".to_owned(), vec![]),
    ] {
        let page = get(format!("/api/v1/messages/group/{group}?{query}")).await.ok(200);
        assert_eq!(texts(&page), wanted, "{query}");
    }
    assert_eq!(get(format!("{url}?type=loud")).await.problem(422, "invalid_request"), ["type"]);
    let direct = json!({"kind": "direct", "encryption": "none", "members": [bob.id]});
    let direct = stack.post("/api/v1/conversations", Some(&alice.token), &direct).await.ok(201);
    let to_bob = format!("/api/v1/conversations/{}/messages", direct["id"].as_str().unwrap());
    stack.post(&to_bob, Some(&alice.token), &message("between us")).await.ok(201);
    let page = get(format!("/api/v1/messages/user/{}", bob.id)).await.ok(200);
    assert_eq!(texts(&page), ["between us"]);
    get(format!("/api/v1/messages/user/{}", eve.id)).await.problem(404, "not_found");
}

/// What was acknowledged mentions nobody any more.
#[tokio::test(flavor = "multi_thread")]
async fn undelivered_mentions_come_first() {
    let stack = Stack::start().await;
    let (alice, bob) = (stack.person("alice").await, stack.person("bob").await);
    let mut groups = Vec::new();
    for _ in 0..6 {
        groups.push(stack.group(&alice, &[&bob]).await);
    }
    for (place, group) in groups.iter().enumerate() {
        let mut hello = message(&format!("hello {place}"));
        if place == 3 {
            hello["mentions"] = json!([bob.id]);
        }
        let url = format!("/api/v1/conversations/{group}/messages");
        stack.post(&url, Some(&alice.token), &hello).await.ok(201);
    }
    let undelivered = stack.get("/api/v1/messages/undelivered", Some(&bob.token)).await.ok(200);
    let first = &undelivered["items"][0]["conversation_id"];
    assert_eq!(first, &json!(groups[3]));
    assert!(groups.iter().any(|group| *group < groups[3]), "in the order of ids another would be first");
}
