//! Small helpers of these tests.

use std::time::Duration;

use entrenous_client::{Api, Connection, OutgoingMessage, SyncFrom, SyncStart, Url, frame::Body};
use entrenous_model::{ConversationId, IdGenerator, UserId};
use entrenous_protocol::{
    Entry,
    entry::{ConversationKind, Encryption, EntryKind, MessageType},
    limits::LOG_PAGE_MAX,
    rest::CreateConversation,
};
use entrenous_system_tests::Person;
use futures::future::join_all;

/// How long an expected frame may take: late, because a busy machine is no failure.
const FRAME_LIMIT: Duration = Duration::from_secs(20);
/// Accounts that are made at once.
const ACCOUNTS_AT_ONCE: usize = 8;

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
        encryption: Encryption::None,
        title: (kind != ConversationKind::Direct).then(|| "test".to_owned()),
        members: members.iter().map(|person| person.user_id).collect(),
        ..CreateConversation::of(kind)
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

/// So many people, each signed in on a device.
pub(crate) async fn crowd(gateway: &Url, count: usize) -> Vec<Person> {
    let names: Vec<String> = (0..count).map(|number| format!("one-of-many-{number}")).collect();
    let mut people = Vec::with_capacity(count);
    for names in names.chunks(ACCOUNTS_AT_ONCE) {
        let made = join_all(names.iter().map(|name| Person::new(gateway, name))).await;
        people.extend(made.into_iter().map(Result::unwrap));
    }
    people
}

/// Everything of a conversation's log that the caller may read.
pub(crate) async fn whole_log(api: &Api, conversation: ConversationId) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let after = entries.last().map_or(0, |entry| entry.seq);
        let page = api.log(conversation, after, LOG_PAGE_MAX).await.unwrap();
        entries.extend(page.items);
        if !page.has_more {
            return entries;
        }
    }
}

/// What somebody has read and what not, by the definition, from all of the log that they may read and the highest seq that
/// they said to have read: the read cursor, and the messages of others after it that are neither deleted nor `control`.
pub(crate) fn unread_by_definition(log: &[Entry], reader: UserId, said: u64) -> (u64, Vec<u64>) {
    let is_shown = |entry: &Entry| {
        entry.kind == EntryKind::Message && !entry.deleted && entry.message_type != Some(MessageType::Control)
    };
    let before_first = log.first().map_or(0, |entry| entry.seq - 1);
    let head = log.last().map_or(0, |entry| entry.seq);
    // Also what one has deleted since.
    let is_sent = |entry: &&Entry| {
        let is_message = entry.kind == EntryKind::Message && entry.message_type != Some(MessageType::Control);
        is_message && entry.sender_id == reader
    };
    let own = log.iter().filter(is_sent).map(|entry| entry.seq);
    let read_seq = own.max().unwrap_or(0).max(said.min(head)).max(before_first);
    let unread = log.iter().filter(|entry| entry.seq > read_seq && entry.sender_id != reader && is_shown(entry));
    (read_seq, unread.map(|entry| entry.seq).collect())
}
