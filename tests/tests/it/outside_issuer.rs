//! Systems that take the tokens of an outside issuer: nobody registers or signs in, and people talk all the same.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use actix_web::{App, HttpResponse, HttpServer, dev::ServerHandle, web};
use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use entrenous_auth::{Claims, Signer};
use entrenous_client::{Api, ConnectError, Connection, Credential, SocketOptions, Target, Url};
use entrenous_model::{Clock, DeviceId, IdGenerator, LoginId, SystemClock, UserId};
use entrenous_protocol::{
    Code,
    entry::{ConversationKind, Encryption},
    rest::{CreateConversation, LoginDevice, UserRole},
};
use entrenous_system_tests::{PASSWORD, Person, Shape, System};
use serde_json::{Value, json};

use crate::support::{close_code, conversation, group, live, next_entry, sealed, text, until};

const SECRET: &str = "a secret that is shared with the outside issuer";
const ISSUER: &str = "https://issuer.example/";

/// What an outside issuer says of somebody.
fn claims(user_id: UserId, device_id: DeviceId) -> Claims {
    let now = SystemClock.now().unix_seconds();
    Claims {
        sub: user_id,
        device_id,
        username: "nobody".to_owned(),
        role: UserRole::User,
        iat: now,
        exp: now + 600,
        iss: ISSUER.to_owned(),
        aud: "chat".to_owned(),
        sid: IdGenerator.next::<LoginId>(),
    }
}

fn payload(name: &str) -> Value {
    let mut payload = json!(claims(IdGenerator.next(), IdGenerator.next()));
    payload["username"] = json!(name);
    payload["sid"] = json!(format!("session of {name}"));
    payload
}

fn hs256(payload: &Value, secret: &str) -> String {
    signed("HS256", payload, secret)
}

fn signed(algorithm: &str, payload: &Value, secret: &str) -> String {
    let header = json!({"alg": algorithm, "typ": "JWT"});
    let message = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(payload.to_string()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), message.as_bytes());
    format!("{message}.{}", BASE64.encode(tag))
}

fn person(gateway: &Url, payload: &Value, token: &str) -> Person {
    let id = |claim: &str| payload[claim].as_str().unwrap();
    Person {
        name: id("username").to_owned(),
        user_id: id("sub").parse().unwrap(),
        device_id: id("device_id").parse().unwrap(),
        api: Api::new(gateway.clone()).unwrap().with_token(token),
        refresh_token: String::new(),
    }
}

fn shape() -> Shape {
    Shape { gateways: 2, ..Shape::one_process() }.with("TOKEN_ISSUER", ISSUER).with("TOKEN_AUDIENCE", "chat")
}

async fn close_code_of(gateway: &Url, token: &str) -> Option<u16> {
    let credential = Credential::Subprotocol(token.to_owned());
    match Connection::connect(gateway, &credential, SocketOptions::default()).await {
        Err(ConnectError::Closed(end)) => end.code,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("let in"),
    }
}

async fn assert_refused(gateway: &Url, token: &str, code: Code, close: u16) {
    let error = Api::new(gateway.clone()).unwrap().with_token(token).me().await.unwrap_err();
    assert!(error.is(code), "{error}");
    assert_eq!(close_code_of(gateway, token).await, Some(close));
}

#[tokio::test]
async fn a_shared_secret() {
    let system = System::start(&shape().with("TOKEN_HS256_SECRET", SECRET)).await.unwrap();
    let somebody = |name: &str| {
        let payload = payload(name);
        person(system.gateway(), &payload, &hs256(&payload, SECRET))
    };
    let (alice, bob, carol) = (somebody("Alice"), somebody("bob"), somebody("carol"));
    nobody_signs_in_here(&alice).await;
    people_come_into_being(&alice, &bob, &carol).await;
    talk(&alice, &bob).await;
    bad_tokens(system.gateway()).await;
    let [_, second] = system.gateways() else { panic!("two gateways") };
    logins_end_everywhere(&bob, second).await;
    names_and_devices(&alice, system.gateway()).await;
    system.stop().await;
}

async fn nobody_signs_in_here(alice: &Person) {
    let nobody = Api::new(alice.api.base().clone()).unwrap();
    let device = LoginDevice { id: None, name: "x".to_owned(), platform: None };
    let refusals = [
        nobody.register("alice", PASSWORD, None).await.err(),
        nobody.login("alice", PASSWORD, device).await.err(),
        nobody.refresh("nonsense").await.err(),
    ];
    for error in refusals.map(Option::unwrap) {
        assert!(error.is(Code::NotFound), "{error}");
        assert!(error.refusal().unwrap().detail.contains("outside issuer"), "{error}");
    }
    let change = json!({"current_password": PASSWORD, "new_password": PASSWORD});
    let request = alice.api.request(reqwest::Method::POST, "/api/v1/auth/password").json(&change);
    assert_eq!(request.send().await.unwrap().status(), 404);
}

