//! The connections of one worker that have one conversation live: what benches/fanout.rs measures.
//!
//! Only with feature `bench`, since a benchmark sees what is public alone, and nothing else should see more of the fan-out.

use std::rc::Rc;

use entrenous_model::{ConnectionId, ConversationId, DeviceId, LoginId, UserId};
use entrenous_protocol::live::{LiveKind, LiveMessage, Preamble};
use futures::FutureExt;
use uuid::Uuid;

use crate::{
    connection::{Connection, outbox::Outbox},
    fanout::Fanout,
};

const CONVERSATION: Uuid = Uuid::from_u128(0xc0);
/// No benchmark lets as much wait.
const OUTBOX_FRAMES: usize = 1 << 20;
const OUTBOX_BYTES: usize = 1 << 30;

/// Connections that all have the same conversation live.
#[derive(Debug)]
pub struct Audience {
    fanout: Fanout,
    connections: Vec<Rc<Connection>>,
    seq: u64,
}

impl Audience {
    /// Of so many connections, each another user's.
    pub fn of(connections: u128) -> Self {
        let mut fanout = Fanout::default();
        let connect = |number: u128| {
            let id = Uuid::from_u128(number << 64 | number);
            let outbox = Outbox::new(OUTBOX_FRAMES, OUTBOX_BYTES);
            let (user, device, login) = (UserId::from(id), DeviceId::from(id), LoginId::from(id));
            let connection = Connection::new(ConnectionId::from(id), user, device, login, outbox);
            connection.has_synced.set(true);
            fanout.add_connection(&connection);
            fanout.go_live(&connection, ConversationId::from(CONVERSATION), 0, true);
            connection
        };
        let connections = (1..=connections).map(connect).collect();
        Self { fanout, connections, seq: 0 }
    }

    /// The next entry as it comes from NATS, with this frame. What waits to be written is forgotten.
    pub fn next_entry(&mut self, frame: &str) -> LiveMessage {
        for connection in &self.connections {
            while !connection.outbox.is_empty() {
                let written = connection.outbox.next().now_or_never().flatten();
                connection.outbox.written(written.map_or(0, |frame| frame.bytes()));
            }
        }
        self.seq += 1;
        let preamble = Preamble { subject: CONVERSATION, seq: self.seq, ..Preamble::empty(LiveKind::Entry) };
        LiveMessage { preamble, body: frame.to_owned().into(), trace: None }
    }

    /// Hands an entry to all connections.
    pub fn forward(&mut self, entry: &LiveMessage) {
        self.fanout.on_live_entry(entry);
    }

    /// Whether all connections have got every entry.
    pub fn is_up_to_date(&self) -> bool {
        self.fanout.forwarded(ConversationId::from(CONVERSATION)) == Some(self.seq)
    }
}
