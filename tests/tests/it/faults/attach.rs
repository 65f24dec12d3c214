//! A device has one live connection, and the newer one wins: on whichever gateway, in whichever order the news comes, and
//! when the news is lost.

use entrenous_client::{ConnectError, Connection, frame::Body};

use super::{Scene, connect_at, until_restored};
use crate::support::{close_code, group, live, next, next_entry, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newer_connection_wins_on_whichever_gateway() {
    let scene = Scene::start().await;
    let mut older = connect_at(&scene.near, &scene.alice).await.unwrap();
    for node in [&scene.far, &scene.near, &scene.near, &scene.far] {
        let newer = connect_at(node, &scene.alice).await.unwrap();
        assert_eq!(close_code(&mut older).await, Some(4509));
        newer.handle().ping().await.unwrap();
        older = newer;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_come_at_once_one_stays() {
    let scene = Scene::start().await;
    for _ in 0..10 {
        let (near, far) = tokio::join!(connect_at(&scene.near, &scene.alice), connect_at(&scene.far, &scene.alice));
        let stayed = match (near, far) {
            (Ok(mut near), Ok(mut far)) => tokio::select! {
                code = close_code(&mut near) => { assert_eq!(code, Some(4509)); far }
                code = close_code(&mut far) => { assert_eq!(code, Some(4509)); near }
            },
            // Replaced before it was greeted.
            (Ok(stayed), Err(ConnectError::Closed(end))) | (Err(ConnectError::Closed(end)), Ok(stayed)) => {
                assert_eq!(end.code, Some(4509));
                stayed
            }
            neither => panic!("{neither:?}"),
        };
        stayed.handle().ping().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_while_a_gateway_was_cut_off_happens_after() {
    let scene = Scene::with(&[("CUT_OFF_AFTER_MS", "300000")]).await;
    let carol = entrenous_system_tests::Person::new(&scene.near.url(), "carol").await.unwrap();
    let dora = entrenous_system_tests::Person::new(&scene.near.url(), "dora").await.unwrap();
    let mut at_alice = live(&scene.alice).await;
    let mut at_carol = live(&carol).await;
    let mut at_dora = live(&dora).await;
    // A group whose every news is lost, too.
    let left = group(&scene.bob, &[&scene.alice]).await;
    joined(&mut at_alice, left).await;

    scene.near.nats.cut();
    super::until_degraded(&mut at_alice).await;
    let room = group(&scene.bob, &[&scene.alice]).await;
    scene.bob.api.send_message(room, &text("welcome")).await.unwrap();
    scene.bob.api.remove_member(left, scene.alice.user_id).await.unwrap();
    scene.bob.api.send_message(left, &text("without alice")).await.unwrap();
    let carol_elsewhere = connect_at(&scene.far, &carol).await.unwrap();
    dora.api.with_base(scene.far.url()).logout().await.unwrap();

    scene.near.nats.heal();
    assert_eq!(close_code(&mut at_carol).await, Some(4509), "replaced while nobody could tell");
    assert_eq!(close_code(&mut at_dora).await, Some(4503), "signed out while nobody could tell");
    carol_elsewhere.handle().ping().await.unwrap();
    // The removal comes as an entry; in the new group everything comes, after the news that there is one.
    let mut removed_at = None;
    let (mut is_joined, mut is_restored) = (false, false);
    let mut seqs = Vec::new();
    while removed_at.is_none() || seqs.len() < 2 {
        match next(&mut at_alice, Some).await {
            Body::Entry(entry) if entry.conversation_id == left => removed_at = Some(entry.seq),
            Body::Notification(note) if note.conversation_id == Some(room) => is_joined = true,
            Body::Entry(entry) if entry.conversation_id == room => {
                assert!(is_joined, "told before its first entry");
                seqs.push(entry.seq);
            }
            Body::Restored => is_restored = true,
            _ => {}
        }
    }
    assert_eq!((removed_at, seqs), (Some(2), vec![1, 2]));
    if !is_restored {
        until_restored(&mut at_alice).await;
    }
    scene.bob.api.send_message(left, &text("still without alice")).await.unwrap();
    let after = scene.bob.api.send_message(room, &text("after")).await.unwrap();
    assert_eq!(next_entry(&mut at_alice).await.id, after.id, "nothing after the removal");
}

async fn joined(connection: &mut Connection, room: entrenous_model::ConversationId) {
    next(connection, |body| match body {
        Body::Entry(entry) if entry.conversation_id == room => Some(()),
        _ => None,
    })
    .await;
}