async fn people_come_into_being(alice: &Person, bob: &Person, carol: &Person) {
    let me = alice.api.me().await.unwrap();
    assert_eq!((me.id, me.username.as_str(), me.role), (alice.user_id, "alice", UserRole::User));
    let devices = alice.api.devices().await.unwrap().items;
    assert_eq!(devices.iter().map(|device| device.id).collect::<Vec<_>>(), [alice.device_id]);
    // Nobody knows of somebody who was never here.
    let with =
        |other| CreateConversation { encryption: Encryption::E2ee, ..conversation(ConversationKind::Direct, &[other]) };
    assert!(alice.api.create_conversation(&with(bob)).await.unwrap_err().is(Code::NotFound));
    // A connection is as good as a request.
    bob.connect().await.unwrap().close().await;
    let direct = alice.api.create_conversation(&with(bob)).await.unwrap();
    assert_eq!(direct.peer.unwrap().username, "bob");
    assert!(alice.api.user_by_name("carol").await.unwrap().is_none());
    carol.api.me().await.unwrap();
    assert_eq!(alice.api.user_by_name("CAROL").await.unwrap().unwrap().id, carol.user_id);
}

async fn talk(alice: &Person, bob: &Person) {
    let (at_alice, mut at_bob) = (live(alice).await, live(bob).await);
    let stored = at_alice.send_message(Target::User(bob.user_id), &sealed(b"one")).await.unwrap();
    let entry = next_entry(&mut at_bob).await;
    assert_eq!(
        (entry.seq, entry.sender_id, entry.sender_device_id),
        (stored.seq, alice.user_id, Some(alice.device_id))
    );
    let room = group(alice, &[bob]).await;
    let mut at_alice = live(alice).await;
    let sent = bob.api.send_message(room, &text("two")).await.unwrap();
    assert_eq!(next_entry(&mut at_alice).await.id, sent.id);
}

async fn bad_tokens(gateway: &Url) {
    let good = payload("mallory");
    let with = |claim: &str, value: Value| {
        let mut payload = good.clone();
        payload[claim] = value;
        hs256(&payload, SECRET)
    };
    let now = SystemClock.now().unix_seconds();
    for bad in [
        with("iss", json!("entrenous")),
        with("aud", json!("entrenous")),
        with("exp", json!(now + 100_000_000)),
        with("nbf", json!(now + 600)),
        with("sub", json!("mallory")),
        with("device_id", json!(null)),
        with("sid", json!("")),
        with("role", json!("root")),
        hs256(&good, "another secret that nobody shares with us"),
        signed("none", &good, SECRET),
        signed("HS512", &good, SECRET),
        signed("EdDSA", &good, SECRET),
        signed("RS256", &good, SECRET),
    ] {
        assert_refused(gateway, &bad, Code::Unauthenticated, 4500).await;
    }
    assert_refused(gateway, &with("exp", json!(now - 60)), Code::TokenExpired, 4401).await;
    // The one that was changed each time.
    person(gateway, &good, &hs256(&good, SECRET)).api.me().await.unwrap();
}

/// Logging out at one gateway ends the login at the others too, also for another token of it.
async fn logins_end_everywhere(bob: &Person, other_gateway: &Url) {
    let mut at_first = bob.connect().await.unwrap();
    let elsewhere = bob.api.with_base(other_gateway.clone());
    elsewhere.logout().await.unwrap();
    assert_eq!(close_code(&mut at_first).await, Some(4503));
    for api in [&bob.api, &elsewhere] {
        assert!(api.me().await.unwrap_err().is(Code::Unauthenticated));
        assert_eq!(close_code_of(api.base(), bob.token()).await, Some(4500));
    }
}

