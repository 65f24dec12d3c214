//! The descriptions of the API and the page to read them.

use crate::rest_stack::Stack;

#[tokio::test(flavor = "multi_thread")]
async fn descriptions_and_their_page_need_no_token() {
    let stack = Stack::start().await;
    let openapi = stack.get("/api/v1/openapi.json", None).await.ok(200);
    let asyncapi = stack.get("/api/v1/asyncapi.json", None).await.ok(200);
    assert_eq!((&openapi["openapi"], &asyncapi["asyncapi"]), (&"3.1.0".into(), &"3.0.0".into()));

    let page = stack.request("GET", "/api/v1/docs", None).send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    let text = page.text().await.unwrap();
    // Whatever the page loads is there, and nothing is elsewhere.
    let base = reqwest::Url::parse(&format!("{}/api/v1/docs", stack.base)).unwrap();
    let loaded: Vec<&str> = [" href=\"", " src=\""]
        .into_iter()
        .flat_map(|attribute| text.split(attribute).skip(1).filter_map(|rest| rest.split('"').next()))
        .filter(|address| *address != "data:,")
        .collect();
    assert_eq!(loaded.len(), 4, "{loaded:?}");
    for address in loaded {
        let address = base.join(address).unwrap();
        assert_eq!(address.origin(), base.origin());
        let answer = stack.http.get(address.clone()).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{address}");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    }
}
