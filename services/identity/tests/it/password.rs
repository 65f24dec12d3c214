//! Changing the password.

use entrenous_model::{IdGenerator, LoginId};
use entrenous_protocol::{
    Code, Failure,
    rest::{Tokens, User},
    rpc::identity::*,
};

use crate::fixture::{ADDRESS, Fixture, PASSWORD, code, fields, login_request, next_ended};

const NEW: &str = "another password";

async fn change(
    fixture: &Fixture,
    user: &User,
    login_id: LoginId,
    (current_password, new_password): (&str, &str),
) -> Result<(), Failure> {
    let request = ChangePasswordRequest {
        user_id: user.id,
        login_id,
        current_password: current_password.into(),
        new_password: new_password.into(),
        address: ADDRESS.into(),
    };
    fixture.call::<ChangePassword>(request).await.map(drop)
}

async fn another_login(fixture: &Fixture) -> Tokens {
    fixture.login(login_request("alice")).await.unwrap().tokens
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_ends_every_other_login() {
    let fixture = Fixture::start().await;
    let mut live = fixture.bus.subscribe_live().await.unwrap();
    let (user, own) = fixture.user("alice").await;
    let (_, bobs) = fixture.user("bob").await;
    let others = [another_login(&fixture).await, another_login(&fixture).await];
    let mut other_logins = vec![fixture.claims(&others[0]).await.sid, fixture.claims(&others[1]).await.sid];
    other_logins.sort();

    let login_id = fixture.claims(&own).await.sid;
    assert_eq!(change(&fixture, &user, login_id, (PASSWORD, NEW)).await, Ok(()));
    assert_eq!(next_ended(&mut live, user.id).await, other_logins);
    for other in others {
        assert_eq!(code(fixture.refresh(&other.refresh_token).await), Err(Code::Unauthenticated));
    }
    for kept in [own, bobs] {
        assert_eq!(code(fixture.refresh(&kept.refresh_token).await), Ok(()));
    }
    assert_eq!(code(fixture.login(login_request("alice")).await), Err(Code::Unauthenticated));
    let request = LoginRequest { password: NEW.into(), ..login_request("alice") };
    assert_eq!(code(fixture.login(request).await), Ok(()));
    assert_eq!(fixture.count("SELECT count(*) FROM identity.audit WHERE action = 'password_changed'").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_changes_nothing() {
    let fixture = Fixture::start().await;
    let (user, tokens) = fixture.user("alice").await;
    let other = another_login(&fixture).await;
    let login_id = fixture.claims(&tokens).await.sid;
    assert_eq!(code(change(&fixture, &user, login_id, ("wrong password", NEW)).await), Err(Code::Forbidden));
    for bad in ["short", &"x".repeat(129), "with a \0 in it"] {
        assert_eq!(fields(change(&fixture, &user, login_id, (PASSWORD, bad)).await), ["new_password"]);
    }
    // A login that never was, or has ended, changes nothing any more.
    let unknown = change(&fixture, &user, IdGenerator.next(), (PASSWORD, NEW)).await;
    assert_eq!(code(unknown), Err(Code::Unauthenticated));
    let other_login = fixture.claims(&other).await.sid;
    fixture.call::<Logout>(LogoutRequest { user_id: user.id, login_id: other_login }).await.unwrap();
    assert_eq!(code(change(&fixture, &user, other_login, (PASSWORD, NEW)).await), Err(Code::Unauthenticated));
    let nobody = User { id: IdGenerator.next(), ..user };
    assert_eq!(code(change(&fixture, &nobody, login_id, (PASSWORD, NEW)).await), Err(Code::Unauthenticated));
    assert_eq!(code(fixture.login(login_request("alice")).await), Ok(()));
    assert_eq!(code(fixture.refresh(&tokens.refresh_token).await), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_changes_at_once_one_counts() {
    let fixture = Fixture::with(2, &[]).await;
    let (user, tokens) = fixture.user("alice").await;
    let login_id = fixture.claims(&tokens).await.sid;
    let (one, other) = tokio::join!(
        change(&fixture, &user, login_id, (PASSWORD, "one password")),
        change(&fixture, &user, login_id, (PASSWORD, "other password"))
    );
    let mut results = [code(one), code(other)];
    results.sort_by_key(Result::is_err);
    assert_eq!(results, [Ok(()), Err(Code::Forbidden)]);
}
