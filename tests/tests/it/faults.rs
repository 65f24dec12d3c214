//! One part fails at a time, in a known way: what still works, what clients are told, and that nothing is missing after.

mod attach;
mod disk;
mod expiry;
mod nats;
mod others;
mod overload;
mod stores;
mod welcomes;

use entrenous_client::{ConnectError, Connection, Credential, SocketOptions, frame::Body};
use entrenous_model::ConversationId;
use entrenous_system_tests::{Cluster, Node, Person};

use crate::support::{group, next, text};

/// A cluster with a store and two gateways, and two people in a group: alice at the first gateway, bob at the second.
struct Scene {
    cluster: Cluster,
    store: Node,
    near: Node,
    far: Node,
    alice: Person,
    bob: Person,
    room: ConversationId,
}

impl Scene {
    async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With these settings of both gateways.
    async fn with(settings: &[(&str, &str)]) -> Self {
        Self::on(Cluster::start().await.unwrap(), settings).await
    }

    async fn on(cluster: Cluster, settings: &[(&str, &str)]) -> Self {
        let store = cluster.store(&[]).await.unwrap();
        let (near, far) = tokio::join!(cluster.gateway(settings), cluster.gateway(settings));
        let (near, far) = (near.unwrap(), far.unwrap());
        let alice = Person::new(&near.url(), "alice").await.unwrap();
        let bob = Person::new(&far.url(), "bob").await.unwrap();
        let room = group(&bob, &[&alice]).await;
        Self { cluster, store, near, far, alice, bob, room }
    }

    /// Bob says something, by REST; gives its seq.
    async fn bob_says(&self, words: &str) -> u64 {
        self.bob.api.send_message(self.room, &text(words)).await.unwrap().seq
    }

    /// Everything in the room's log must come, and in order, up to this seq; gives what else came.
    async fn expect_up_to(&self, connection: &mut Connection, after: u64, last: u64) -> Vec<Body> {
        let mut others = Vec::new();
        for expected in after + 1..=last {
            loop {
                match next(connection, Some).await {
                    Body::Entry(entry) if entry.conversation_id == self.room => {
                        assert_eq!(entry.seq, expected);
                        break;
                    }
                    Body::Ack(Some(stored)) if stored.conversation_id == self.room => {
                        assert_eq!(stored.seq, expected);
                        break;
                    }
                    other => others.push(other),
                }
            }
        }
        others
    }
}

async fn until_degraded(connection: &mut Connection) {
    next(connection, |body| matches!(body, Body::Degraded).then_some(())).await;
}

async fn until_restored(connection: &mut Connection) {
    next(connection, |body| matches!(body, Body::Restored).then_some(())).await;
}

/// The digest of the next heartbeat.
async fn next_digest(connection: &mut Connection) -> Option<String> {
    next(connection, |body| match body {
        Body::Heartbeat(heartbeat) => Some(heartbeat.digest),
        _ => None,
    })
    .await
}

/// Connects a person's device at this gateway.
async fn connect_at(node: &Node, person: &Person) -> Result<Connection, ConnectError> {
    let credential = Credential::Header(person.token().to_owned());
    Connection::connect(&node.url(), &credential, SocketOptions::default()).await
}
