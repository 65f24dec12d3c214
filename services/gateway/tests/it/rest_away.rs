//! A part of the server is away.

use serde_json::json;

use crate::rest_stack::{Stack, message, new_id};

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_the_store_is_unavailable() {
    let stack = Stack::with(&[("SEND_DEADLINE_MS", "300")], false).await;
    // The login stands although the store could not be told of the device.
    let alice = stack.person("alice").await;
    let conversation = format!("/api/v1/conversations/{}", new_id());
    let unavailable = [
        stack.get(&conversation, Some(&alice.token)).await,
        stack.get("/api/v1/conversations", Some(&alice.token)).await,
        stack.get(&format!("{conversation}/log"), Some(&alice.token)).await,
        stack.post(&format!("{conversation}/messages"), Some(&alice.token), &message("hi")).await,
        stack.post("/api/v1/conversations", Some(&alice.token), &json!({"kind": "group"})).await,
    ];
    for answer in unavailable {
        answer.problem(503, "unavailable");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    stack.get("/api/v1/users/me", Some(&alice.token)).await.ok(200);
}
