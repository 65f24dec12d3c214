//! A device that was away for so long that what waited for it has expired: it is told, until it says that it knows.

use entrenous_client::{Connection, SyncStart, frame::Body};
use entrenous_model::DeviceId;

use super::Scene;
use crate::{
    device_messages::{acknowledge, next_message, send, to},
    support::next,
};

/// Where the messages stand that expired, as the next word about device messages tells it; none where it is a message.
async fn next_expired(connection: &mut Connection) -> Option<u64> {
    next(connection, |body| match body {
        Body::Notification(notification) if notification.event == "device_messages_expired" => {
            let payload: serde_json::Value = serde_json::from_str(notification.payload.get()).unwrap();
            Some(payload["up_to"].as_u64())
        }
        Body::DeviceMessage(_) => Some(None),
        _ => None,
    })
    .await
}

async fn expire_all(scene: &Scene, device: DeviceId) {
    let postgres = scene.cluster.postgres.url();
    let (client, connection) = tokio_postgres::connect(&postgres, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let age = format!("UPDATE delivery.device_messages SET expires_at = now() WHERE device_id = '{device}'");
    client.batch_execute(&age).await.unwrap();
    client.batch_execute("SELECT delivery.expire(now(), 100)").await.unwrap();
    connection.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_is_told_that_messages_for_it_have_expired() {
    let scene = Scene::start().await;
    let at_alice = scene.alice.connect().await.unwrap();
    send(&at_alice, &[to(&scene.bob, "one"), to(&scene.bob, "two")], None).await.unwrap();
    expire_all(&scene, scene.bob.device_id).await;
    send(&at_alice, &[to(&scene.bob, "three")], None).await.unwrap();

    let mut at_bob = scene.bob.connect().await.unwrap();
    at_bob.sync(&SyncStart::default()).await.unwrap();
    assert_eq!(next_expired(&mut at_bob).await, Some(2), "before what still waits");
    assert_eq!(next_message(&mut at_bob).await.seq, 3);
    at_bob.sync(&SyncStart::default()).await.unwrap();
    assert_eq!(next_expired(&mut at_bob).await, Some(2), "until it is acknowledged");
    acknowledge(&at_bob, 2).await;
    at_bob.sync(&SyncStart::default()).await.unwrap();
    send(&at_alice, &[to(&scene.bob, "four")], None).await.unwrap();
    assert_eq!(next_expired(&mut at_bob).await, None, "no more");
}
