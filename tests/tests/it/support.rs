//! Small helpers of these tests.

use std::time::Duration;

use entrenous_client::{Connection, OutgoingMessage, SyncFrom, SyncStart, frame::Body};
use entrenous_model::{ConversationId, IdGenerator};
use entrenous_protocol::{
    Entry,
    entry::{ConversationKind, Encryption},
    rest::CreateConversation,
};
use entrenous_system_tests::Person;

/// How long an expected frame may take: late, because a busy machine is no failure.
const FRAME_LIMIT: Duration = Duration::from_secs(20);

/// A clear text with a new id.
pub(crate) fn text(text: &str) -> OutgoingMessage {
    OutgoingMessage::text(IdGenerator.next(), text)
}

/// A ciphertext with a new id; nobody can open it, which is what servers see.
pub(crate) fn sealed(bytes: &[u8]) -> OutgoingMessage {
    OutgoingMessage::sealed(IdGenerator.next(), "test", bytes)
}

/// A conversation to create.
pub(crate) fn conversation(kind: ConversationKind, members: &[&Person]) -> CreateConversation {
    CreateConversation {
        kind,
        encryption: Encryption::None,
        title: (kind != ConversationKind::Direct).then(|| "test".to_owned()),
        description: None,
        metadata: None,
        members: members.iter().map(|person| person.user_id).collect(),
        history_visible: false,
    }
}

/// A group without encryption.
pub(crate) async fn group(owner: &Person, members: &[&Person]) -> ConversationId {
    owner.api.create_conversation(&conversation(ConversationKind::Group, members)).await.unwrap().id
}

/// Opens a connection and makes everything live from the head on.
pub(crate) async fn live(person: &Person) -> Connection {
    let connection = person.connect().await.unwrap();
    let start = SyncStart { from: Some(SyncFrom::Now), ..SyncStart::default() };
    connection.sync(&start).await.unwrap();
    connection
}

/// The next frame of which this makes something; others are passed over.
pub(crate) async fn next<T>(connection: &mut Connection, mut pick: impl FnMut(Body) -> Option<T>) -> T {
    let found = async {
        while let Some(frame) = connection.next().await {
            if let Some(found) = pick(frame.body) {
                return found;
            }
        }
        panic!("the connection ended: {:?}", connection.end());
    };
    tokio::time::timeout(FRAME_LIMIT, found).await.unwrap_or_else(|_| panic!("the frame never came"))
}

/// The next entry.
pub(crate) async fn next_entry(connection: &mut Connection) -> Entry {
    next(connection, |body| match body {
        Body::Entry(entry) => Some(*entry),
        _ => None,
    })
    .await
}

/// The seqs of the next entries and own acks, in the order in which they come.
pub(crate) async fn next_seqs(connection: &mut Connection, count: usize) -> Vec<u64> {
    let mut seqs = Vec::new();
    while seqs.len() < count {
        seqs.push(
            next(connection, |body| match body {
                Body::Entry(entry) => Some(entry.seq),
                Body::Ack(stored) => stored.map(|stored| stored.seq),
                _ => None,
            })
            .await,
        );
    }
    seqs
}

/// Looks again and again until this gives what is wanted.
pub(crate) async fn until(wanted: &str, mut look: impl AsyncFnMut() -> Option<String>) {
    let mut last = None;
    let found = async {
        while last.as_deref() != Some(wanted) {
            last = look().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let is_found = tokio::time::timeout(FRAME_LIMIT, found).await.is_ok();
    assert!(is_found, "{wanted} never came; last: {last:?}");
}

/// The close code with which a connection ends.
pub(crate) async fn close_code(connection: &mut Connection) -> Option<u16> {
    let ended = async { while connection.next().await.is_some() {} };
    tokio::time::timeout(FRAME_LIMIT, ended).await.unwrap_or_else(|_| panic!("the connection never ended"));
    connection.end().and_then(|end| end.code)
}
