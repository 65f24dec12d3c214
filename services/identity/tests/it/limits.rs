//! The limit on wrong passwords.

use entrenous_model::UserId;
use entrenous_protocol::{Code, Failure, rpc::identity::*};

use crate::fixture::{ADDRESS, Fixture, PASSWORD, code, login_request, wrong_login};

#[tokio::test(flavor = "multi_thread")]
async fn after_five_failures_even_the_right_password_is_refused() {
    let fixture = Fixture::start().await;
    fixture.register("alice").await;
    for name in ["alice", "nobody"] {
        for _ in 0..5 {
            assert_eq!(code(fixture.login(wrong_login(name)).await), Err(Code::Unauthenticated));
        }
        for request in [login_request(name), wrong_login(name), login_request(&name.to_uppercase())] {
            let failure = fixture.login(request).await.map(drop).unwrap_err();
            assert_eq!(failure.code, Code::RateLimited, "{name}");
            let retry_after_ms = failure.retry_after_ms.unwrap();
            assert!((1..=900_000).contains(&retry_after_ms), "{retry_after_ms}");
        }
    }
    // Another address, and another account, have failures of their own.
    let elsewhere = LoginRequest { address: "203.0.113.8".into(), ..login_request("alice") };
    assert_eq!(code(fixture.login(elsewhere).await), Ok(()));
    fixture.register("bob").await;
    assert_eq!(code(fixture.login(login_request("bob")).await), Ok(()));
    // The refused attempts did not count: after the window it goes on.
    fixture.clock.advance(901);
    assert_eq!(code(fixture.login(login_request("alice")).await), Ok(()));
    let sql = "SELECT count(*) FROM identity.login_failures WHERE encode(attempt_key, 'escape') LIKE '%203.0.113%'";
    assert_eq!(fixture.count(sql).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_forgotten_one_by_one() {
    let fixture = Fixture::start().await;
    fixture.register("alice").await;
    for _ in 0..5 {
        assert_eq!(code(fixture.login(wrong_login("alice")).await), Err(Code::Unauthenticated));
        fixture.clock.advance(170);
    }
    // 850 s after the first.
    assert_eq!(code(fixture.login(login_request("alice")).await), Err(Code::RateLimited));
    fixture.clock.advance(60);
    assert_eq!(code(fixture.login(login_request("alice")).await), Ok(()));
    assert_eq!(code(fixture.login(wrong_login("alice")).await), Err(Code::Unauthenticated));
    assert_eq!(code(fixture.login(login_request("alice")).await), Err(Code::RateLimited));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tries_at_once_on_two_replicas_do_not_get_around_it() {
    let fixture = Fixture::with(2, &[("IDENTITY_HASH_MEMORY_KIB", "1024")]).await;
    fixture.register("alice").await;
    let tries = (0..40).map(|_| fixture.login(wrong_login("alice")));
    let results: Vec<_> = futures::future::join_all(tries).await.into_iter().map(code).collect();
    let wrong = results.iter().filter(|result| **result == Err(Code::Unauthenticated)).count();
    let limited = results.iter().filter(|result| **result == Err(Code::RateLimited)).count();
    assert_eq!((wrong, limited), (5, 35), "{results:?}");
    assert_eq!(code(fixture.login(login_request("alice")).await), Err(Code::RateLimited));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_right_passwords_at_once_are_no_failures() {
    let fixture = Fixture::with(2, &[]).await;
    fixture.register("alice").await;
    let logins = (0..16).map(|_| fixture.login(login_request("alice")));
    let results: Vec<_> = futures::future::join_all(logins).await.into_iter().map(code).collect();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(fixture.count("SELECT count(*) FROM identity.login_failures").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_current_passwords_count_too() {
    let fixture = Fixture::start().await;
    let (user, tokens) = fixture.user("alice").await;
    let login_id = fixture.claims(&tokens).await.sid;
    let change = async |user_id: UserId, current: &str| -> Result<(), Failure> {
        let request = ChangePasswordRequest {
            user_id,
            login_id,
            current_password: current.into(),
            new_password: "another password".into(),
            address: ADDRESS.into(),
        };
        fixture.call::<ChangePassword>(request).await.map(drop)
    };
    for _ in 0..3 {
        assert_eq!(code(change(user.id, "wrong password").await), Err(Code::Forbidden));
    }
    for _ in 0..2 {
        assert_eq!(code(fixture.login(wrong_login("alice")).await), Err(Code::Unauthenticated));
    }
    let failure = change(user.id, PASSWORD).await.unwrap_err();
    assert_eq!(failure.code, Code::RateLimited);
    assert!(failure.retry_after_ms.is_some());
    assert_eq!(code(fixture.login(login_request("alice")).await), Err(Code::RateLimited));
    fixture.clock.advance(901);
    assert_eq!(code(change(user.id, PASSWORD).await), Ok(()));
}