/// The issuer says what people are called; a name that is taken or cannot be one is left out.
async fn names_and_devices(alice: &Person, gateway: &Url) {
    let mut second = payload("alice");
    let same_name = person(gateway, &second, &hs256(&second, SECRET));
    assert_eq!(same_name.api.me().await.unwrap().username, same_name.user_id.to_string().replace('-', ""));
    second["username"] = json!("alice.b");
    second["role"] = json!("moderator");
    let me = person(gateway, &second, &hs256(&second, SECRET)).api.me().await.unwrap();
    assert_eq!((me.username.as_str(), me.role), ("alice.b", UserRole::Moderator));
    second["username"] = json!("Not a Name!");
    second["device_id"] = json!(IdGenerator.next::<DeviceId>());
    let tablet = person(gateway, &second, &hs256(&second, SECRET));
    assert_eq!(tablet.api.me().await.unwrap().username, "alice.b");
    // Two devices of a session are two logins.
    let mut at_tablet = tablet.connect().await.unwrap();
    same_name.api.logout().await.unwrap();
    assert_eq!(tablet.api.devices().await.unwrap().items.len(), 2);
    tablet.api.remove_device(tablet.device_id).await.unwrap();
    assert_eq!(close_code(&mut at_tablet).await, Some(4503));
    assert!(tablet.api.me().await.unwrap_err().is(Code::Unauthenticated));
    // A device of somebody else's is nobody's.
    second["device_id"] = json!(alice.device_id);
    let thief = person(gateway, &second, &hs256(&second, SECRET));
    assert!(thief.api.me().await.unwrap_err().is(Code::Unauthenticated));
}

/// An issuer that publishes its keys.
struct KeyServer {
    keys: Arc<Mutex<Value>>,
    asked: Arc<AtomicUsize>,
    url: String,
    handle: ServerHandle,
}

impl KeyServer {
    fn start(keys: Value) -> Self {
        let (keys, asked) = (Arc::new(Mutex::new(keys)), Arc::new(AtomicUsize::default()));
        let shared = (Arc::clone(&keys), Arc::clone(&asked));
        let server = HttpServer::new(move || {
            let (keys, asked) = shared.clone();
            App::new().route(
                "/keys",
                web::get().to(move || {
                    asked.fetch_add(1, Ordering::SeqCst);
                    let keys = keys.lock().unwrap().clone();
                    async move { HttpResponse::Ok().json(keys) }
                }),
            )
        });
        let server = server.workers(1).disable_signals().bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}/keys", server.addrs().first().unwrap());
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);
        Self { keys, asked, url, handle }
    }

    fn publish(&self, signers: &[&Signer]) {
        *self.keys.lock().unwrap() = set(signers);
    }
}

fn set(signers: &[&Signer]) -> Value {
    json!({"keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>()})
}

#[tokio::test]
async fn keys_of_an_issuer() {
    let (first, second) = (Signer::generate().unwrap().0, Signer::generate().unwrap().0);
    let issuer = KeyServer::start(set(&[&first]));
    let system = System::start(&shape().with("TOKEN_JWKS_URL", &issuer.url)).await.unwrap();
    let somebody = |signer: &Signer, claims: &Claims| person(system.gateway(), &json!(claims), &signer.issue(claims));
    let (of_alice, of_bob) =
        (claims(IdGenerator.next(), IdGenerator.next()), claims(IdGenerator.next(), IdGenerator.next()));
    let (alice, bob) = (somebody(&first, &of_alice), somebody(&first, &of_bob));
    bob.api.me().await.unwrap();
    talk(&alice, &bob).await;
    bad_signatures(&system, &first, &of_alice).await;

    issuer.publish(&[&second]);
    let renewed = somebody(&second, &of_alice);
    until("taken", async || renewed.api.me().await.is_ok().then(|| "taken".to_owned())).await;
    assert!(alice.api.me().await.unwrap_err().is(Code::Unauthenticated), "the old key is gone");

    // Keys that are known are good while the issuer is away, and unknown ones do no harm.
    issuer.handle.stop(false).await;
    let asked = issuer.asked.load(Ordering::SeqCst);
    renewed.api.me().await.unwrap();
    let ready = reqwest::get(format!("{}readyz", system.gateway())).await.unwrap();
    assert!(ready.status().is_success());
    until("unavailable", async || alice.api.me().await.unwrap_err().code().map(str::to_owned)).await;
    renewed.api.me().await.unwrap();
    assert_eq!(issuer.asked.load(Ordering::SeqCst), asked);
    system.stop().await;
}

async fn bad_signatures(system: &System, signer: &Signer, claims: &Claims) {
    let gateway = system.gateway();
    let x = signer.jwk()["x"].as_str().unwrap().to_owned();
    let wrong = |change: fn(&mut Claims)| {
        let mut claims = claims.clone();
        change(&mut claims);
        signer.issue(&claims)
    };
    for bad in [
        Signer::generate().unwrap().0.issue(claims),
        hs256(&json!(claims), &x),
        signed("none", &json!(claims), &x),
        wrong(|claims| claims.iss = "entrenous".into()),
        wrong(|claims| claims.aud = "entrenous".into()),
    ] {
        assert_refused(gateway, &bad, Code::Unauthenticated, 4500).await;
    }
    assert_refused(gateway, &wrong(|claims| claims.exp = claims.iat - 60), Code::TokenExpired, 4401).await;
}
