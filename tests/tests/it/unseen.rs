//! Every event and every read of a conversation, and everybody who must not see it: a stranger, somebody who was removed, and
//! (of what was before) somebody who came later. Their connections are looked at as raw text, so that no frame is forgotten.

use entrenous_client::{Connection, Credential, Socket, SocketOptions, SyncFrom, SyncStart, outgoing};
use entrenous_model::{ConversationId, EntryId, IdGenerator};
use entrenous_protocol::{
    Act, Code,
    act::{DeleteScope, Reaction},
    entry::ConversationKind,
    rest::MarkRead,
};
use entrenous_system_tests::{Person, Shape, System};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{conversation, live, next_entry, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sees_what_is_not_theirs() {
    let system = System::start(&Shape { gateways: 2, ..Shape::one_process() }).await.unwrap();
    let [near, far] = system.gateways() else { unreachable!("two gateways") };
    let alice = Person::new(near, "alice").await.unwrap();
    let bob = Person::new(far, "bob").await.unwrap();
    let stranger = Person::new(near, "stranger").await.unwrap();
    let removed = Person::new(far, "removed").await.unwrap();
    let later = Person::new(near, "later").await.unwrap();
    for kind in [ConversationKind::Direct, ConversationKind::Group, ConversationKind::Channel] {
        let is_room = kind != ConversationKind::Direct;
        let members: &[&Person] = if is_room { &[&bob, &removed] } else { &[&bob] };
        let room = alice.api.create_conversation(&conversation(kind, members)).await.unwrap().id;
        let mut others = vec![&stranger];
        if is_room {
            alice.api.send_message(room, &text("with all of them")).await.unwrap();
            alice.api.remove_member(room, removed.user_id).await.unwrap();
            others.push(&removed);
        }
        let mut watching = Vec::new();
        for other in &others {
            watching.push(Watching::open(other, room).await);
        }
        let said = say_everything(&alice, &bob, room, is_room).await;
        for (watching, other) in watching.iter_mut().zip(&others) {
            let seen = watching.until_fence(&alice, other).await;
            assert!(seen.is_empty(), "{kind:?}: {} was told {seen:#?}", other.name);
            reads_answer_nothing(other, room, &said).await;
        }
        if is_room {
            comes_later(&alice, &later, room, &said).await;
        }
    }
    system.stop().await;
}

/// A connection of somebody that has synced, as raw text.
struct Watching {
    socket: Socket,
    room: ConversationId,
}

impl Watching {
    async fn open(person: &Person, room: ConversationId) -> Self {
        let credential = Credential::Header(person.token().to_owned());
        let mut socket = Socket::connect(person.api.base(), &credential, SocketOptions::default()).await.unwrap();
        let start = SyncStart { from: Some(SyncFrom::Start), ..SyncStart::default() };
        socket.send(outgoing::sync(IdGenerator.next(), &start)).await.unwrap();
        loop {
            let text = socket.next().await.unwrap();
            if text.contains("\"sync_complete\"") {
                return Self { socket, room };
            }
        }
    }

    /// Everything that names the room, up to a message that comes after it all.
    async fn until_fence(&mut self, from: &Person, to: &Person) -> Vec<String> {
        let direct = from.api.create_conversation(&conversation(ConversationKind::Direct, &[to])).await.unwrap().id;
        let fence = from.api.send_message(direct, &text("that was all")).await.unwrap().id.to_string();
        let room = self.room.to_string();
        let mut seen = Vec::new();
        loop {
            let text = self.socket.next().await.unwrap().to_string();
            if text.contains(&fence) {
                return seen;
            }
            if text.contains(&room) {
                seen.push(text);
            }
        }
    }
}

/// What happened in a room.
struct Said {
    /// Messages, each of which somebody did something with.
    messages: Vec<EntryId>,
    /// The last entry.
    head: u64,
}

/// Does everything that there is to do, by frames and by REST.
async fn say_everything(alice: &Person, bob: &Person, room: ConversationId, is_room: bool) -> Said {
    let (mut at_alice, at_bob) = (live(alice).await, live(bob).await);
    let mut messages = Vec::new();
    for number in 0..2 {
        let sent = alice.api.send_message(room, &text(&format!("between ourselves {number}"))).await.unwrap();
        next_entry(&mut at_alice).await;
        messages.push(sent.id);
    }
    let [first, second] = messages[..] else { unreachable!("two") };
    let reaction = || Reaction { message_id: first, reaction: "👍".to_owned() };
    let act = async |connection: &Connection, act: Act| {
        let id = IdGenerator.next();
        connection.handle().request(id, outgoing::act(Some(id), room, &act)).await.unwrap().wait().await.unwrap();
    };
    act(&at_bob, Act::React(reaction())).await;
    act(&at_bob, Act::Unreact(reaction())).await;
    act(&at_bob, Act::React(reaction())).await;
    act(&at_alice, outgoing::edit_to_text(first, "and only ourselves")).await;
    act(&at_alice, Act::Pin { message_id: first }).await;
    act(&at_alice, Act::Unpin { message_id: first }).await;
    act(&at_alice, Act::Delete { message_id: second, scope: DeleteScope::All }).await;
    act(&at_bob, Act::Delete { message_id: first, scope: DeleteScope::Me }).await;
    let head = alice.api.conversation(room).await.unwrap().last_seq;
    for text in [
        outgoing::typing(None, room, true),
        outgoing::delivery_receipt(None, room, head),
        outgoing::read_receipt(None, room, head),
    ] {
        at_bob.handle().tell(text).await.unwrap();
    }
    at_bob.handle().ping().await.unwrap();
    if is_room {
        let name = format!("guest-{}", said_in(room));
        let guest = Person::new(alice.api.base(), &name).await.unwrap();
        alice.api.add_member(room, guest.user_id, None).await.unwrap();
        guest.api.remove_member(room, guest.user_id).await.unwrap();
    }
    let last = alice.api.send_message(room, &text("at last")).await.unwrap();
    messages.push(last.id);
    Said { messages, head: last.seq }
}

/// A part of a room's id that is another one for each.
fn said_in(room: ConversationId) -> String {
    room.to_string().rsplit('-').next().unwrap_or_default().to_owned()
}

/// Every read of the room answers as if it were not there.
async fn reads_answer_nothing(person: &Person, room: ConversationId, said: &Said) {
    let conversation = format!("conversations/{room}");
    let mut reads: Vec<String> = ["", "/members", "/messages", "/log", "/unread", "/pins", "/bans", "/invites"]
        .map(|path| format!("{conversation}{path}"))
        .into();
    reads.push(format!("messages/group/{room}"));
    for message in &said.messages {
        reads.push(format!("{conversation}/threads/{message}"));
        reads.extend(["", "/reactions", "/receipts"].map(|path| format!("{conversation}/messages/{message}{path}")));
    }
    for path in reads {
        let status = person.api.request(Method::GET, &path).send().await.unwrap().status();
        assert_eq!(status, StatusCode::NOT_FOUND, "{} reads {path}", person.name);
    }
    let read = MarkRead { conversation_id: room, seq: Some(1), message_ids: None };
    assert!(person.api.mark_read(&read).await.unwrap_err().is(Code::NotFound), "{}", person.name);
    let message_id = said.messages[0];
    let reaction = || Reaction { message_id, reaction: "👍".to_owned() };
    for act in [
        Act::React(reaction()),
        Act::Unreact(reaction()),
        Act::Pin { message_id },
        Act::Unpin { message_id },
        Act::Delete { message_id, scope: DeleteScope::All },
        Act::Delete { message_id, scope: DeleteScope::Me },
        outgoing::edit_to_text(message_id, "mine"),
    ] {
        let refused = person.api.act(room, IdGenerator.next(), &act).await.unwrap_err();
        assert!(refused.is(Code::NotFound), "{}: {act:?}: {refused}", person.name);
    }
    let found = person.api.request(Method::GET, "messages/search").query(&[("q", "ourselves")]).send().await.unwrap();
    let found: Value = found.json().await.unwrap();
    assert!(found["items"].as_array().unwrap().is_empty(), "{}: {found:#}", person.name);
    let listed = person.api.conversations(None).await.unwrap();
    assert!(listed.items.iter().all(|listed| listed.id != room), "{} has it in the list", person.name);
    let undelivered = person.api.undelivered(100).await.unwrap();
    assert!(undelivered.items.iter().all(|entry| entry.conversation_id != room || entry.seq <= 2));
}

/// Who comes later reads from there on, and nothing about what was before.
async fn comes_later(alice: &Person, later: &Person, room: ConversationId, said: &Said) {
    let joined = alice.api.add_member(room, later.user_id, None).await.unwrap().joined_seq;
    assert_eq!(joined, said.head + 1);
    alice.api.send_message(room, &text("welcome")).await.unwrap();
    for path in ["messages?limit=100", "messages?around=1", "log?after=0&limit=500", "pins"] {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let request = later.api.request(Method::GET, &format!("conversations/{room}/{path}"));
        let query: Vec<_> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let page: Value = request.query(&query).send().await.unwrap().json().await.unwrap();
        let items = page["items"].as_array().unwrap();
        assert!(items.iter().all(|item| item["seq"].as_u64().unwrap() >= joined), "{path}: {page:#}");
    }
    for message_id in &said.messages {
        assert!(later.api.message(room, *message_id).await.unwrap_err().is(Code::NotFound));
        let react = Act::React(Reaction { message_id: *message_id, reaction: "👍".to_owned() });
        assert!(later.api.act(room, IdGenerator.next(), &react).await.unwrap_err().is(Code::NotFound));
    }
    let mut watching = Watching::open(later, room).await;
    let before: Vec<_> = watching.until_fence(alice, later).await;
    assert!(before.iter().all(|text| seq_of(text) >= joined), "{before:#?}");
}

/// Of an entry's frame; whatever else names the room has none.
fn seq_of(text: &str) -> u64 {
    let frame: Value = serde_json::from_str(text).unwrap();
    frame["payload"]["seq"].as_u64().unwrap_or_else(|| panic!("{}", json!(frame)))
}
