//! Accounts, logins and tokens, over REST and at the WebSocket.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use entrenous_client::{Api, ConnectError, Connection, Credential, Socket, SocketOptions, Url};
use entrenous_protocol::{Code, rest::LoginDevice};
use entrenous_system_tests::{PASSWORD, Person, Shape, System};

use crate::support::{close_code, until};

fn device(name: &str) -> LoginDevice {
    LoginDevice { id: None, name: name.to_owned(), platform: None }
}

#[tokio::test]
async fn accounts_logins_and_devices() {
    let system = System::start(&Shape::one_process()).await.unwrap();
    let nobody = Api::new(system.gateway().clone()).unwrap();
    registering(&nobody).await;
    let alice = Person::new(system.gateway(), "alice").await.unwrap();
    assert_eq!(alice.api.me().await.unwrap().id, alice.user_id);
    assert_eq!(nobody.me().await.unwrap_err().code(), Some("unauthenticated"));
    assert_eq!(alice.api.user_by_name("ALICE").await.unwrap().unwrap().id, alice.user_id);
    assert!(alice.api.user_by_name("nobody-here").await.unwrap().is_none());
    refreshing(&nobody, &alice).await;
    devices(&system, &nobody).await;
    failures(&nobody).await;
    system.stop().await;
}

async fn registering(nobody: &Api) {
    nobody.register("taken", PASSWORD, None).await.unwrap();
    assert!(nobody.register("Taken", PASSWORD, None).await.unwrap_err().is(Code::Conflict));
    for (name, password) in [
        ("ab", PASSWORD),
        ("has space", PASSWORD),
        ("shorty", "1234567"),
        ("longy", &"x".repeat(129)),
        ("a\0b", PASSWORD),
    ] {
        let error = nobody.register(name, password, None).await.unwrap_err();
        assert!(error.is(Code::Invalid), "{name:?}: {error}");
        assert!(!error.refusal().unwrap().errors.is_empty(), "{name:?}: {error}");
    }
}

async fn refreshing(nobody: &Api, alice: &Person) {
    let first = nobody.login("alice", PASSWORD, device("refreshing")).await.unwrap();
    let second = nobody.refresh(&first.refresh_token).await.unwrap();
    let again = nobody.refresh(&first.refresh_token).await.unwrap();
    assert_eq!(again.refresh_token, second.refresh_token, "an answer that was lost is given again");
    let third = nobody.refresh(&second.refresh_token).await.unwrap();
    assert!(nobody.refresh(&first.refresh_token).await.err().unwrap().is(Code::RefreshTokenReused));
    assert_eq!(
        nobody.refresh(&third.refresh_token).await.err().unwrap().status(),
        Some(401),
        "the whole login is over"
    );
    assert_eq!(nobody.refresh("nonsense").await.err().unwrap().status(), Some(401));
    assert!(alice.api.me().await.is_ok(), "another login goes on");
}

async fn devices(system: &System, nobody: &Api) {
    let phone = Person::new(system.gateway(), "bob").await.unwrap();
    let laptop = Person::login(system.gateway(), "bob", "laptop").await.unwrap();
    assert_eq!(phone.api.devices().await.unwrap().items.len(), 2);
    let mut connection = laptop.connect().await.unwrap();
    phone.api.remove_device(laptop.device_id).await.unwrap();
    assert_eq!(close_code(&mut connection).await, Some(4503));
    assert_eq!(laptop.api.me().await.unwrap_err().status(), Some(401));
    assert_eq!(phone.api.devices().await.unwrap().items.len(), 1);
    let foreign = LoginDevice { id: Some(laptop.device_id), ..device("x") };
    assert!(nobody.login("bob", PASSWORD, foreign).await.err().unwrap().is(Code::NotFound));
    let mut connection = phone.connect().await.unwrap();
    phone.api.logout().await.unwrap();
    assert_eq!(close_code(&mut connection).await, Some(4503));
    assert_eq!(phone.api.me().await.unwrap_err().status(), Some(401));
    let same = LoginDevice { id: Some(phone.device_id), ..device("phone") };
    assert_eq!(nobody.login("bob", PASSWORD, same).await.unwrap().device_id, phone.device_id);
}

async fn failures(nobody: &Api) {
    nobody.register("carol", PASSWORD, None).await.unwrap();
    for _ in 0..5 {
        assert!(nobody.login("carol", "wrong password", device("x")).await.err().unwrap().is(Code::Unauthenticated));
    }
    let error = nobody.login("carol", PASSWORD, device("x")).await.err().unwrap();
    assert!(error.is(Code::RateLimited), "{error}");
    assert!(error.retry_after().is_some());
}

