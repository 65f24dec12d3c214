//! Too much of something: who causes it is told or closed, everybody else does not notice.

use entrenous_client::{Connection, Credential, Socket, SocketOptions, SyncStart, Target, outgoing};
use entrenous_model::{ConversationId, IdGenerator};
use entrenous_protocol::Code;
use tokio::task::JoinHandle;

use super::Scene;
use crate::support::{close_code, group, live, next_entry, text};

/// Holds the lock of a conversation's head until it is dropped.
struct Locked {
    connection: JoinHandle<()>,
    _client: tokio_postgres::Client,
}

impl Locked {
    async fn new(scene: &Scene, conversation: ConversationId) -> Self {
        let (client, connection) =
            tokio_postgres::connect(&scene.cluster.postgres.url(), tokio_postgres::NoTls).await.unwrap();
        let connection = tokio::spawn(async move { connection.await.unwrap() });
        client.batch_execute("BEGIN").await.unwrap();
        let lock = format!("SELECT FROM messaging.heads WHERE conversation_id = '{conversation}' FOR UPDATE");
        client.batch_execute(&lock).await.unwrap();
        Self { connection, _client: client }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_conversation_holds_up_nobody_else() {
    let scene = Scene::with(&[("FRAMES_PER_SECOND_MAX", "100000"), ("SENDS_AWAITING_ACK_MAX", "100000")]).await;
    // More than there are partitions, so that some share the locked one's.
    let mut rooms = Vec::new();
    for _ in 0..40 {
        rooms.push(group(&scene.bob, &[&scene.alice]).await);
    }
    let at_bob = live(&scene.bob).await;
    let locked = Locked::new(&scene, scene.room).await;
    let mut waiting = Vec::new();
    for number in 0..10 {
        let message = text(&format!("behind the lock {number}"));
        waiting.push(at_bob.handle().start_message(Target::Conversation(scene.room), &message).await.unwrap());
        for room in &rooms {
            at_bob.handle().start_message(Target::Conversation(*room), &text("past it")).await.unwrap();
        }
        for room in &rooms {
            at_bob.send_message(Target::Conversation(*room), &text("past it")).await.unwrap();
        }
    }
    drop(locked);
    for (expected, send) in (2..).zip(waiting) {
        assert_eq!(send.stored().await.unwrap().seq, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_stays_ends_in_unavailable_for_its_conversation_alone() {
    let scene = Scene::with(&[("SEND_DEADLINE_MS", "1000")]).await;
    let other = group(&scene.bob, &[&scene.alice]).await;
    let at_alice = live(&scene.alice).await;
    let locked = Locked::new(&scene, scene.room).await;
    let first = text("first");
    let refused = at_alice.send_message(Target::Conversation(scene.room), &first).await.unwrap_err();
    assert!(refused.is(Code::Unavailable), "{refused}");
    at_alice.send_message(Target::Conversation(other), &text("elsewhere")).await.unwrap();
    drop(locked);
    let stored = at_alice.send_message(Target::Conversation(scene.room), &first).await.unwrap();
    assert_eq!(stored.seq, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_sends_or_frames_close_who_sends_them() {
    let scene = Scene::with(&[("SENDS_AWAITING_ACK_MAX", "8")]).await;
    let mut at_bob = live(&scene.bob).await;
    let _locked = Locked::new(&scene, scene.room).await;
    let mut at_alice = live(&scene.alice).await;
    let mut sends = Vec::new();
    for number in 0..9 {
        let message = text(&number.to_string());
        sends.push(at_alice.handle().start_message(Target::Conversation(scene.room), &message).await.unwrap());
    }
    assert_eq!(close_code(&mut at_alice).await, Some(4408), "more sends than may await their ack");

    let mut flood = live(&scene.alice).await;
    for _ in 0..400 {
        // The server closes meanwhile.
        if flood.handle().tell(outgoing::ping(IdGenerator.next())).await.is_err() {
            break;
        }
    }
    assert_eq!(close_code(&mut flood).await, Some(4408), "more frames in a second than allowed");
    let elsewhere = group(&scene.bob, &[]).await;
    at_bob.send_message(Target::Conversation(elsewhere), &text("undisturbed")).await.unwrap();
    assert_eq!(next_entry(&mut at_bob).await.conversation_id, elsewhere);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_is_closed_and_delays_nobody() {
    let scene = Scene::with(&[("OUTBOX_BYTES_MAX", "1048576")]).await;
    let carol = entrenous_system_tests::Person::new(&scene.near.url(), "carol").await.unwrap();
    scene.bob.api.add_member(scene.room, carol.user_id, None).await.unwrap();
    let credential = Credential::Header(scene.alice.token().to_owned());
    let mut deaf = Socket::connect(&scene.near.url(), &credential, SocketOptions::default()).await.unwrap();
    deaf.send(outgoing::sync(IdGenerator.next(), &SyncStart::default())).await.unwrap();
    let mut at_carol = live(&carol).await;
    let at_bob = live(&scene.bob).await;
    // More than the kernel's buffers and the queue hold together.
    let long = "x".repeat(60_000);
    for _ in 0..400 {
        let stored = at_bob.send_message(Target::Conversation(scene.room), &text(&long)).await.unwrap();
        assert_eq!(next_entry(&mut at_carol).await.seq, stored.seq, "carol hears at once");
    }
    let end = loop {
        match deaf.next().await {
            Ok(_) => {}
            Err(end) => break end.code,
        }
    };
    assert!(matches!(end, Some(4400) | None), "{end:?}");
    // Back again, nothing is missing.
    let mut again = Connection::connect(&scene.near.url(), &credential, SocketOptions::default()).await.unwrap();
    let complete = again.sync(&SyncStart::default()).await.unwrap();
    assert!(complete.conversations.iter().any(|synced| synced.conversation_id == scene.room));
    assert_eq!(next_entry(&mut again).await.seq, 1);
}
