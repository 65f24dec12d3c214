//! Who is there: told to those who asked and may see it, and right again after anything has died.

use entrenous_client::{
    Connection, RequestError, Target,
    frame::{Body, Status},
    outgoing,
};
use entrenous_model::{IdGenerator, UserId};
use entrenous_protocol::{
    rest::{ProfilePatch, VisibleTo},
    status::{ChosenStatus, PresenceStatus, StatusChoice, UserStatus, WATCHED_MAX},
};
use entrenous_system_tests::{Person, Shape, System};

use crate::support::{group, live, next, next_entry, sealed, text, until};

async fn watch(connection: &Connection, user_ids: &[UserId]) -> Result<(), RequestError> {
    let id = IdGenerator.next();
    connection.handle().request(id, outgoing::watch_status(Some(id), user_ids)).await?.wait().await.map(drop)
}

async fn choose(connection: &Connection, status: ChosenStatus, text: Option<&str>) {
    let (id, choice) = (IdGenerator.next(), StatusChoice { status, text: text.map(str::to_owned) });
    let frame = outgoing::status_update(Some(id), &choice);
    connection.handle().request(id, frame).await.unwrap().wait().await.unwrap();
}

async fn next_status(connection: &mut Connection) -> Status {
    next(connection, |body| match body {
        Body::Status(status) => Some(status),
        _ => None,
    })
    .await
}

/// Waits until the user is said to be like that; statuses on the way there are passed over.
async fn status_becomes(connection: &mut Connection, user_id: UserId, wanted: &str) -> Status {
    next(connection, |body| match body {
        Body::Status(status) if status.user_id == user_id && status.status == wanted => Some(status),
        _ => None,
    })
    .await
}