#[tokio::test]
async fn tokens_at_the_websocket() {
    let system = System::start(&Shape::one_process().with("ACCESS_TOKEN_SECONDS", 12)).await.unwrap();
    let alice = Person::new(system.gateway(), "alice").await.unwrap();
    let token = alice.token().to_owned();
    every_way_in(system.gateway(), &token).await;
    replaced(&alice).await;
    for bad in forged(&token) {
        assert_eq!(refused_with(system.gateway(), Credential::Subprotocol(bad.clone())).await, Some(4500), "{bad}");
        let error = alice.api.with_token(&bad).me().await.unwrap_err();
        assert!(error.is(Code::Unauthenticated), "{bad}: {error}");
    }
    not_authenticated(system.gateway()).await;
    expiry(&system, &alice).await;
    system.stop().await;
}

async fn every_way_in(gateway: &Url, token: &str) {
    for credential in [
        Credential::Subprotocol(token.to_owned()),
        Credential::Header(token.to_owned()),
        Credential::FirstFrame(token.to_owned()),
    ] {
        let connection = Connection::connect(gateway, &credential, SocketOptions::default()).await.unwrap();
        connection.handle().ping().await.unwrap();
        connection.close().await;
    }
}

async fn replaced(alice: &Person) {
    let mut older = alice.connect().await.unwrap();
    let newer = alice.connect().await.unwrap();
    assert_eq!(close_code(&mut older).await, Some(4509));
    newer.handle().ping().await.unwrap();
}

/// Tokens that look like the good one and are not.
fn forged(token: &str) -> Vec<String> {
    let parts: Vec<_> = token.split('.').collect();
    let [header, claims, signature] = parts.as_slice() else { panic!("no JWT") };
    let encode = |json: &str| URL_SAFE_NO_PAD.encode(json);
    let mut other: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    other["role"] = "admin".into();
    let none = encode(r#"{"alg":"none","typ":"JWT"}"#);
    let symmetric = encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    other["aud"] = "somebody-else".into();
    vec![
        "nonsense".to_owned(),
        format!("{none}.{claims}."),
        format!("{none}.{claims}.{signature}"),
        format!("{symmetric}.{claims}.{signature}"),
        format!("{header}.{}.{signature}", encode(&other.to_string())),
        format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode([7; 64])),
        format!("{header}.{claims}"),
    ]
}

async fn refused_with(gateway: &Url, credential: Credential) -> Option<u16> {
    match Connection::connect(gateway, &credential, SocketOptions::default()).await {
        Err(ConnectError::Closed(end)) => end.code,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("let in"),
    }
}

async fn not_authenticated(gateway: &Url) {
    let open = async || Socket::connect(gateway, &Credential::None, SocketOptions::default()).await.unwrap();
    let mut silent = open().await;
    let mut eager = open().await;
    eager.send(r#"{"type":"ping","id":"01900000-0000-7000-8000-000000000001","payload":{}}"#).await.unwrap();
    assert_eq!(eager.next().await.unwrap_err().code, Some(4501));
    let end = tokio::time::timeout(Duration::from_secs(15), silent.next()).await.unwrap();
    assert_eq!(end.unwrap_err().code, Some(4501), "nothing within 5 s");
}

async fn expiry(system: &System, alice: &Person) {
    let nobody = Api::new(system.gateway().clone()).unwrap();
    let tokens = nobody.refresh(&alice.refresh_token).await.unwrap();
    let alice = Person::with_tokens(&nobody, "alice", tokens);
    let renewing = Person::new(system.gateway(), "renewing").await.unwrap();
    let mut ending = alice.connect().await.unwrap();
    let mut staying = renewing.connect().await.unwrap();
    let tokens = nobody.refresh(&renewing.refresh_token).await.unwrap();
    staying.handle().renew_token(&tokens.access_token).await.unwrap();
    assert_eq!(close_code(&mut ending).await, Some(4401));
    // Clocks of machines differ a little: REST takes a token some seconds longer.
    until("token_expired", async || match alice.api.me().await {
        Ok(_) => None,
        Err(error) => error.code().map(str::to_owned),
    })
    .await;
    assert_eq!(refused_with(system.gateway(), Credential::Header(alice.token().to_owned())).await, Some(4401));
    assert_eq!(close_code(&mut staying).await, Some(4401), "the newer token ends too");
}
