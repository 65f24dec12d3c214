//! The message store or PostgreSQL is away: sends end in `unavailable`, everything else that can goes on, and a repeat
//! with the same id is stored once.

use entrenous_client::{Target, frame::Body};
use entrenous_protocol::Code;
use entrenous_system_tests::Node;

use super::Scene;
use crate::support::{live, next, next_entry, text};

/// Sends are given up soon.
const IMPATIENT: [(&str, &str); 1] = [("SEND_DEADLINE_MS", "1500")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_postgresql_nothing_is_acknowledged_and_nothing_lost() {
    let scene = Scene::with(&IMPATIENT).await;
    for fault in [|store: &Node| store.postgres.cut(), |store: &Node| store.postgres.freeze()] {
        let mut at_bob = live(&scene.bob).await;
        let at_alice = live(&scene.alice).await;
        let message = text("once");
        fault(&scene.store);
        let refused = at_alice.send_message(Target::Conversation(scene.room), &message).await.unwrap_err();
        assert!(refused.is(Code::Unavailable), "{refused}");
        at_alice.handle().ping().await.unwrap();
        scene.store.postgres.heal();
        let stored = loop {
            match at_alice.send_message(Target::Conversation(scene.room), &message).await {
                Ok(stored) => break stored,
                Err(error) => assert!(error.is(Code::Unavailable), "{error}"),
            }
        };
        let entry = next_entry(&mut at_bob).await;
        assert_eq!((entry.id, entry.seq), (message.id, stored.seq));
        let log = scene.bob.api.log(scene.room, stored.seq - 1, 10).await.unwrap();
        assert_eq!(log.items.len(), 1, "stored once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_dies_is_replaced_by_another() {
    let Scene { cluster, mut store, near: _near, far: _far, alice, bob, room } =
        Scene::with(&[("FRAMES_PER_SECOND_MAX", "100000")]).await;
    let mut at_bob = live(&bob).await;
    let at_alice = live(&alice).await;
    for round in 0..4_u64 {
        let mut sends = Vec::new();
        for number in 0..50 {
            let target = Target::Conversation(room);
            sends.push(at_alice.handle().start_message(target, &text(&format!("{round}.{number}"))).await.unwrap());
        }
        let next_store = cluster.store(&[]).await.unwrap();
        std::mem::replace(&mut store, next_store).kill();
        let mut seqs = Vec::new();
        for send in sends {
            seqs.push(send.stored().await.unwrap().seq);
        }
        let first = 2 + round * 50;
        assert_eq!(seqs, (first..first + 50).collect::<Vec<_>>());
        for expected in seqs {
            let seq = next(&mut at_bob, |body| match body {
                Body::Entry(entry) => Some(entry.seq),
                _ => None,
            })
            .await;
            assert_eq!(seq, expected);
        }
    }
}
