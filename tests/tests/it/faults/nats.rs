//! NATS is away: for one gateway alone, for everybody, for a moment or for good; with its streams or without.

use std::{cell::Cell, time::Duration};

use entrenous_client::{
    ConnectError, Connection, Credential, Socket, SocketOptions, SyncStart, Target,
    frame::{self, Body},
};
use entrenous_model::ConversationId;
use entrenous_system_tests::{Node, Person};

use super::{Scene, connect_at, next_digest, until_degraded, until_restored};
use crate::device_messages;
use crate::support::{close_code, group, live, next, next_entry, text, until};

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
async fn who_comes_while_it_is_cut_off_is_greeted_first() {
    let scene = Scene::with(&[("CUT_OFF_AFTER_MS", "300000")]).await;
    let mut at_alice = live(&scene.alice).await;
    let carol = Person::new(&scene.far.url(), "carol").await.unwrap();
    scene.near.nats.cut();
    let credential = Credential::Header(carol.token().to_owned());
    let mut socket = Socket::connect(&scene.near.url(), &credential, SocketOptions::default()).await.unwrap();
    until_degraded(&mut at_alice).await;
    scene.near.nats.heal();
    let first = frame::parse(&socket.next().await.unwrap()).unwrap().body;
    assert!(matches!(first, Body::Connected(_)), "{first:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_cut_off_misses_no_device_message() {
    let scene = Scene::with(&[("CUT_OFF_AFTER_MS", "300000")]).await;
    let (mut at_alice, at_bob) = (live(&scene.alice).await, live(&scene.bob).await);
    device_messages::send(&at_bob, &[device_messages::to(&scene.alice, "before")], None).await.unwrap();
    assert_eq!(device_messages::next_message(&mut at_alice).await.seq, 1);

    scene.near.nats.cut();
    until_degraded(&mut at_alice).await;
    for number in 0..5 {
        let message = device_messages::to(&scene.alice, &number.to_string());
        device_messages::send(&at_bob, &[message], Some(scene.alice.user_id)).await.unwrap();
    }
    scene.near.nats.heal();
    assert_eq!(device_messages::next_seqs(&mut at_alice, 5).await, [2, 3, 4, 5, 6]);
    device_messages::send(&at_bob, &[device_messages::to(&scene.alice, "after")], None).await.unwrap();
    assert_eq!(device_messages::next_message(&mut at_alice).await.seq, 7);
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

/// Cuts of one, five and thirty seconds, each at a gateway of its own, with the patience of production, while somebody
/// talks elsewhere: everybody has everything in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cuts_of_one_five_and_thirty_seconds_cost_nothing() {
    let patience = [("DEGRADED_AFTER_MS", "3000"), ("CUT_OFF_AFTER_MS", "15000")];
    let scene = Scene::with(&patience).await;
    let (five, thirty) = tokio::join!(scene.cluster.gateway(&patience), scene.cluster.gateway(&patience));
    let (five, thirty) = (five.unwrap(), thirty.unwrap());
    let carol = Person::new(&scene.near.url(), "carol").await.unwrap();
    let dora = Person::new(&scene.near.url(), "dora").await.unwrap();
    let room = group(&scene.bob, &[&scene.alice, &carol, &dora]).await;
    let mut at_alice = Heard::at(&scene.near, &scene.alice, room, 0).await;
    let mut at_carol = Heard::at(&five, &carol, room, 0).await;
    let mut at_dora = Heard::at(&thirty, &dora, room, 0).await;

    let (is_over, last) = (Cell::new(false), Cell::new(0));
    let talking = async {
        while !is_over.get() {
            last.set(scene.bob.api.send_message(room, &text("on")).await.unwrap().seq);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let cutting = async {
        tokio::join!(cut_for(&scene.near, 1), cut_for(&five, 5), cut_for(&thirty, 30), async {
            assert!(at_carol.until(|body| matches!(body, Body::Degraded)).await, "told within the five seconds");
            assert!(at_dora.until(|body| matches!(body, Body::Draining { .. })).await, "told within the thirty");
            assert!(!at_dora.until(|_| false).await);
            assert_eq!(at_dora.connection.end().and_then(|end| end.code), Some(1012));
        });
        is_over.set(true);
    };
    tokio::join!(talking, cutting);

    thirty.wait_ready().await.unwrap();
    let mut again = Heard::at(&thirty, &dora, room, at_dora.last).await;
    for heard in [&mut at_alice, &mut at_carol, &mut again] {
        heard.until_seq(last.get()).await;
    }
    assert!(at_carol.is_restored || at_carol.until(|body| matches!(body, Body::Restored)).await);
}

async fn cut_for(node: &Node, seconds: u64) {
    node.nats.cut();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    node.nats.heal();
}

/// A connection on which one room's entries come without hole or repeat.
struct Heard {
    connection: Connection,
    room: ConversationId,
    last: u64,
    is_restored: bool,
}

impl Heard {
    async fn at(node: &Node, person: &Person, room: ConversationId, last: u64) -> Self {
        let connection = connect_at(node, person).await.unwrap();
        let start = SyncStart { cursors: [(room, last)].into(), ..SyncStart::default() };
        connection.sync(&start).await.unwrap();
        Self { connection, room, last, is_restored: false }
    }

    /// Takes frames until one is this; whether it came before the connection ended.
    async fn until(&mut self, is_it: impl Fn(&Body) -> bool) -> bool {
        let taking = async {
            while let Some(frame) = self.connection.next().await {
                match &frame.body {
                    Body::Entry(entry) if entry.conversation_id == self.room => {
                        assert_eq!(entry.seq, self.last + 1);
                        self.last = entry.seq;
                    }
                    Body::Restored => self.is_restored = true,
                    _ => {}
                }
                if is_it(&frame.body) {
                    return true;
                }
            }
            false
        };
        tokio::time::timeout(Duration::from_secs(60), taking).await.unwrap_or_else(|_| panic!("it never came"))
    }

    async fn until_seq(&mut self, seq: u64) {
        if self.last < seq {
            let is_last = |body: &Body| matches!(body, Body::Entry(entry) if entry.seq == seq);
            assert!(self.until(is_last).await, "entry {seq}");
        }
        assert_eq!(self.last, seq);
    }
}