fn short_grace(shape: Shape) -> Shape {
    shape.with("PRESENCE_GRACE_MS", 300).with("PRESENCE_LEASE_MS", 6_000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_and_may_see_is_told_of_every_change() {
    let system = System::start(&short_grace(Shape { gateways: 2, ..Shape::one_process() })).await.unwrap();
    let [first, second] = system.gateways() else { panic!("two gateways") };
    let alice = Person::new(second, "alice").await.unwrap();
    let (bob, carol) = (Person::new(first, "bob").await.unwrap(), Person::new(first, "carol").await.unwrap());
    let room = group(&alice, &[&bob]).await;
    let (mut at_bob, mut at_carol) = (bob.connect().await.unwrap(), carol.connect().await.unwrap());
    for connection in [&at_bob, &at_carol] {
        watch(connection, &[alice.user_id]).await.unwrap();
    }
    let hidden = |status: &Status| (status.status.as_str() == "offline", status.last_seen_at.is_none());
    assert_eq!(hidden(&next_status(&mut at_bob).await), (true, true), "never seen");
    assert_eq!(hidden(&next_status(&mut at_carol).await), (true, true), "not hers to see");

    let at_alice = alice.connect().await.unwrap();
    assert_eq!(next_status(&mut at_bob).await.status, "online");
    choose(&at_alice, ChosenStatus::Busy, Some("in a train")).await;
    let busy = next_status(&mut at_bob).await;
    assert_eq!((busy.status.as_str(), busy.text.as_deref()), ("busy", Some("in a train")));
    let seen = bob.api.status(alice.user_id).await.unwrap();
    assert_eq!((seen.status, seen.text.as_deref()), (PresenceStatus::Busy, Some("in a train")));
    assert_eq!(carol.api.status(alice.user_id).await.unwrap(), UserStatus::hidden(alice.user_id));
    let nobody: UserId = IdGenerator.next();
    assert_eq!(carol.api.status(nobody).await.unwrap(), UserStatus::hidden(nobody));

    // Who comes to share a conversation sees it without asking again, and who is removed no longer.
    alice.api.add_member(room, carol.user_id, None).await.unwrap();
    assert_eq!(next_status(&mut at_carol).await.status, "busy");
    alice.api.remove_member(room, carol.user_id).await.unwrap();
    assert_eq!(hidden(&next_status(&mut at_carol).await), (true, true));

    choose(&at_alice, ChosenStatus::Invisible, None).await;
    let invisible = next_status(&mut at_bob).await;
    assert_eq!((invisible.status.as_str(), invisible.text, invisible.last_seen_at.is_some()), ("offline", None, true));
    let own = alice.api.own_status().await.unwrap();
    assert_eq!((own.status.status, own.chosen), (PresenceStatus::Offline, ChosenStatus::Invisible));
    alice.api.set_status(&StatusChoice { status: ChosenStatus::Online, text: None }).await.unwrap();
    assert_eq!(next_status(&mut at_bob).await.status, "online");

    // While another device is there, the user is.
    let phone = Person::login(first, "alice", "phone").await.unwrap();
    let at_phone = phone.connect().await.unwrap();
    at_alice.close().await;
    choose(&at_phone, ChosenStatus::Away, None).await;
    assert_eq!(next_status(&mut at_bob).await.status, "away");
    at_phone.close().await;
    let gone = next_status(&mut at_bob).await;
    assert_eq!((gone.status.as_str(), gone.last_seen_at.is_some()), ("offline", true));
    assert_eq!(bob.api.status(alice.user_id).await.unwrap().last_seen_at, gone.last_seen_at);
}

async fn visible_to(person: &Person, visible_to: VisibleTo) {
    let patch = ProfilePatch { presence_visible_to: Some(Some(visible_to)), ..ProfilePatch::default() };
    assert_eq!(person.api.update_me(&patch).await.unwrap().presence_visible_to, visible_to);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_decide_who_sees_them() {
    let system = System::start(&short_grace(Shape::one_process())).await.unwrap();
    let person = async |name: &str| Person::new(system.gateway(), name).await.unwrap();
    let (alice, bob, carol) = (person("alice").await, person("bob").await, person("carol").await);
    group(&alice, &[&bob]).await;
    let (mut at_alice, mut at_bob) = (live(&alice).await, live(&bob).await);
    let mut at_carol = live(&carol).await;
    for connection in [&at_bob, &at_carol] {
        watch(connection, &[alice.user_id]).await.unwrap();
    }
    watch(&at_alice, &[bob.user_id]).await.unwrap();
    assert_eq!(next_status(&mut at_bob).await.status, "online");
    assert_eq!(next_status(&mut at_carol).await.status, "offline");
    assert_eq!(next_status(&mut at_alice).await.status, "online");

    visible_to(&alice, VisibleTo::Everyone).await;
    assert_eq!(next_status(&mut at_carol).await.status, "online");
    visible_to(&alice, VisibleTo::Nobody).await;
    for connection in [&mut at_bob, &mut at_carol] {
        let hidden = next_status(connection).await;
        assert_eq!((hidden.status.as_str(), hidden.last_seen_at), ("offline", None));
    }
    // Contacts: both have written.
    at_alice.send_message(Target::User(bob.user_id), &sealed(b"one")).await.unwrap();
    visible_to(&alice, VisibleTo::Contacts).await;
    assert_eq!(bob.api.status(alice.user_id).await.unwrap(), UserStatus::hidden(alice.user_id));
    at_bob.send_message(Target::User(alice.user_id), &sealed(b"two")).await.unwrap();
    assert_eq!(bob.api.status(alice.user_id).await.unwrap().status, PresenceStatus::Online);
    watch(&at_bob, &[alice.user_id]).await.unwrap();
    visible_to(&alice, VisibleTo::Shared).await;
    status_becomes(&mut at_bob, alice.user_id, "online").await;

    // A block hides each from the other.
    for person in [&alice, &carol] {
        bob.api.set_followed(person.user_id, true).await.unwrap();
    }
    bob.api.set_blocked(alice.user_id, true).await.unwrap();
    let hidden = status_becomes(&mut at_bob, alice.user_id, "offline").await;
    assert_eq!(hidden.last_seen_at, None);
    assert_eq!(status_becomes(&mut at_alice, bob.user_id, "offline").await.last_seen_at, None);
    assert_eq!(bob.api.following_status().await.unwrap().items, [alice.user_id, carol.user_id].map(UserStatus::hidden));
    bob.api.set_blocked(alice.user_id, false).await.unwrap();
    status_becomes(&mut at_bob, alice.user_id, "online").await;
    status_becomes(&mut at_alice, bob.user_id, "online").await;
    visible_to(&carol, VisibleTo::Everyone).await;
    let followed = bob.api.following_status().await.unwrap();
    assert!(followed.items.iter().all(|status| status.status == PresenceStatus::Online), "{followed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watching_is_bounded_and_ends_when_it_is_asked_to() {
    let system = System::start(&short_grace(Shape::one_process())).await.unwrap();
    let person = async |name: &str| Person::new(system.gateway(), name).await.unwrap();
    let (alice, bob, carol) = (person("alice").await, person("bob").await, person("carol").await);
    group(&alice, &[&bob, &carol]).await;
    let mut at_bob = bob.connect().await.unwrap();
    let many: Vec<UserId> = (0..WATCHED_MAX).map(|_| IdGenerator.next()).collect();
    watch(&at_bob, &many[1..]).await.unwrap();
    watch(&at_bob, &[alice.user_id]).await.unwrap();
    let refused = watch(&at_bob, &[carol.user_id]).await.unwrap_err();
    assert!(matches!(&refused, RequestError::Refused(refusal) if refusal.code == "too_large"), "{refused:?}");
    let id = IdGenerator.next();
    let unwatch = outgoing::unwatch_status(Some(id), &[alice.user_id]);
    at_bob.handle().request(id, unwatch).await.unwrap().wait().await.unwrap();
    watch(&at_bob, &[carol.user_id]).await.unwrap();
    let _at_alice = live(&alice).await;
    let _at_carol = live(&carol).await;
    let first = next(&mut at_bob, |body| match body {
        Body::Status(status) if status.status == "online" => Some(status.user_id),
        _ => None,
    });
    assert_eq!(first.await, carol.user_id, "and never alice");
    let text = "x".repeat(201);
    let refused = bob.api.set_status(&StatusChoice { status: ChosenStatus::Busy, text: Some(text) }).await.unwrap_err();
    assert!(refused.to_string().contains("text"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presence_is_right_again_when_gateways_and_replicas_were_killed() {
    let system = System::start(&short_grace(Shape::split())).await.unwrap();
    let [first, second] = system.gateways() else { panic!("two gateways") };
    let (alice, bob) = (Person::new(second, "alice").await.unwrap(), Person::new(first, "bob").await.unwrap());
    let dave = Person::new(first, "dave").await.unwrap();
    group(&alice, &[&bob, &dave]).await;
    let mut at_bob = bob.connect().await.unwrap();
    watch(&at_bob, &[alice.user_id, dave.user_id]).await.unwrap();
    let _at_dave = dave.connect().await.unwrap();
    let at_alice = alice.connect().await.unwrap();
    status_becomes(&mut at_bob, alice.user_id, "online").await;

    // A gateway, and one of those who count, at once.
    assert!(system.kill("presence-1").unwrap() && system.kill("gateway-2").unwrap());
    status_becomes(&mut at_bob, alice.user_id, "offline").await;
    drop(at_alice);
    assert_eq!(bob.api.status(dave.user_id).await.unwrap().status, PresenceStatus::Online);
    system.wait_whole(&["gateway-2", "presence-1"]).await.unwrap();
    let at_alice = alice.connect().await.unwrap();
    status_becomes(&mut at_bob, alice.user_id, "online").await;

    // All of presence: what happens meanwhile is told afterwards.
    assert!(system.kill("presence-1").unwrap() && system.kill("presence-2").unwrap());
    at_alice.close().await;
    status_becomes(&mut at_bob, alice.user_id, "offline").await;
    until("online", async || {
        let status = bob.api.status(dave.user_id).await.ok()?.status;
        serde_json::to_value(status).ok()?.as_str().map(str::to_owned)
    })
    .await;
    let _at_alice = alice.connect().await.unwrap();
    status_becomes(&mut at_bob, alice.user_id, "online").await;
    // Messages went on all the time; so they do now.
    let mut live_bob = live(&Person::login(first, "bob", "phone").await.unwrap()).await;
    let room = group(&alice, &[&bob]).await;
    alice.api.send_message(room, &text("still here")).await.unwrap();
    assert_eq!(next_entry(&mut live_bob).await.conversation_id, room);
}
