//! Pages of other origins.

use crate::rest_stack::{Answer, Stack};

const LISTED: &str = "https://chat.example";

async fn preflight(stack: &Stack, origin: &str) -> Answer {
    let request = stack.request("OPTIONS", "/api/v1/users/me", None).header("origin", origin);
    let request = request.header("access-control-request-method", "PATCH");
    Answer::of(request.header("access-control-request-headers", "authorization").send().await.unwrap()).await
}

async fn call(stack: &Stack, path: &str, origin: &str) -> Answer {
    Answer::of(stack.request("GET", path, None).header("origin", origin).send().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn listed_origins_may_call() {
    let stack = Stack::with(&[("GATEWAY_ORIGINS", "https://other.example,https://chat.example")], false).await;
    let answer = preflight(&stack, LISTED).await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), Some(LISTED));
    assert!(answer.header("access-control-allow-methods").unwrap().contains("PATCH"));
    assert!(answer.header("access-control-allow-headers").unwrap().contains("Authorization"));
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    assert!(answer.header("vary").unwrap().contains("Origin"));

    // Errors too: a page must be able to read them, and when to come back.
    for (path, status) in [("/api/v1/limits", 200), ("/api/v1/users/me", 401), ("/nothing", 404)] {
        let answer = call(&stack, path, LISTED).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("access-control-allow-origin"), Some(LISTED), "{path}");
        assert!(answer.header("access-control-expose-headers").unwrap().contains("Retry-After"));
    }
    for foreign in ["https://evil.example", "https://chat.example.evil", "null"] {
        for answer in [preflight(&stack, foreign).await, call(&stack, "/api/v1/limits", foreign).await] {
            assert_eq!(answer.header("access-control-allow-origin"), None, "{foreign}");
            assert_eq!(answer.header("access-control-allow-methods"), None);
            assert!(answer.header("vary").unwrap().contains("Origin"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_gateway_says_so_without_naming_anybody() {
    let stack = Stack::with(&[("GATEWAY_ORIGINS", "*")], false).await;
    for answer in [preflight(&stack, LISTED).await, call(&stack, "/api/v1/limits", LISTED).await] {
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    }
}
