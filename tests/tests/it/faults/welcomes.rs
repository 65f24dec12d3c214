//! Device messages that came with an entry, such as MLS welcomes: kept by the store, and queued for their devices without loss
//! and without repeat, while tracker and stores come and go.

use std::collections::BTreeSet;

use entrenous_client::SyncStart;
use entrenous_local_servers::permissions::Service;
use entrenous_model::{EntryId, IdGenerator};
use entrenous_system_tests::Person;

use super::Scene;
use crate::{device_messages::next_message, support::until};

const COUNT: usize = 150;

/// What a commit leaves in the store's table.
fn row(from: &Person, to: &Person, id: EntryId) -> String {
    let Person { user_id, device_id, .. } = to;
    let (sender, sender_device, conversation) = (from.user_id, from.device_id, from.user_id);
    format!(
        "INSERT INTO messaging.pending_device_messages
             (device_id, id, user_id, sender_id, sender_device_id, conversation_id, content, created_at)
         VALUES ('{device_id}', '{id}', '{user_id}', '{sender}', '{sender_device}', '{conversation}',
                 '{{\"scheme\":\"mls\"}}', now());"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn welcomes_reach_their_devices_whoever_dies() {
    let scene = Scene::start().await;
    let other_store = scene.cluster.store(&[]).await.unwrap();
    let postgres = scene.cluster.postgres.url();
    let (client, connection) = tokio_postgres::connect(&postgres, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(async move { connection.await.unwrap() });
    let removed = Person::login(scene.bob.api.base(), "bob", "removed").await.unwrap();
    scene.bob.api.remove_device(removed.device_id).await.unwrap();
    let ids: BTreeSet<EntryId> = (0..COUNT).map(|_| IdGenerator.next()).collect();
    let rows: Vec<String> = ids.iter().map(|id| row(&scene.alice, &scene.bob, *id)).collect();
    let (early, late) = rows.split_at(COUNT / 2);
    let left = async || {
        let row = client.query_one("SELECT count(*) FROM messaging.pending_device_messages", &[]).await.unwrap();
        Some(row.get::<_, i64>(0).to_string())
    };

    let tracker = scene.cluster.part(Service::DeliveryTracker);
    tracker.nats.cut();
    client.batch_execute(&early.concat()).await.unwrap();
    client.batch_execute(&row(&scene.alice, &removed, IdGenerator.next())).await.unwrap();
    let tried = "SELECT count(*) > 0 FROM messaging.pending_device_messages WHERE due_at > created_at";
    until("true", async || Some(client.query_one(tried, &[]).await.unwrap().get::<_, bool>(0).to_string())).await;
    tracker.nats.heal();
    client.batch_execute(&late.concat()).await.unwrap();
    other_store.kill();
    // What the dead one had claimed is free again after its lease, which the test does not wait for.
    client.batch_execute("UPDATE messaging.pending_device_messages SET due_at = now()").await.unwrap();
    until("0", left).await;

    let mut at_bob = scene.bob.connect().await.unwrap();
    at_bob.sync(&SyncStart::default()).await.unwrap();
    let (mut seqs, mut got) = (Vec::new(), BTreeSet::new());
    while seqs.len() < COUNT {
        let message = next_message(&mut at_bob).await;
        seqs.push(message.seq);
        got.insert(message.id);
    }
    assert_eq!(seqs, (1..=u64::try_from(COUNT).unwrap()).collect::<Vec<_>>());
    assert!(got == ids, "each once: {} of {COUNT}", got.len());
    // Nothing more than these waits: the next one follows at once.
    let last = IdGenerator.next();
    client.batch_execute(&row(&scene.alice, &scene.bob, last)).await.unwrap();
    let message = next_message(&mut at_bob).await;
    assert_eq!((message.id, message.sender_id), (last, scene.alice.user_id));
    connection.abort();
}
