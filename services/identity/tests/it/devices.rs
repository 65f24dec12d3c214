//! One's own devices.

use entrenous_model::IdGenerator;
use entrenous_protocol::{
    Code,
    rpc::{Done, identity::*},
};

use crate::fixture::{Fixture, code, login_request, next_ended};

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_listed_oldest_first() {
    let fixture = Fixture::start().await;
    let user = fixture.register("alice").await;
    for name in ["one", "two", "three"] {
        let mut request = login_request("alice");
        request.device.name = name.into();
        request.device.platform = Some("linux".into());
        fixture.login(request).await.unwrap();
        fixture.clock.advance(1);
    }
    let devices = fixture.call::<ListDevices>(ListDevicesRequest { user_id: user.id }).await.unwrap();
    assert_eq!(devices.iter().map(|device| device.name.as_str()).collect::<Vec<_>>(), ["one", "two", "three"]);
    assert!(devices.iter().all(|device| device.platform.as_deref() == Some("linux")));
    assert!(devices.iter().all(|device| device.last_login_at == Some(device.created_at)));
    let nobody = ListDevicesRequest { user_id: IdGenerator.next() };
    assert_eq!(fixture.call::<ListDevices>(nobody).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_of_several_users_are_those_that_are_there() {
    let fixture = Fixture::start().await;
    let (alice, laptop) = fixture.user("alice").await;
    let phone = fixture.login(login_request("alice")).await.unwrap().tokens.device_id;
    let (bob, bobs) = fixture.user("bob").await;
    let request = UsersRequest { ids: vec![alice.id, bob.id, IdGenerator.next()] };
    let devices = async || {
        let mut devices = fixture.call::<UserDevices>(request.clone()).await.unwrap();
        for one in &mut devices {
            one.device_ids.sort();
        }
        devices.sort_by_key(|one| one.user_id != alice.id);
        devices
    };
    let mut of_alice = vec![laptop.device_id, phone];
    of_alice.sort();
    let of_bob = DevicesOfUser { user_id: bob.id, device_ids: vec![bobs.device_id] };
    assert_eq!(devices().await, [DevicesOfUser { user_id: alice.id, device_ids: of_alice }, of_bob.clone()]);
    for device_id in [laptop.device_id, phone] {
        fixture.call::<DeleteDevice>(DeleteDeviceRequest { user_id: alice.id, device_id }).await.unwrap();
    }
    assert_eq!(devices().await, [of_bob]);
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_device_ends_its_login_and_frees_its_place() {
    let fixture = Fixture::with(1, &[("DEVICES_PER_USER", "1")]).await;
    let mut live = fixture.bus.subscribe_live().await.unwrap();
    let (user, tokens) = fixture.user("alice").await;
    let (bob, _) = fixture.user("bob").await;
    let login_id = fixture.claims(&tokens).await.sid;
    let delete =
        async |user_id, device_id| fixture.call::<DeleteDevice>(DeleteDeviceRequest { user_id, device_id }).await;
    assert_eq!(code(delete(bob.id, tokens.device_id).await), Err(Code::NotFound));
    assert_eq!(code(delete(user.id, IdGenerator.next()).await), Err(Code::NotFound));
    assert_eq!(code(fixture.login(login_request("alice")).await), Err(Code::TooLarge));

    assert_eq!(delete(user.id, tokens.device_id).await, Ok(Done {}));
    assert_eq!(next_ended(&mut live, user.id).await, [login_id]);
    assert_eq!(fixture.revoked().await, [login_id]);
    assert_eq!(code(fixture.refresh(&tokens.refresh_token).await), Err(Code::Unauthenticated));
    assert_eq!(fixture.call::<ListDevices>(ListDevicesRequest { user_id: user.id }).await.unwrap(), []);
    // Doing it twice answers like the first time.
    assert_eq!(delete(user.id, tokens.device_id).await, Ok(Done {}));
    assert_eq!(code(delete(bob.id, tokens.device_id).await), Err(Code::NotFound));
    assert_eq!(fixture.count("SELECT count(*) FROM identity.audit WHERE action = 'device_removed'").await, 1);
    assert_eq!(code(fixture.login(login_request("alice")).await), Ok(()));
}
