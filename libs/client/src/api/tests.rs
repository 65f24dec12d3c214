use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

/// Answers one request with this text; tells what was asked.
async fn answer(response: &'static str) -> (Api, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 8_192];
        let length = stream.read(&mut request).await.unwrap();
        request.truncate(length);
        stream.write_all(response.as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap()
    });
    (Api::new(url.parse().unwrap()).unwrap(), asked)
}

#[tokio::test]
async fn a_refusal_has_code_status_and_retry_after() {
    let (api, asked) = answer(
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nConnection: close\r\n\r\n\
         {\"code\":\"rate_limited\",\"detail\":\"d\",\"status\":429,\"title\":\"t\",\"type\":\"about:blank\"}",
    )
    .await;
    let error = api.with_token("t0ken").me().await.unwrap_err();
    assert_eq!((error.code(), error.status()), (Some("rate_limited"), Some(429)));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    assert!(!error.is_outcome_unknown());
    let asked = asked.await.unwrap();
    assert!(asked.starts_with("GET /api/v1/users/me HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("authorization: Bearer t0ken\r\n"), "{asked}");
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_leaves_the_outcome_open() {
    let (api, _) = answer("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{").await;
    let error = api.limits().await.unwrap_err();
    assert!(matches!(error, ApiError::Unexpected { status: 200, .. }));
    assert!(error.is_outcome_unknown());
}

#[tokio::test]
async fn an_answer_without_body_is_a_success() {
    let (api, asked) = answer("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
    api.logout().await.unwrap();
    assert!(asked.await.unwrap().starts_with("POST /api/v1/auth/logout "));
}
