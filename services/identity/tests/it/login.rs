//! Signing in and out.

use diesel_async::SimpleAsyncConnection;
use entrenous_model::{Clock, IdGenerator};
use entrenous_protocol::{
    Code,
    rest::UserRole,
    rpc::{Done, identity::*},
};

use entrenous_test_support::wait_for;

use crate::fixture::{Fixture, code, fields, login_on, login_request, next_ended, wrong_login};

#[tokio::test(flavor = "multi_thread")]
async fn a_login_gives_tokens_that_gateways_take() {
    let fixture = Fixture::start().await;
    let user = fixture.register("alice").await;
    let granted = fixture.login(login_request("ALICE")).await.unwrap();
    assert!(granted.is_new_device);
    let tokens = granted.tokens;
    assert_eq!((tokens.token_type.as_str(), tokens.expires_in), ("Bearer", 900));
    assert_eq!(tokens.user, user);
    let claims = fixture.claims(&tokens).await;
    assert_eq!((claims.sub, claims.device_id), (user.id, tokens.device_id));
    assert_eq!((claims.username.as_str(), claims.role), ("alice", UserRole::User));
    assert_eq!(claims.exp - claims.iat, 900);
    assert!((fixture.clock.now().unix_seconds() - claims.iat).abs() < 60);
    // Only hashes are kept.
    let sql =
        "SELECT count(*) FROM identity.refresh_tokens WHERE position(convert_to('TOKEN', 'UTF8') in token_hash) > 0";
    assert_eq!(fixture.count(&sql.replace("TOKEN", &tokens.refresh_token)).await, 0);
    let sql = "SELECT count(*) FROM identity.refresh_tokens WHERE token_hash = sha256(convert_to('TOKEN', 'UTF8'))";
    assert_eq!(fixture.count(&sql.replace("TOKEN", &tokens.refresh_token)).await, 1);
    let sql = "SELECT count(*) FROM identity.audit WHERE action = 'login_new_device'";
    assert_eq!(fixture.count(sql).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_and_unknown_users_look_alike() {
    let fixture = Fixture::start().await;
    fixture.register("alice").await;
    let wrong = fixture.login(wrong_login("alice")).await.map(drop).unwrap_err();
    let unknown = fixture.login(wrong_login("nobody")).await.map(drop).unwrap_err();
    assert_eq!(wrong.code, Code::Unauthenticated);
    assert_eq!(wrong, unknown);
    for name in ["", "al\0ice", &"x".repeat(100_000), "älice"] {
        assert_eq!(code(fixture.login(login_request(name)).await), Err(Code::Unauthenticated));
    }
    let mut request = login_request("alice");
    request.password = String::new();
    assert_eq!(code(fixture.login(request).await), Err(Code::Unauthenticated));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_on_a_device_ends_the_one_before() {
    let fixture = Fixture::start().await;
    let mut live = fixture.bus.subscribe_live().await.unwrap();
    let (user, first) = fixture.user("alice").await;
    let (_, elsewhere) = (0, fixture.login(login_request("alice")).await.unwrap().tokens);
    let first_login = fixture.claims(&first).await.sid;

    let mut request = login_on("alice", first.device_id);
    request.device.name = "new name".into();
    let granted = fixture.login(request).await.unwrap();
    assert!(!granted.is_new_device);
    assert_eq!(granted.tokens.device_id, first.device_id);
    assert_eq!(next_ended(&mut live, user.id).await, [first_login]);
    assert_eq!(fixture.revoked().await, [first_login]);
    assert_eq!(code(fixture.refresh(&first.refresh_token).await), Err(Code::Unauthenticated));
    assert_eq!(code(fixture.refresh(&granted.tokens.refresh_token).await), Ok(()));
    assert_eq!(code(fixture.refresh(&elsewhere.refresh_token).await), Ok(()));
    let devices = fixture.call::<ListDevices>(ListDevicesRequest { user_id: user.id }).await.unwrap();
    assert_eq!(devices.iter().map(|device| device.name.as_str()).collect::<Vec<_>>(), ["new name", "phone"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_and_foreign_devices_are_not_found() {
    let fixture = Fixture::start().await;
    let (_, alice) = fixture.user("alice").await;
    let (bob, bobs) = fixture.user("bob").await;
    assert_eq!(code(fixture.login(login_on("bob", alice.device_id)).await), Err(Code::NotFound));
    assert_eq!(code(fixture.login(login_on("bob", IdGenerator.next())).await), Err(Code::NotFound));
    let delete = DeleteDeviceRequest { user_id: bob.id, device_id: bobs.device_id };
    fixture.call::<DeleteDevice>(delete).await.unwrap();
    assert_eq!(code(fixture.login(login_on("bob", bobs.device_id)).await), Err(Code::NotFound));
    // Nobody's login was touched.
    assert_eq!(code(fixture.refresh(&alice.refresh_token).await), Ok(()));
    // Whoever does not know the password learns nothing about devices.
    let mut request = wrong_login("bob");
    request.device.id = Some(alice.device_id);
    assert_eq!(code(fixture.login(request).await), Err(Code::Unauthenticated));
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_checked_and_limited() {
    let fixture = Fixture::with(2, &[("DEVICES_PER_USER", "3")]).await;
    fixture.register("alice").await;
    let mut request = login_request("alice");
    request.device.name = String::new();
    request.device.platform = Some("x".repeat(33));
    assert_eq!(fields(fixture.login(request).await), ["device.name", "device.platform"]);

    fixture.login(login_request("alice")).await.unwrap();
    // All five stand before the user's row at the same moment.
    let mut held = fixture.connection().await;
    held.batch_execute("BEGIN; SELECT FROM identity.users FOR UPDATE").await.unwrap();
    let logins = futures::future::join_all((0..5).map(|_| fixture.login(login_request("alice"))));
    let release = async {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        let look = async || if fixture.count(sql).await == 5 { Ok(()) } else { Err("not all there") };
        wait_for("five logins", look).await.unwrap();
        held.batch_execute("COMMIT").await.unwrap();
    };
    let (results, ()) = tokio::join!(logins, release);
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 2);
    for failure in results.into_iter().filter_map(Result::err) {
        assert_eq!(failure.code, Code::TooLarge);
        assert!(failure.detail.contains("devices_per_user"), "{}", failure.detail);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logout_ends_the_login_and_may_be_repeated() {
    let fixture = Fixture::start().await;
    let mut live = fixture.bus.subscribe_live().await.unwrap();
    let (user, tokens) = fixture.user("alice").await;
    let (bob, _) = fixture.user("bob").await;
    let login_id = fixture.claims(&tokens).await.sid;

    let foreign = LogoutRequest { user_id: bob.id, login_id };
    assert_eq!(fixture.call::<Logout>(foreign).await, Ok(Done {}));
    assert_eq!(fixture.revoked().await, []);

    for _ in 0..2 {
        let request = LogoutRequest { user_id: user.id, login_id };
        assert_eq!(fixture.call::<Logout>(request).await, Ok(Done {}));
    }
    assert_eq!(next_ended(&mut live, user.id).await, [login_id]);
    assert_eq!(code(fixture.refresh(&tokens.refresh_token).await), Err(Code::Unauthenticated));
    assert_eq!(fixture.revoked().await, [login_id]);
    // As long as an access token of it may live, and a minute.
    fixture.clock.advance(900);
    assert_eq!(fixture.revoked().await, [login_id]);
    fixture.clock.advance(65);
    assert_eq!(fixture.revoked().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn suspended_accounts_are_kept_out() {
    let fixture = Fixture::start().await;
    let (_, tokens) = fixture.user("alice").await;
    fixture.execute("UPDATE identity.users SET suspended_at = now()").await.unwrap();
    assert_eq!(code(fixture.login(login_request("alice")).await), Err(Code::Forbidden));
    assert_eq!(code(fixture.login(wrong_login("alice")).await), Err(Code::Unauthenticated));
    assert_eq!(code(fixture.refresh(&tokens.refresh_token).await), Err(Code::Unauthenticated));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_renews_a_hash_that_is_too_cheap() {
    let mut fixture = Fixture::start().await;
    fixture.register("alice").await;
    let costing = async |fixture: &Fixture, cost: &str| {
        fixture
            .count(&format!("SELECT count(*) FROM identity.users WHERE password_hash LIKE '$argon2id$v=19${cost}$%'"))
            .await
    };
    fixture.login(login_request("alice")).await.unwrap();
    assert_eq!(costing(&fixture, "m=64,t=1,p=1").await, 1);
    fixture.replicas.remove(0).stop().await;
    let dear = fixture.replica(&[("IDENTITY_HASH_MEMORY_KIB", "19456"), ("IDENTITY_HASH_ITERATIONS", "2")]).await;
    fixture.replicas.push(dear);
    assert_eq!(code(fixture.login(wrong_login("alice")).await), Err(Code::Unauthenticated));
    assert_eq!(costing(&fixture, "m=64,t=1,p=1").await, 1);
    let logins = (0..4).map(|_| fixture.login(login_request("alice")));
    assert!(futures::future::join_all(logins).await.iter().all(Result::is_ok));
    assert_eq!(costing(&fixture, "m=19456,t=2,p=1").await, 1);
    fixture.login(login_request("alice")).await.unwrap();
}
