//! Identity, the tracker or presence is away: messages flow.

use entrenous_client::{SyncStart, Target, outgoing};
use entrenous_local_servers::permissions::Service;

use super::{Scene, connect_at};
use crate::{
    device_messages,
    support::{live, next_entry, text},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_flow_without_identity_the_tracker_and_presence() {
    let scene = Scene::start().await;
    let mut at_bob = live(&scene.bob).await;
    for (service, seq) in [(Service::Identity, 2), (Service::DeliveryTracker, 4), (Service::Presence, 6)] {
        let part = scene.cluster.part(service);
        part.nats.cut();
        // Who is signed in connects, syncs with cursors of their own, and talks.
        let alice = connect_at(&scene.near, &scene.alice).await.unwrap();
        let cursors = [(scene.room, seq - 1)].into_iter().collect();
        let complete = alice.sync(&SyncStart { cursors, ..SyncStart::default() }).await.unwrap();
        assert!(complete.conversations.is_empty(), "{complete:?}");
        let stored = alice.send_message(Target::Conversation(scene.room), &text("still here")).await.unwrap();
        assert_eq!((stored.seq, next_entry(&mut at_bob).await.seq), (seq, seq), "without {}", service.name());
        alice.handle().tell(outgoing::delivery_receipt(None, scene.room, seq)).await.unwrap();
        alice.close().await;
        part.nats.heal();
        part.wait_ready().await.unwrap();
        assert_eq!(scene.bob_says("and back").await, seq + 1);
        assert_eq!(next_entry(&mut at_bob).await.seq, seq + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn device_messages_follow_when_the_tracker_is_back() {
    let scene = Scene::start().await;
    let at_bob = live(&scene.bob).await;
    device_messages::send(&at_bob, &[device_messages::to(&scene.alice, "waits")], None).await.unwrap();
    let tracker = scene.cluster.part(Service::DeliveryTracker);
    tracker.nats.cut();
    let mut at_alice = connect_at(&scene.near, &scene.alice).await.unwrap();
    let cursors = [(scene.room, 1)].into_iter().collect();
    let complete = at_alice.sync(&SyncStart { cursors, ..SyncStart::default() }).await.unwrap();
    assert!(complete.device_messages.has_more, "{complete:?}");
    let refusal = device_messages::send(&at_bob, &[device_messages::to(&scene.alice, "x")], None).await.unwrap_err();
    assert_eq!(refusal.code, "unavailable");
    tracker.nats.heal();
    assert_eq!(device_messages::next_message(&mut at_alice).await.seq, 1);
}
