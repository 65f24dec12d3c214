//! Accounts, logins, profiles and devices.

use serde_json::json;

use crate::rest_stack::{PASSWORD, Stack, new_id};

#[tokio::test(flavor = "multi_thread")]
async fn accounts_and_logins() {
    let stack = Stack::start().await;
    let account = json!({"username": "Alice", "password": PASSWORD, "display_name": "A", "more": 1});
    let user = stack.post("/api/v1/auth/register", None, &account).await.ok(201);
    assert_eq!(user["username"].as_str().unwrap().to_lowercase(), "alice");
    assert!(user.get("password").is_none());
    stack.post("/api/v1/auth/register", None, &account).await.problem(409, "conflict");
    let short = json!({"username": "a", "password": "x"});
    let fields = stack.post("/api/v1/auth/register", None, &short).await.problem(422, "invalid_request");
    assert!(fields.contains(&"username".to_owned()) && fields.contains(&"password".to_owned()), "{fields:?}");

    let alice = stack.login("alice").await;
    let login = |device| json!({"username": "alice", "password": PASSWORD, "device": device});
    let again = login(json!({"name": "test", "id": alice.device_id}));
    let again = stack.post("/api/v1/auth/login", None, &again).await.ok(200);
    assert_eq!((&again["device_id"], &again["token_type"]), (&json!(alice.device_id), &json!("Bearer")));
    let foreign = login(json!({"name": "test", "id": new_id()}));
    stack.post("/api/v1/auth/login", None, &foreign).await.problem(404, "not_found");
    let wrong = json!({"username": "alice", "password": "wrong password", "device": {"name": "test"}});
    for _ in 0..5 {
        stack.post("/api/v1/auth/login", None, &wrong).await.problem(401, "unauthenticated");
    }
    stack.post("/api/v1/auth/login", None, &login(json!({"name": "test"}))).await.problem(429, "rate_limited");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_ends_at_once() {
    let stack = Stack::start().await;
    let (alice, other) = (stack.person("alice").await, stack.login("alice").await);
    let nothing = json!({});
    let me = async |token: &str| stack.get("/api/v1/users/me", Some(token)).await;
    me(&alice.token).await.ok(200);

    assert_eq!(stack.post("/api/v1/auth/logout", Some(&alice.token), &nothing).await.status, 204);
    me(&alice.token).await.problem(401, "unauthenticated");
    let refresh = json!({"refresh_token": alice.refresh_token});
    stack.post("/api/v1/auth/refresh", None, &refresh).await.problem(401, "unauthenticated");

    let own = format!("/api/v1/devices/{}", other.device_id);
    assert_eq!(stack.delete(&own, Some(&other.token)).await.status, 204);
    me(&other.token).await.problem(401, "unauthenticated");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_renewed_and_passwords_changed() {
    let stack = Stack::start().await;
    let alice = stack.person("alice").await;
    let refresh = |token: &str| json!({"refresh_token": token});
    let renewed = stack.post("/api/v1/auth/refresh", None, &refresh(&alice.refresh_token)).await.ok(200);
    let token = renewed["access_token"].as_str().unwrap();
    stack.get("/api/v1/users/me", Some(token)).await.ok(200);
    let next = renewed["refresh_token"].as_str().unwrap();
    stack.post("/api/v1/auth/refresh", None, &refresh(next)).await.ok(200);
    let spent = stack.post("/api/v1/auth/refresh", None, &refresh(&alice.refresh_token)).await;
    spent.problem(401, "refresh_token_reused");

    let alice = stack.login("alice").await;
    let change = |current: &str| json!({"current_password": current, "new_password": "another long one"});
    let wrong = stack.post("/api/v1/auth/password", Some(&alice.token), &change("wrong password")).await;
    wrong.problem(403, "forbidden");
    let right = stack.post("/api/v1/auth/password", Some(&alice.token), &change(PASSWORD)).await;
    assert_eq!(right.status, 204);
    stack.get("/api/v1/users/me", Some(&alice.token)).await.ok(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_and_devices() {
    let stack = Stack::start().await;
    let (alice, bob) = (stack.person("alice").await, stack.person("bob").await);
    let patch = json!({"display_name": "Alice A.", "email": "a@example.org"});
    let me = stack.send("PATCH", "/api/v1/users/me", Some(&alice.token), &patch).await.ok(200);
    assert_eq!((&me["display_name"], &me["email"]), (&json!("Alice A."), &json!("a@example.org")));
    let patch = json!({"email": null});
    let me = stack.send("PATCH", "/api/v1/users/me", Some(&alice.token), &patch).await.ok(200);
    assert_eq!((&me["display_name"], &me["email"]), (&json!("Alice A."), &json!(null)));

    let seen = stack.get(&format!("/api/v1/users/{}", alice.id), Some(&bob.token)).await.ok(200);
    let members: Vec<&String> = seen.as_object().unwrap().keys().collect();
    assert_eq!(members, ["created_at", "display_name", "id", "username"]);
    let found = stack.get("/api/v1/users?username=ALICE", Some(&bob.token)).await.ok(200);
    assert_eq!(found, json!({"items": [seen], "has_more": false}));
    let none = stack.get("/api/v1/users?username=nobody", Some(&bob.token)).await.ok(200);
    assert_eq!(none, json!({"items": [], "has_more": false}));

    let second = stack.login("alice").await;
    let devices = stack.get("/api/v1/devices", Some(&alice.token)).await.ok(200);
    let ids: Vec<&str> = devices["items"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [&alice.device_id, &second.device_id]);
    let foreign = format!("/api/v1/devices/{}", bob.device_id);
    stack.delete(&foreign, Some(&alice.token)).await.problem(404, "not_found");
}
