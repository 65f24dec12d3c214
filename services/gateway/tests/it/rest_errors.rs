//! Whatever is wrong with a request is a problem, on every path; the description of the API names the paths.

use serde_json::{Value, json};

use crate::rest_stack::{Answer, Stack, new_id};

/// Every documented path with its calls.
async fn documented(stack: &Stack) -> Vec<(String, serde_json::Map<String, Value>)> {
    let api = stack.get("/api/v1/openapi.json", None).await.ok(200);
    let paths = api["paths"].as_object().unwrap().clone();
    paths.into_iter().map(|(path, calls)| (path, calls.as_object().unwrap().clone())).collect()
}

/// The path with a new id for each of its parameters.
fn filled(path: &str) -> String {
    let steps = path.split('/').map(|step| if step.starts_with('{') { new_id() } else { step.to_owned() });
    steps.collect::<Vec<_>>().join("/")
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_methods_and_tokens() {
    let stack = Stack::start().await;
    for path in ["/", "/api/v1", "/api/v1/nothing", "/api/v1/conversations/", "/api/v2/users/me", "/%00", "/metrics"] {
        stack.get(path, None).await.problem(404, "not_found");
    }
    for (path, calls) in documented(&stack).await {
        let url = filled(&path);
        for method in ["PUT", "PATCH", "POST", "DELETE", "TRACE", "BREW"] {
            if calls.contains_key(&method.to_lowercase()) {
                continue;
            }
            let answer = stack.send(method, &url, None, &json!({})).await;
            answer.problem(405, "method_not_allowed");
            let allow = answer.header("allow").unwrap().to_owned();
            assert!(calls.keys().all(|call| allow.contains(&call.to_uppercase())), "{path}: {allow}");
            assert!(!allow.contains(method), "{path}: {allow}");
        }
        let options = Answer::of(stack.request("OPTIONS", &url, None).send().await.unwrap()).await;
        assert_eq!(options.status, 204);
        assert!(options.header("allow").unwrap().contains("OPTIONS"));
        for (method, call) in calls {
            if call.get("security").is_some() {
                for token in [None, Some(""), Some("nonsense"), Some("a.b.c")] {
                    let answer = stack.request(&method.to_uppercase(), &url, token).send().await.unwrap();
                    Answer::of(answer).await.problem(401, "unauthenticated");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies() {
    let stack = Stack::start().await;
    let alice = stack.person("alice").await;
    for (path, calls) in documented(&stack).await {
        let url = filled(&path);
        for (method, _) in calls.iter().filter(|(_, call)| call.get("requestBody").is_some()) {
            let method = method.to_uppercase();
            let raw = async |body: &[u8]| stack.raw(&method, &url, &alice.token, body).await;
            for malformed in [&b""[..], b"{", b"{]", b"{\"a\":\"\xff\"}", b"\xef\xbb\xbf{}", b"{} {}"] {
                raw(malformed).await.problem(400, "invalid_request");
            }
            for invalid in ["[]", "null", "3", "\"text\""] {
                assert_eq!(raw(invalid.as_bytes()).await.problem(422, "invalid_request"), ["body"], "{path}");
            }
            assert_eq!(raw(br#"{"more":{"text":"a\u0000b"}}"#).await.problem(422, "invalid_request"), ["more.text"]);
            let deep = "[".repeat(20_000) + &"]".repeat(20_000);
            raw(deep.as_bytes()).await.problem(422, "invalid_request");
            for huge in [100 * 1024, 3 * 1024 * 1024, 8 * 1024 * 1024] {
                let body = format!(r#"{{"more":"{}"}}"#, "x".repeat(huge));
                raw(body.as_bytes()).await.problem(413, "too_large");
            }
            for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "nonsense"] {
                let request = stack.request(&method, &url, Some(&alice.token)).header("content-type", kind);
                Answer::of(request.body("{}").send().await.unwrap()).await.problem(415, "unsupported_type");
            }
            let untyped = stack.request(&method, &url, Some(&alice.token)).body("{}").send().await.unwrap();
            Answer::of(untyped).await.problem(415, "unsupported_type");
            let packed = stack.request(&method, &url, Some(&alice.token)).header("content-encoding", "gzip");
            Answer::of(packed.json(&json!({})).send().await.unwrap()).await.problem(415, "unsupported_type");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_and_queries() {
    let stack = Stack::start().await;
    let alice = stack.person("alice").await;
    let group = stack.group(&alice, &[]).await;
    for (path, calls) in documented(&stack).await.into_iter().filter(|(path, _)| path.contains('{')) {
        let name = path.split('{').nth(1).and_then(|rest| rest.split('}').next()).unwrap();
        // Any text may be the token of an invite.
        if name == "token" {
            continue;
        }
        for (method, call) in calls {
            for bad in ["1", "%00", "00000000000070008000000000000001", "%7B00000000-0000-7000-8000-000000000001%7D"] {
                let url = filled(&path.replace(&format!("{{{name}}}"), bad));
                let body = match call.get("requestBody") {
                    Some(_) => json!({"id": new_id(), "content": {"text": "hi"}, "user_id": new_id()}),
                    None => json!({}),
                };
                let answer = stack.send(&method.to_uppercase(), &url, Some(&alice.token), &body).await;
                assert_eq!(answer.problem(422, "invalid_request"), [name], "{method} {url}");
            }
            // What does not exist and what is not the caller's look alike; of a status it is not even told.
            if method == "get" && !path.ends_with("/status") {
                stack.get(&filled(&path), Some(&alice.token)).await.problem(404, "not_found");
            }
        }
    }
    let messages = format!("/api/v1/conversations/{group}/messages");
    let log = format!("/api/v1/conversations/{group}/log");
    for (url, fields) in [
        (format!("{messages}?limit=0"), vec!["limit"]),
        (format!("{messages}?limit=101"), vec!["limit"]),
        (format!("{messages}?limit=many"), vec!["limit"]),
        (format!("{messages}?before=-1"), vec!["before"]),
        (format!("{messages}?after=9223372036854775808"), vec!["after"]),
        (format!("{messages}?before=3&after=1"), vec!["before", "after"]),
        (format!("{messages}?around=3&after=1"), vec!["after", "around"]),
        (format!("{log}?limit=501"), vec!["limit"]),
        (format!("{log}?after=x"), vec!["after"]),
        ("/api/v1/conversations?limit=101".to_owned(), vec!["limit"]),
        ("/api/v1/conversations?cursor=nonsense".to_owned(), vec!["cursor"]),
        ("/api/v1/conversations?cursor=%00".to_owned(), vec!["cursor"]),
        ("/api/v1/users".to_owned(), vec!["username"]),
    ] {
        assert_eq!(stack.get(&url, Some(&alice.token)).await.problem(422, "invalid_request"), fields, "{url}");
    }
    for good in [format!("{messages}?before=0"), format!("{messages}?after=9223372036854775807&more=1")] {
        assert_eq!(stack.get(&good, Some(&alice.token)).await.ok(200)["items"], json!([]), "{good}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_no_token() {
    let stack = Stack::start().await;
    let limits = stack.get("/api/v1/limits", None).await.ok(200);
    assert_eq!(limits["message_content_bytes"], 64 * 1024);
    assert_eq!(limits["frame_bytes"], 96 * 1024);
    let keys = stack.get("/.well-known/jwks.json", None).await;
    assert_eq!(keys.status, 200);
    assert_eq!(keys.body["keys"][0]["kty"], "OKP");
    assert_eq!(keys.header("cache-control"), Some("public, max-age=60"));
    for path in ["/healthz", "/readyz"] {
        assert_eq!(stack.get(path, None).await.ok(200)["status"], "ready");
    }
    assert_eq!(stack.get("/livez", None).await.ok(200)["status"], "alive");
    let head = Answer::of(stack.request("HEAD", "/api/v1/limits", None).send().await.unwrap()).await;
    assert_eq!((head.status, head.body), (200, Value::Null));
}
