//! What people allow each other, over REST and WebSocket: who writes, who is invited, who sees whom typing.

use entrenous_client::{ApiError, Connection, Refusal, RequestError, Target, frame::Body, outgoing};
use entrenous_model::{ConversationId, EntryId, IdGenerator};
use entrenous_protocol::{
    entry::ConversationKind,
    rest::{MessagesFrom, ProfilePatch},
};
use entrenous_system_tests::{Person, Shape, System};

use crate::support::{conversation, group, live, next, next_entry, sealed, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_decide_who_reaches_them() {
    let system = System::start(&Shape::one_process()).await.unwrap();
    let person = async |name: &str| Person::new(system.gateway(), name).await.unwrap();
    let (alice, bob, carol, dave) =
        (person("alice").await, person("bob").await, person("carol").await, person("dave").await);
    blocking(&alice, &bob, &carol).await;
    contacts_only(&alice, &dave).await;
    invitations(&alice, &bob, &carol).await;
    typing(&alice, &bob, &carol).await;
    system.stop().await;
}

async fn messages_from(person: &Person, from: MessagesFrom) {
    let patch = ProfilePatch { messages_from: Some(Some(from)), ..ProfilePatch::default() };
    assert_eq!(person.api.update_me(&patch).await.unwrap().messages_from, from);
}

/// What the server says in a frame and over REST, which must be the same.
async fn refusal(connection: &Connection, from: &Person, to: &Person) -> (String, String) {
    let told = |refusal: &Refusal| (refusal.code.clone(), refusal.detail.clone());
    let framed = match connection.send_message(Target::User(to.user_id), &sealed(b"x")).await {
        Err(RequestError::Refused(refusal)) => told(&refusal),
        other => panic!("{other:?}"),
    };
    let created = match from.api.create_conversation(&conversation(ConversationKind::Direct, &[to])).await {
        Err(ApiError::Refused(refusal)) => told(&refusal),
        // It exists: then writing into it is refused.
        other => {
            let direct = other.unwrap().id;
            told(from.api.send_message(direct, &sealed(b"x")).await.unwrap_err().refusal().unwrap())
        }
    };
    assert_eq!(framed, created);
    assert_eq!(framed.0, "forbidden");
    framed
}

async fn conversations(person: &Person) -> usize {
    person.api.conversations(None).await.unwrap().items.len()
}

/// Bob blocks alice, with whom he talks, and carol, whom he does not know.
async fn blocking(alice: &Person, bob: &Person, carol: &Person) {
    let (at_alice, at_carol) = (live(alice).await, live(carol).await);
    let mut at_bob = live(bob).await;
    let kept = sealed(b"one");
    let first = at_alice.send_message(Target::User(bob.user_id), &kept).await.unwrap();
    next_entry(&mut at_bob).await;
    bob.api.set_blocked(alice.user_id, true).await.unwrap();
    bob.api.set_blocked(carol.user_id, true).await.unwrap();

    let known = refusal(&at_alice, alice, bob).await;
    assert_eq!(refusal(&at_carol, carol, bob).await, known, "whether they have talked or not");
    assert_eq!(refusal(&at_bob, bob, alice).await, known, "both ways");
    messages_from(carol, MessagesFrom::Contacts).await;
    assert_eq!(refusal(&at_alice, alice, carol).await, known, "as from who has contacts only");
    messages_from(carol, MessagesFrom::Everyone).await;
    assert_eq!((conversations(bob).await, conversations(carol).await), (1, 0), "nothing came into being");

    let again = at_alice.send_message(Target::User(bob.user_id), &kept).await.unwrap();
    assert_eq!(again, first, "a repeat gets its ack");
    // In a group nothing changes; and it is the first thing that bob hears of since.
    let room = group(carol, &[alice]).await;
    carol.api.add_member(room, bob.user_id, None).await.unwrap();
    assert_eq!(carol.api.members(room, None).await.unwrap().items.len(), 2, "whom he blocked does not bring him there");
    bob.api.set_blocked(carol.user_id, false).await.unwrap();
    carol.api.add_member(room, bob.user_id, None).await.unwrap();
    alice.api.send_message(room, &text("hello")).await.unwrap();
    let entry = next_entry(&mut at_bob).await;
    assert_eq!((entry.conversation_id, entry.seq), (room, 2));
    assert_eq!(next_entry(&mut at_bob).await.sender_id, alice.user_id);

    bob.api.set_blocked(alice.user_id, false).await.unwrap();
    let next = at_alice.send_message(Target::User(bob.user_id), &sealed(b"two")).await.unwrap();
    assert_eq!(next.seq, first.seq + 1);
}

/// Dave takes messages from contacts only, then from nobody.
async fn contacts_only(alice: &Person, dave: &Person) {
    let (at_alice, at_dave) = (live(alice).await, live(dave).await);
    messages_from(dave, MessagesFrom::Contacts).await;
    refusal(&at_alice, alice, dave).await;
    at_dave.send_message(Target::User(alice.user_id), &sealed(b"hello")).await.unwrap();
    at_alice.send_message(Target::User(dave.user_id), &sealed(b"hello yourself")).await.unwrap();
    messages_from(dave, MessagesFrom::Nobody).await;
    refusal(&at_alice, alice, dave).await;
    at_dave.send_message(Target::User(alice.user_id), &sealed(b"I can")).await.unwrap();
}

/// Alice invites bob, who has blocked her.
async fn invitations(alice: &Person, bob: &Person, carol: &Person) {
    bob.api.set_blocked(alice.user_id, true).await.unwrap();
    let before = conversations(bob).await;
    let room = group(alice, &[bob, carol]).await;
    let added = alice.api.add_member(room, bob.user_id, None).await.unwrap();
    assert_eq!(added.user_id, bob.user_id);
    let members = alice.api.members(room, None).await.unwrap().items;
    assert!(members.len() == 2 && members.iter().all(|member| member.user_id != bob.user_id), "{members:?}");
    assert_eq!(conversations(bob).await, before);
    bob.api.set_blocked(alice.user_id, false).await.unwrap();
    alice.api.add_member(room, bob.user_id, None).await.unwrap();
    assert_eq!(conversations(bob).await, before + 1);
}

async fn say(connection: &Connection, room: ConversationId, typing: bool) {
    let id = IdGenerator.next();
    let sent = connection.handle().request(id, outgoing::typing(Some(id), room, typing)).await.unwrap();
    sent.wait().await.unwrap();
}

/// Whether typing that begins came before this entry.
async fn heard_before(connection: &mut Connection, mark: EntryId) -> bool {
    let mut is_heard = false;
    next(connection, |body| match body {
        Body::Typing(typing) => {
            is_heard |= typing.typing;
            None
        }
        Body::Entry(entry) => (entry.id == mark).then_some(()),
        _ => None,
    })
    .await;
    is_heard
}

/// Whether one hears of the other's typing, while carol does. Typing is told at most once, where nothing else is to be done:
/// so it is looked until carol has heard of it several times.
async fn is_told(
    typist: &Connection,
    room: ConversationId,
    (carol, at_carol): (&Person, &mut Connection),
    one: &mut Connection,
) -> bool {
    let (mut heard, mut is_told) = (0, false);
    while heard < 3 {
        say(typist, room, true).await;
        say(typist, room, false).await;
        let mark = carol.api.send_message(room, &text("mark")).await.unwrap().id;
        heard += u32::from(heard_before(at_carol, mark).await);
        is_told |= heard_before(one, mark).await;
    }
    is_told
}

/// Typing between alice and bob is hidden from both while bob has blocked alice, and from nobody else.
async fn typing(alice: &Person, bob: &Person, carol: &Person) {
    let room = group(carol, &[alice, bob]).await;
    let (mut at_alice, mut at_bob, mut at_carol) = (live(alice).await, live(bob).await, live(carol).await);
    for is_blocked in [false, true, false, true] {
        bob.api.set_blocked(alice.user_id, is_blocked).await.unwrap();
        // The gateways hear of it a moment later.
        while is_told(&at_alice, room, (carol, &mut at_carol), &mut at_bob).await == is_blocked {}
        while is_told(&at_bob, room, (carol, &mut at_carol), &mut at_alice).await == is_blocked {}
    }
    for _ in 0..2 {
        assert!(!is_told(&at_alice, room, (carol, &mut at_carol), &mut at_bob).await);
        assert!(!is_told(&at_bob, room, (carol, &mut at_carol), &mut at_alice).await);
    }
}
