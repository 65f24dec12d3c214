//! NATS is away: for one gateway alone, for everybody, for a moment or for good; with its streams or without.

use entrenous_client::{ConnectError, Target, frame::Body};

use super::{Scene, connect_at, next_digest, until_degraded, until_restored};
use crate::support::{close_code, live, next, next_entry, text, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_cut_off_says_so_and_misses_nothing() {
    let scene = Scene::with(&[("CUT_OFF_AFTER_MS", "300000")]).await;
    let mut at_alice = live(&scene.alice).await;
    let first = scene.bob_says("before").await;
    assert_eq!(next_entry(&mut at_alice).await.seq, first);
    assert!(next_digest(&mut at_alice).await.is_some());

    scene.near.nats.cut();
    until_degraded(&mut at_alice).await;
    assert_eq!(next_digest(&mut at_alice).await, None, "it is not sure");
    until("not ready", async || (!scene.near.is_ready().await).then(|| "not ready".to_owned())).await;
    assert!(scene.far.is_ready().await, "only this one is cut off");
    for number in 0..5 {
        scene.bob_says(&number.to_string()).await;
    }
    at_alice.handle().ping().await.unwrap();

    scene.near.nats.heal();
    scene.expect_up_to(&mut at_alice, first, first + 5).await;
    until_restored(&mut at_alice).await;
    assert!(next_digest(&mut at_alice).await.is_some());
    scene.near.wait_ready().await.unwrap();
    let last = scene.bob_says("after").await;
    assert_eq!(next_entry(&mut at_alice).await.seq, last);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_connection_costs_no_entry() {
    let scene = Scene::start().await;
    let mut at_alice = live(&scene.alice).await;
    let mut seq = 1;
    for round in 0..5 {
        scene.near.nats.break_connections();
        let last = scene.bob_says(&round.to_string()).await;
        scene.expect_up_to(&mut at_alice, seq, last).await;
        seq = last;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_stands_and_carries_nothing_is_noticed() {
    let scene = Scene::with(&[("CUT_OFF_AFTER_MS", "300000")]).await;
    let mut at_alice = live(&scene.alice).await;
    scene.near.nats.freeze();
    let last = scene.bob_says("into the void").await;
    until_degraded(&mut at_alice).await;
    scene.near.nats.heal();
    scene.expect_up_to(&mut at_alice, 1, last).await;
    until_restored(&mut at_alice).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_off_for_long_it_sends_its_clients_elsewhere() {
    let scene = Scene::start().await;
    let mut at_alice = live(&scene.alice).await;
    scene.near.nats.cut();
    next(&mut at_alice, |body| matches!(body, Body::Draining { .. }).then_some(())).await;
    assert_eq!(close_code(&mut at_alice).await, Some(1012));
    let refused = connect_at(&scene.near, &scene.alice).await;
    assert!(matches!(refused, Err(ConnectError::Upgrade { status: 503, .. })), "{:?}", refused.err());
    // Elsewhere everything is as before, and here again when the line is back.
    let elsewhere = connect_at(&scene.far, &scene.alice).await.unwrap();
    elsewhere.handle().ping().await.unwrap();
    scene.near.nats.heal();
    scene.near.wait_ready().await.unwrap();
    let again = connect_at(&scene.near, &scene.alice).await.unwrap();
    again.handle().ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_dies_and_comes_back_empty_costs_nothing() {
    let mut scene = Scene::with(&[("CUT_OFF_AFTER_MS", "300000")]).await;
    let mut at_alice = live(&scene.alice).await;
    let at_bob = live(&scene.bob).await;
    let mut sends = Vec::new();
    for round in 0..3 {
        let target = Target::Conversation(scene.room);
        sends.push(at_bob.handle().start_message(target, &text(&format!("before {round}"))).await.unwrap());
        scene.cluster.nats.kill().await;
        sends.push(at_bob.handle().start_message(target, &text(&format!("without {round}"))).await.unwrap());
        scene.cluster.nats.restart_empty().await.unwrap();
    }
    let mut seqs = Vec::new();
    for send in sends {
        seqs.push(send.stored().await.unwrap().seq);
    }
    assert_eq!(seqs, (2..=7).collect::<Vec<_>>(), "each once, in the order in which they were sent");
    scene.expect_up_to(&mut at_alice, 1, 7).await;
}
