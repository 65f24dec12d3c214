//! Settings, roles, bans, invites, joins, and the end of conversations.

use serde_json::{Value, json};

use crate::rest_stack::{Answer, Person, Stack, message, new_id};

impl Stack {
    async fn patch(&self, path: &str, person: &Person, body: &Value) -> Answer {
        self.send("PATCH", path, Some(&person.token), body).await
    }

    async fn put(&self, path: &str, person: &Person) -> Answer {
        Answer::of(self.request("PUT", path, Some(&person.token)).send().await.unwrap()).await
    }

    /// Without a body.
    async fn post_empty(&self, path: &str, person: &Person) -> Answer {
        Answer::of(self.request("POST", path, Some(&person.token)).send().await.unwrap()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_changed_and_cleared() {
    let stack = Stack::start().await;
    let (alice, bob, eve) = (stack.person("alice").await, stack.person("bob").await, stack.person("eve").await);
    let group = stack.group(&alice, &[&bob]).await;
    let url = format!("/api/v1/conversations/{group}");
    let wanted = json!({"title": "Soup", "description": "At noon", "metadata": {"a": 1}, "slow_mode_seconds": 5});
    let changed = stack.patch(&url, &alice, &wanted).await.ok(200);
    for (name, value) in wanted.as_object().unwrap() {
        assert_eq!(&changed[name], value, "{name}");
    }
    assert_eq!((&changed["last_seq"], &changed["role"], &changed["read_seq"]), (&json!(2), &json!("owner"), &json!(0)));
    assert_eq!(stack.get(&url, Some(&bob.token)).await.ok(200)["title"], "Soup");
    let cleared = stack.patch(&url, &alice, &json!({"description": null, "slow_mode_seconds": null})).await.ok(200);
    assert_eq!((&cleared["description"], &cleared["title"]), (&Value::Null, &json!("Soup")));
    assert_eq!(cleared["slow_mode_seconds"], Value::Null);
    assert_eq!(stack.patch(&url, &alice, &json!({"unknown": 1})).await.ok(200)["last_seq"], 3);

    stack.patch(&url, &bob, &wanted).await.problem(403, "forbidden");
    stack.patch(&url, &eve, &wanted).await.problem(404, "not_found");
    stack.patch(&url, &alice, &json!({"max_members": 1_001})).await.problem(413, "too_large");
    stack.patch(&url, &alice, &json!({"max_members": 1})).await.problem(409, "conflict");
    for (body, field) in [
        (json!({"title": 3}), "title"),
        (json!({"title": "x".repeat(201)}), "title"),
        (json!({"is_public": null}), "is_public"),
        (json!({"history_visible": null}), "history_visible"),
        (json!({"max_members": 0}), "max_members"),
        (json!({"posting": "nobody"}), "posting"),
        (json!({"retention_seconds": -1}), "retention_seconds"),
        (json!({"metadata": []}), "metadata"),
    ] {
        assert_eq!(stack.patch(&url, &alice, &body).await.problem(422, "invalid_request"), [field], "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_deleted_by_its_owner() {
    let stack = Stack::start().await;
    let (alice, bob) = (stack.person("alice").await, stack.person("bob").await);
    let group = stack.group(&alice, &[&bob]).await;
    let url = format!("/api/v1/conversations/{group}");
    stack.delete(&url, Some(&bob.token)).await.problem(403, "forbidden");
    for _ in 0..2 {
        assert_eq!(stack.delete(&url, Some(&alice.token)).await.status, 204);
    }
    stack.delete(&url, Some(&bob.token)).await.problem(404, "not_found");
    for path in ["", "/messages", "/log", "/members", "/unread", "/bans", "/invites"] {
        stack.get(&format!("{url}{path}"), Some(&alice.token)).await.problem(404, "not_found");
    }
    stack.post(&format!("{url}/messages"), Some(&alice.token), &message("x")).await.problem(404, "not_found");
    assert_eq!(stack.get("/api/v1/conversations", Some(&bob.token)).await.ok(200)["items"], json!([]));
    let direct = json!({"kind": "direct", "members": [bob.id]});
    let direct = stack.post("/api/v1/conversations", Some(&alice.token), &direct).await.ok(201);
    let url = format!("/api/v1/conversations/{}", direct["id"].as_str().unwrap());
    stack.delete(&url, Some(&alice.token)).await.problem(403, "forbidden");
    stack.patch(&url, &bob, &json!({"retention_seconds": 60})).await.ok(200);
    stack.patch(&url, &bob, &json!({"title": "us"})).await.problem(403, "forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_get_roles_and_set_what_is_their_own() {
    let stack = Stack::start().await;
    let (alice, bob, eve) = (stack.person("alice").await, stack.person("bob").await, stack.person("eve").await);
    let group = stack.group(&alice, &[&bob]).await;
    let of = |person: &Person| format!("/api/v1/conversations/{group}/members/{}", person.id);
    let muted = stack.patch(&of(&bob), &alice, &json!({"role": "reader"})).await.ok(200);
    assert_eq!((&muted["role"], &muted["joined_seq"], muted.get("settings")), (&json!("reader"), &json!(1), None));
    let messages = format!("/api/v1/conversations/{group}/messages");
    stack.post(&messages, Some(&bob.token), &message("x")).await.problem(403, "forbidden");
    stack.patch(&of(&bob), &bob, &json!({"role": "member"})).await.problem(403, "forbidden");
    stack.patch(&of(&alice), &alice, &json!({"role": "member"})).await.problem(409, "conflict");
    stack.patch(&of(&eve), &alice, &json!({"role": "member"})).await.problem(404, "not_found");

    let own = stack.patch(&of(&bob), &bob, &json!({"settings": {"archived": true}})).await.ok(200);
    assert_eq!((&own["settings"], &own["role"]), (&json!({"archived": true}), &json!("reader")));
    let conversation = stack.get(&format!("/api/v1/conversations/{group}"), Some(&bob.token)).await.ok(200);
    assert_eq!(conversation["settings"], json!({"archived": true}));
    let settings = json!({"settings": {"archived": null}});
    stack.patch(&of(&bob), &alice, &settings).await.problem(403, "forbidden");
    stack.patch(&of(&bob), &eve, &settings).await.problem(404, "not_found");
    stack.patch(&of(&eve), &eve, &settings).await.problem(404, "not_found");
    let large = json!({"settings": {"x": "y".repeat(4_096)}});
    stack.patch(&of(&bob), &bob, &large).await.problem(413, "too_large");
    for bad in [json!({}), json!({"role": "member", "settings": {}})] {
        assert_eq!(stack.patch(&of(&bob), &bob, &bad).await.problem(422, "invalid_request"), ["role"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bans_and_invites() {
    let stack = Stack::start().await;
    let (alice, bob, eve) = (stack.person("alice").await, stack.person("bob").await, stack.person("eve").await);
    let group = stack.group(&alice, &[&bob]).await;
    let url = format!("/api/v1/conversations/{group}");
    let ban = format!("{url}/bans/{}", bob.id);
    stack.put(&ban, &eve).await.problem(404, "not_found");
    for _ in 0..2 {
        assert_eq!(stack.put(&ban, &alice).await.status, 204);
    }
    let bans = stack.get(&format!("{url}/bans"), Some(&alice.token)).await.ok(200);
    assert_eq!((&bans["items"][0]["user_id"], &bans["items"][0]["banned_by"]), (&json!(bob.id), &json!(alice.id)));
    let add = json!({"user_id": bob.id});
    stack.post(&format!("{url}/members"), Some(&alice.token), &add).await.problem(403, "forbidden");

    let invites = format!("{url}/invites");
    let invite = stack.post(&invites, Some(&alice.token), &json!({"max_uses": 1})).await.ok(201);
    let token = invite["token"].as_str().unwrap();
    assert_eq!((token.len(), &invite["uses"], &invite["expires_at"]), (22, &json!(0), &Value::Null));
    let join = format!("/api/v1/invites/{token}/join");
    stack.post_empty(&join, &bob).await.problem(403, "forbidden");
    for _ in 0..2 {
        let joined = stack.post_empty(&join, &eve).await.ok(200);
        assert_eq!((&joined["id"], &joined["role"]), (&json!(group), &json!("member")));
    }
    stack.post(&invites, Some(&eve.token), &json!({})).await.problem(403, "forbidden");
    for _ in 0..2 {
        assert_eq!(stack.delete(&ban, Some(&alice.token)).await.status, 204);
    }
    stack.post_empty(&join, &bob).await.problem(404, "not_found");
    let second = stack.post(&invites, Some(&alice.token), &json!({"expires_at": null})).await.ok(201);
    let listed = stack.get(&invites, Some(&alice.token)).await.ok(200);
    assert_eq!((&listed["items"][0]["id"], listed["items"].as_array().unwrap().len()), (&second["id"], 1));
    assert_eq!(listed["items"][0].get("token"), None);
    let revoke = format!("{invites}/{}", second["id"].as_str().unwrap());
    for _ in 0..2 {
        assert_eq!(stack.delete(&revoke, Some(&alice.token)).await.status, 204);
    }
    let past = json!({"expires_at": "2020-01-01T00:00:00Z"});
    let refused = stack.post(&invites, Some(&alice.token), &past).await;
    assert_eq!(refused.problem(422, "invalid_request"), ["expires_at"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn public_channels_are_found_and_joined() {
    let stack = Stack::start().await;
    let (alice, bob) = (stack.person("alice").await, stack.person("bob").await);
    let channel = json!({"kind": "channel", "encryption": "none", "title": "Town news", "is_public": true});
    let channel = stack.post("/api/v1/conversations", Some(&alice.token), &channel).await.ok(201);
    let id = channel["id"].as_str().unwrap();
    let found = stack.get("/api/v1/channels?query=TOWN%20ne", Some(&bob.token)).await.ok(200);
    let wanted = json!({
        "id": id, "title": "Town news", "description": null, "member_count": 1, "created_at": channel["created_at"],
        "is_member": false,
    });
    assert_eq!((&found["items"], &found["has_more"]), (&json!([wanted]), &json!(false)));
    assert_eq!(stack.get("/api/v1/channels?query=city", Some(&bob.token)).await.ok(200)["items"], json!([]));
    let bad = stack.get("/api/v1/channels?limit=101", Some(&bob.token)).await;
    assert_eq!(bad.problem(422, "invalid_request"), ["limit"]);
    let join = format!("/api/v1/conversations/{id}/join");
    for _ in 0..2 {
        let joined = stack.post_empty(&join, &bob).await.ok(200);
        assert_eq!((&joined["member_count"], &joined["last_seq"]), (&json!(2), &json!(1)));
    }
    let found = stack.get("/api/v1/channels", Some(&bob.token)).await.ok(200);
    assert_eq!((&found["items"][0]["is_member"], &found["items"][0]["member_count"]), (&json!(true), &json!(2)));
    let unknown = format!("/api/v1/conversations/{}/join", new_id());
    stack.post_empty(&unknown, &bob).await.problem(404, "not_found");
}
