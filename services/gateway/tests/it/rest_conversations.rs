//! Conversations and their members.

use serde_json::{Value, json};

use crate::rest_stack::{Stack, new_id};

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_conversation_is_made_once() {
    let stack = Stack::start().await;
    let (alice, bob) = (stack.person("alice").await, stack.person("bob").await);
    let direct = |other: &str| json!({"kind": "direct", "members": [other]});
    let made = stack.post("/api/v1/conversations", Some(&alice.token), &direct(&bob.id)).await.ok(201);
    assert_eq!((&made["peer"]["username"], &made["last_seq"]), (&json!("bob"), &json!(0)));
    let found = stack.post("/api/v1/conversations", Some(&bob.token), &direct(&alice.id)).await.ok(200);
    assert_eq!((&found["id"], &found["peer"]["username"]), (&made["id"], &json!("alice")));
    stack.post("/api/v1/conversations", Some(&alice.token), &direct(&new_id())).await.problem(404, "not_found");
    stack.post("/api/v1/conversations", Some(&alice.token), &direct(&alice.id)).await.problem(422, "invalid_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_end_and_go_on() {
    let stack = Stack::start().await;
    let alice = stack.person("alice").await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(stack.group(&alice, &[]).await);
    }
    made.reverse();
    let (mut seen, mut url) = (Vec::new(), "/api/v1/conversations?limit=2".to_owned());
    for is_last in [false, false, true] {
        let page = stack.get(&url, Some(&alice.token)).await.ok(200);
        let ids = page["items"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned());
        seen.extend(ids);
        assert_eq!(page["has_more"], !is_last);
        if !is_last {
            url = format!("/api/v1/conversations?limit=2&cursor={}", page["next"].as_str().unwrap());
        }
    }
    assert_eq!(seen, made);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_and_go() {
    let stack = Stack::start().await;
    let (alice, bob, carol) = (stack.person("alice").await, stack.person("bob").await, stack.person("carol").await);
    let group = stack.group(&alice, &[&bob]).await;
    let (conversation, members) =
        (format!("/api/v1/conversations/{group}"), format!("/api/v1/conversations/{group}/members"));
    let one = stack.get(&conversation, Some(&bob.token)).await.ok(200);
    assert_eq!((&one["role"], &one["member_count"], &one["last_seq"]), (&json!("member"), &json!(2), &json!(1)));
    for path in [&conversation, &members] {
        stack.get(path, Some(&carol.token)).await.problem(404, "not_found");
    }

    let add = |person: &str| json!({"user_id": person});
    stack.post(&members, Some(&bob.token), &add(&carol.id)).await.problem(403, "forbidden");
    stack.post(&members, Some(&carol.token), &add(&carol.id)).await.problem(404, "not_found");
    let added = stack.post(&members, Some(&alice.token), &add(&carol.id)).await.ok(201);
    assert_eq!((&added["user_id"], &added["joined_seq"]), (&json!(carol.id), &json!(2)));
    assert_eq!(stack.post(&members, Some(&alice.token), &add(&carol.id)).await.ok(201), added);
    let role = json!({"user_id": carol.id, "role": "king"});
    assert_eq!(stack.post(&members, Some(&alice.token), &role).await.problem(422, "invalid_request"), ["role"]);
    let list = stack.get(&members, Some(&carol.token)).await.ok(200);
    assert_eq!((list["items"].as_array().map(Vec::len), &list["has_more"]), (Some(3), &json!(false)));

    let of = |person: &str| format!("{members}/{person}");
    stack.delete(&of(&bob.id), Some(&carol.token)).await.problem(403, "forbidden");
    assert_eq!(stack.delete(&of(&bob.id), Some(&alice.token)).await.status, 204);
    assert_eq!(stack.delete(&of(&bob.id), Some(&alice.token)).await.status, 204);
    stack.get(&conversation, Some(&bob.token)).await.problem(404, "not_found");
    let mine = stack.get("/api/v1/conversations", Some(&bob.token)).await.ok(200);
    assert_eq!(mine["items"], Value::Array(Vec::new()));
    assert_eq!(stack.delete(&of(&carol.id), Some(&carol.token)).await.status, 204);
}
