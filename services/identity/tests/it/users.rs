//! Registration, profiles and looking people up.

use entrenous_model::{IdGenerator, UserId};
use entrenous_protocol::{
    Code,
    rest::{ProfilePatch, Register, UserRole},
    rpc::identity::*,
};

use crate::fixture::{Fixture, code, fields, registration};

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_user_is_found() {
    let fixture = Fixture::start().await;
    let registration = Register {
        username: "Alice.B-1_x".into(),
        password: "12345678".into(),
        email: Some("alice@example.org".into()),
        display_name: Some("Alice 🦊".into()),
    };
    let request = RegisterRequest { user_id: IdGenerator.next(), registration };
    let user = fixture.call::<RegisterUser>(request).await.unwrap();
    assert_eq!((user.username.as_str(), user.role), ("alice.b-1_x", UserRole::User));
    assert_eq!(user.display_name.as_deref(), Some("Alice 🦊"));

    let find =
        async |username: &str| fixture.call::<FindUser>(FindUserRequest { username: username.into() }).await.unwrap();
    assert_eq!(find("ALICE.B-1_X").await.as_ref(), Some(&user));
    assert_eq!(find("bob").await, None);
    assert_eq!(find("al\0ice").await, None);

    let bob = fixture.register("bob").await;
    let mut users =
        fixture.call::<Users>(UsersRequest { ids: vec![bob.id, IdGenerator.next(), user.id, bob.id] }).await.unwrap();
    users.sort_by_key(|user| user.id);
    assert_eq!(users, [user, bob]);
    assert_eq!(fixture.call::<Users>(UsersRequest { ids: vec![] }).await.unwrap(), []);
    let ids: Vec<UserId> = (0..=USERS_MAX).map(|_| IdGenerator.next()).collect();
    assert_eq!(fields(fixture.call::<Users>(UsersRequest { ids }).await), ["ids"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_given_once_whatever_its_case() {
    let fixture = Fixture::with(2, &[]).await;
    let names = ["carol", "Carol", "CAROL", "cArol", "caRol", "carOl"];
    let tries = names.map(|name| fixture.call::<RegisterUser>(registration(name)));
    let results: Vec<_> = futures::future::join_all(tries).await.into_iter().map(code).collect();
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    assert!(results.iter().all(|result| matches!(result, Ok(()) | Err(Code::Conflict))), "{results:?}");
    assert!(
        fixture
            .execute(
                "INSERT INTO identity.users (id, username, password_hash, created_at, updated_at)
        VALUES (gen_random_uuid(), 'Dave', '', now(), now())"
            )
            .await
            .is_err()
    );
}

/// The bus asks again where an answer is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_registration_gets_the_same_account() {
    let fixture = Fixture::start().await;
    let request = registration("erin");
    let user = fixture.call::<RegisterUser>(request.clone()).await.unwrap();
    assert_eq!(user.id, request.user_id);
    assert_eq!(fixture.call::<RegisterUser>(request).await.as_ref(), Ok(&user));
    assert_eq!(code(fixture.call::<RegisterUser>(registration("erin")).await), Err(Code::Conflict));
}

#[tokio::test(flavor = "multi_thread")]
async fn registrations_that_do_not_validate_name_each_field() {
    let fixture = Fixture::start().await;
    let registration = Register {
        username: "x".into(),
        password: "1234567".into(),
        email: Some("nobody".into()),
        display_name: Some("\0".into()),
    };
    let request = RegisterRequest { user_id: IdGenerator.next(), registration };
    let bad = fixture.call::<RegisterUser>(request).await;
    assert_eq!(fields(bad), ["username", "password", "email", "display_name"]);
    assert_eq!(fixture.count("SELECT count(*) FROM identity.users").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_changes_only_where_asked() {
    let fixture = Fixture::start().await;
    let user = fixture.register("alice").await;
    let update = async |patch: ProfilePatch| {
        fixture.call::<UpdateProfile>(UpdateProfileRequest { user_id: user.id, patch }).await
    };
    let both = ProfilePatch {
        display_name: Some(Some("A".into())),
        email: Some(Some("a@b.org".into())),
        ..ProfilePatch::default()
    };
    let changed = update(both).await.unwrap();
    assert_eq!((changed.display_name.as_deref(), changed.email.as_deref()), (Some("A"), Some("a@b.org")));
    let changed = update(ProfilePatch { display_name: Some(None), ..ProfilePatch::default() }).await.unwrap();
    assert_eq!((changed.display_name.as_deref(), changed.email.as_deref()), (None, Some("a@b.org")));
    assert_eq!(update(ProfilePatch::default()).await.unwrap(), changed);
    let bad = ProfilePatch {
        display_name: Some(Some("x".repeat(65))),
        email: Some(Some("@".into())),
        ..ProfilePatch::default()
    };
    assert_eq!(fields(update(bad).await), ["email", "display_name"]);
    let unknown = UpdateProfileRequest { user_id: IdGenerator.next(), patch: ProfilePatch::default() };
    assert_eq!(code(fixture.call::<UpdateProfile>(unknown).await), Err(Code::NotFound));
}
