//! Logins that an outside issuer made.

use entrenous_model::{DeviceId, IdGenerator, UserId};
use entrenous_protocol::{Code, rest::UserRole, rpc::identity::*};

use crate::fixture::{Fixture, code, login_request, next_ended};

fn login(user_id: UserId, device_id: DeviceId, username: &str) -> AdmitLoginRequest {
    let login_id = IdGenerator.next();
    AdmitLoginRequest { user_id, device_id, login_id, username: username.to_owned(), role: UserRole::User }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_and_a_device_come_into_being_once() {
    let fixture = Fixture::with(2, &[]).await;
    let admit = async |request: &AdmitLoginRequest| fixture.call::<AdmitLogin>(request.clone()).await;
    let alice = login(IdGenerator.next(), IdGenerator.next(), "Alice");
    let at_once = futures::future::join_all((0..8).map(|_| admit(&alice))).await;
    let new: Vec<bool> = at_once.into_iter().map(|admitted| admitted.unwrap().is_new_device).collect();
    assert_eq!(new.iter().filter(|is_new| **is_new).count(), 1, "{new:?}");
    let users = fixture.call::<Users>(UsersRequest { ids: vec![alice.user_id] }).await.unwrap();
    assert_eq!(users.iter().map(|user| user.username.as_str()).collect::<Vec<_>>(), ["alice"]);
    let devices = fixture.call::<ListDevices>(ListDevicesRequest { user_id: alice.user_id }).await.unwrap();
    assert_eq!(devices.len(), 1);
    // There is no password that would let anybody in.
    for password in ["", "correct horse battery"] {
        let mut by_password = login_request("alice");
        password.clone_into(&mut by_password.password);
        assert_eq!(code(fixture.login(by_password).await), Err(Code::Unauthenticated));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_login_on_a_device_ends_the_older_for_good() {
    let fixture = Fixture::with(1, &[("DEVICES_PER_USER", "1")]).await;
    let mut live = fixture.bus.subscribe_live().await.unwrap();
    let admit = async |request: &AdmitLoginRequest| fixture.call::<AdmitLogin>(request.clone()).await;
    let older = login(IdGenerator.next(), IdGenerator.next(), "alice");
    admit(&older).await.unwrap();
    let newer = login(older.user_id, older.device_id, "alice");
    assert!(!admit(&newer).await.unwrap().is_new_device);
    assert_eq!(next_ended(&mut live, older.user_id).await, [older.login_id]);
    assert_eq!(code(admit(&older).await), Err(Code::Unauthenticated));
    assert_eq!(fixture.revoked().await, [older.login_id]);

    let second_device = login(older.user_id, IdGenerator.next(), "alice");
    assert_eq!(code(admit(&second_device).await), Err(Code::TooLarge));
    let removal = DeleteDeviceRequest { user_id: older.user_id, device_id: older.device_id };
    fixture.call::<DeleteDevice>(removal).await.unwrap();
    admit(&second_device).await.unwrap();
    assert_eq!(code(admit(&newer).await), Err(Code::Unauthenticated));
    let on_removed = login(older.user_id, older.device_id, "alice");
    assert_eq!(code(admit(&on_removed).await), Err(Code::Unauthenticated));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_the_name_that_another_falls_back_on() {
    let fixture = Fixture::start().await;
    let bob: UserId = IdGenerator.next();
    let name_of_bob = bob.as_uuid().simple().to_string();
    let thief = login(IdGenerator.next(), IdGenerator.next(), &name_of_bob);
    fixture.call::<AdmitLogin>(thief.clone()).await.unwrap();
    fixture.call::<AdmitLogin>(login(bob, IdGenerator.next(), "no name!")).await.unwrap();
    let users = fixture.call::<Users>(UsersRequest { ids: vec![bob] }).await.unwrap();
    assert_eq!(users.first().unwrap().username, name_of_bob);
    // Who registered here with such a name keeps it; the other is told.
    let carol: UserId = IdGenerator.next();
    fixture.register(&carol.as_uuid().simple().to_string()).await;
    let refused = fixture.call::<AdmitLogin>(login(carol, IdGenerator.next(), "carol")).await;
    assert_eq!(code(refused), Err(Code::Conflict));
}
