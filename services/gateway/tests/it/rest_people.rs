//! Whom one follows and has blocked, and what one allows others.

use serde_json::{Value, json};

use crate::rest_stack::{Person, Stack, message, new_id};

async fn put(stack: &Stack, path: &str, token: &str) -> crate::rest_stack::Answer {
    crate::rest_stack::Answer::of(stack.request("PUT", path, Some(token)).send().await.unwrap()).await
}

async fn names(stack: &Stack, path: &str, person: &Person) -> Vec<String> {
    let page = stack.get(path, Some(&person.token)).await.ok(200);
    assert_eq!(page["has_more"], false);
    page["items"].as_array().unwrap().iter().map(|one| one["username"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_followed_and_blocked() {
    let stack = Stack::start().await;
    let (alice, bob, carol) = (stack.person("alice").await, stack.person("bob").await, stack.person("carol").await);
    for (verb, list) in [("follow", "/api/v1/users/following"), ("block", "/api/v1/users/blocked")] {
        let path = |id: &str| format!("/api/v1/users/{id}/{verb}");
        for id in [&carol.id, &bob.id, &carol.id] {
            assert_eq!(put(&stack, &path(id), &alice.token).await.status, 204);
        }
        assert_eq!(names(&stack, list, &alice).await, ["carol", "bob"]);
        assert_eq!(names(&stack, list, &bob).await, [""; 0]);
        let first = stack.get(&format!("{list}?limit=1"), Some(&alice.token)).await.ok(200);
        let members: Vec<&String> = first["items"][0].as_object().unwrap().keys().collect();
        assert_eq!(members, ["created_at", "display_name", "id", "username"]);
        let rest = format!("{list}?limit=1&cursor={}", first["next"].as_str().unwrap());
        assert_eq!(names(&stack, &rest, &alice).await, ["bob"]);

        for id in [&carol.id, &carol.id, &new_id()] {
            assert_eq!(stack.delete(&path(id), Some(&alice.token)).await.status, 204);
        }
        assert_eq!(names(&stack, list, &alice).await, ["bob"]);

        put(&stack, &path(&new_id()), &alice.token).await.problem(404, "not_found");
        put(&stack, &path(&alice.id), &alice.token).await.problem(422, "invalid_request");
        put(&stack, &path("x"), &alice.token).await.problem(422, "invalid_request");
        stack.get(&path(&bob.id), Some(&alice.token)).await.problem(405, "method_not_allowed");
        for bad in ["limit=0", "limit=101", "cursor=x"] {
            stack.get(&format!("{list}?{bad}"), Some(&alice.token)).await.problem(422, "invalid_request");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_allows_is_ones_own_business() {
    let stack = Stack::start().await;
    let (alice, bob) = (stack.person("alice").await, stack.person("bob").await);
    let both = |me: &Value| (me["presence_visible_to"].clone(), me["messages_from"].clone());
    let me = async || stack.get("/api/v1/users/me", Some(&alice.token)).await.ok(200);
    let patch = async |patch: Value| stack.send("PATCH", "/api/v1/users/me", Some(&alice.token), &patch).await;
    assert_eq!(both(&me().await), (json!("shared"), json!("everyone")));
    let patched = patch(json!({"presence_visible_to": "contacts", "messages_from": "nobody"})).await.ok(200);
    assert_eq!(both(&patched), (json!("contacts"), json!("nobody")));
    assert_eq!(both(&patch(json!({"messages_from": null})).await.ok(200)), (json!("contacts"), json!("everyone")));
    for bad in [json!({"messages_from": "shared"}), json!({"presence_visible_to": 1})] {
        let answer = patch(bad).await;
        assert!(matches!(answer.status, 400 | 422), "{answer:?}");
    }
    assert_eq!(both(&me().await), (json!("contacts"), json!("everyone")));
    let seen = stack.get(&format!("/api/v1/users/{}", alice.id), Some(&bob.token)).await.ok(200);
    assert_eq!(both(&seen), (Value::Null, Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_blocked_is_answered_as_by_who_has_contacts_only() {
    let stack = Stack::start().await;
    let (alice, bob, carol) = (stack.person("alice").await, stack.person("bob").await, stack.person("carol").await);
    let direct = |other: &Person| json!({"kind": "direct", "encryption": "none", "members": [other.id]});
    let made = stack.post("/api/v1/conversations", Some(&alice.token), &direct(&bob)).await.ok(201);
    let messages = format!("/api/v1/conversations/{}/messages", made["id"].as_str().unwrap());
    let kept = message("before");
    let stored = stack.post(&messages, Some(&alice.token), &kept).await.ok(201);
    put(&stack, &format!("/api/v1/users/{}/block", alice.id), &bob.token).await;
    let only = json!({"messages_from": "contacts"});
    stack.send("PATCH", "/api/v1/users/me", Some(&carol.token), &only).await.ok(200);

    let blocked = stack.post(&messages, Some(&alice.token), &message("after")).await;
    blocked.problem(403, "forbidden");
    let stranger = stack.post("/api/v1/conversations", Some(&alice.token), &direct(&carol)).await;
    stranger.problem(403, "forbidden");
    assert_eq!(blocked.body, stranger.body);
    assert_eq!(stack.post(&messages, Some(&alice.token), &kept).await.ok(201)["seq"], stored["seq"]);
    stack.post("/api/v1/conversations", Some(&alice.token), &direct(&bob)).await.ok(200);
    let listed = stack.get("/api/v1/conversations", Some(&carol.token)).await.ok(200);
    assert_eq!(listed["items"], json!([]));
}
