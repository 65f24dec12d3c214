//! What people do with messages: edits, deletions, reactions and pins, by frames and by REST, as everybody sees them.

use entrenous_client::{Connection, Reply, RequestError, Target, frame::Body, outgoing};
use entrenous_model::{ConversationId, EntryId, IdGenerator};
use entrenous_protocol::{
    Act, Code, EntryKind,
    act::{DeleteScope, Reaction},
    entry::{ConversationKind, Role},
    frame::ReactionCount,
};
use entrenous_system_tests::{Person, Shape, System};
use serde_json::Value;

use crate::support::{conversation, group, live, next, next_entry, next_seqs, text, until};

fn react(message_id: EntryId, reaction: &str) -> Act {
    Act::React(Reaction { message_id, reaction: reaction.to_owned() })
}

/// Asks by a frame, and waits for what it is answered by: the seq of the entry, where it is one.
async fn ask(connection: &Connection, room: ConversationId, act: &Act) -> Result<Option<u64>, RequestError> {
    let id = IdGenerator.next();
    match connection.handle().request(id, outgoing::act(Some(id), room, act)).await?.wait().await? {
        Reply::Ack(stored) => Ok(stored.map(|stored| stored.seq)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acts_over_two_gateways() {
    let system = System::start(&Shape { gateways: 2, ..Shape::one_process() }).await.unwrap();
    let [here, there] = [0, 1].map(|at| system.gateways()[at].clone());
    let alice = Person::new(&here, "alice").await.unwrap();
    let bob = Person::new(&there, "bob").await.unwrap();
    let tablet = Person::login(&there, "alice", "tablet").await.unwrap();
    in_order(&alice, &bob, &tablet).await;
    by_rest(&alice, &bob).await;
    without_an_id(&alice, &bob).await;
    hidden(&alice, &bob, &tablet).await;
    in_a_channel(&alice, &bob).await;
    system.stop().await;
}

/// Acts come after what the same connection sent before, their acks stand in place, and everybody sees one order.
async fn in_order(alice: &Person, bob: &Person, tablet: &Person) {
    let room = group(alice, &[bob]).await;
    let (mut at_alice, mut at_bob, mut at_tablet) = (live(alice).await, live(bob).await, live(tablet).await);
    let handle = at_alice.handle().clone();
    let mut waiting = Vec::new();
    for number in 0..20 {
        let message = text(&format!("{number}"));
        waiting.push(handle.start_message(Target::Conversation(room), &message).await.unwrap());
        for act in [outgoing::edit_to_text(message.id, "edited"), react(message.id, "👍")] {
            let id = IdGenerator.next();
            waiting.push(handle.request(id, outgoing::act(Some(id), room, &act)).await.unwrap());
        }
    }
    let expected: Vec<u64> = (2..=61).collect();
    assert_eq!(next_seqs(&mut at_alice, 60).await, expected, "own acks, in place");
    let mut seqs = Vec::new();
    for reply in waiting {
        seqs.push(reply.stored().await.unwrap().seq);
    }
    assert_eq!(seqs, expected, "nothing overtakes what was sent before it");
    assert_eq!(next_seqs(&mut at_tablet, 60).await, expected);
    let mut kinds = Vec::new();
    for seq in expected {
        let entry = next_entry(&mut at_bob).await;
        assert_eq!(entry.seq, seq);
        kinds.push(entry.kind);
    }
    assert!(kinds.chunks(3).all(|kinds| kinds == [EntryKind::Message, EntryKind::Edit, EntryKind::Reaction]));
}

async fn by_rest(alice: &Person, bob: &Person) {
    let room = group(alice, &[bob]).await;
    let (mut at_alice, at_bob) = (live(alice).await, live(bob).await);
    let message = alice.api.send_message(room, &text("one")).await.unwrap().id;
    next_entry(&mut at_alice).await;
    let edit_id = IdGenerator.next();
    let edit = outgoing::edit_to_text(message, "two");
    for _ in 0..2 {
        alice.api.act(room, edit_id, &edit).await.unwrap();
    }
    assert_eq!(next_entry(&mut at_alice).await.id, edit_id, "what REST did comes to one's own connections too");
    let other = outgoing::edit_to_text(message, "three");
    assert!(alice.api.act(room, edit_id, &other).await.unwrap_err().is(Code::IdConflict));
    assert!(bob.api.act(room, IdGenerator.next(), &edit).await.unwrap_err().is(Code::Forbidden));
    for reaction in ["👍", "a/b", "100%", "+1"] {
        bob.api.act(room, IdGenerator.next(), &react(message, reaction)).await.unwrap();
        assert_eq!(next_entry(&mut at_alice).await.kind, EntryKind::Reaction);
    }
    bob.api.act(room, IdGenerator.next(), &react(message, "+1")).await.unwrap();
    alice.api.act(room, IdGenerator.next(), &Act::Pin { message_id: message }).await.unwrap();
    assert_eq!(next_entry(&mut at_alice).await.kind, EntryKind::Pin, "the second +1 changed nothing");

    let shown = bob.api.message(room, message).await.unwrap();
    assert_eq!(shown.entry.content.unwrap().get(), r#"{"text":"two"}"#);
    assert_eq!((shown.state.edit.unwrap().id, shown.entry.edit_count, shown.state.pinned), (edit_id, 1, true));
    let reactions: Vec<_> = shown.state.reactions.iter().map(|one| (one.reaction.as_str(), one.mine)).collect();
    assert_eq!(reactions, [("👍", true), ("a/b", true), ("100%", true), ("+1", true)]);
    let pins = bob.api.pins(room).await.unwrap();
    assert_eq!((pins.items[0].entry.id, pins.items[0].state.pinned_by), (message, Some(alice.user_id)));
    assert_eq!(alice.api.reactions(room, message).await.unwrap().items[0].user_id, bob.user_id);

    let delete = Act::Delete { message_id: message, scope: DeleteScope::All };
    assert!(ask(&at_bob, room, &delete).await.unwrap_err().is(Code::Forbidden));
    for _ in 0..2 {
        alice.api.act(room, IdGenerator.next(), &delete).await.unwrap();
    }
    let gone = next_entry(&mut at_alice).await;
    assert_eq!((gone.kind, gone.target_id), (EntryKind::Deletion, Some(message)));
    assert!(bob.api.message(room, message).await.unwrap().entry.deleted);
    assert!(bob.api.pins(room).await.unwrap().items.is_empty());
    assert!(alice.api.act(room, IdGenerator.next(), &edit).await.unwrap_err().is(Code::Conflict));
}

/// A frame without an id gets no `ack`: its entry comes as an entry, and its error names nobody.
async fn without_an_id(alice: &Person, bob: &Person) {
    let room = group(alice, &[bob]).await;
    let mut at_alice = live(alice).await;
    let message = at_alice.send_message(Target::Conversation(room), &text("one")).await.unwrap();
    let id = alice.api.log(room, message.seq - 1, 1).await.unwrap().items[0].id;
    at_alice.handle().tell(outgoing::act(None, room, &react(id, "👍"))).await.unwrap();
    assert_eq!(next_entry(&mut at_alice).await.kind, EntryKind::Reaction);
    at_alice.handle().tell(outgoing::act(None, room, &react(IdGenerator.next(), "👍"))).await.unwrap();
    let is_not_found = next(&mut at_alice, |body| match body {
        Body::Error(refusal) => Some(refusal.is(Code::NotFound)),
        _ => None,
    })
    .await;
    assert!(is_not_found);
}

async fn hidden(alice: &Person, bob: &Person, tablet: &Person) {
    let room = group(alice, &[bob]).await;
    let message_id = bob.api.send_message(room, &text("only one of us wants this")).await.unwrap().id;
    let (at_alice, mut at_tablet) = (live(alice).await, live(tablet).await);
    let hide = Act::Delete { message_id, scope: DeleteScope::Me };
    assert_eq!(ask(&at_alice, room, &hide).await.unwrap(), None);
    let note = next(&mut at_tablet, |body| match body {
        Body::Notification(note) if note.event == "message_hidden" => Some(note),
        _ => None,
    })
    .await;
    let payload: Value = serde_json::from_str(note.payload.get()).unwrap();
    assert_eq!(payload["message_id"], Value::from(message_id.to_string()));
    assert!(tablet.api.message(room, message_id).await.unwrap_err().is(Code::NotFound));
    assert!(tablet.api.log(room, 1, 1).await.unwrap().items[0].deleted);
    assert!(!bob.api.message(room, message_id).await.unwrap().entry.deleted);
}

/// Reactions in channels take no seq; what they come to is told now and then.
async fn in_a_channel(alice: &Person, bob: &Person) {
    let room = alice.api.create_conversation(&conversation(ConversationKind::Channel, &[])).await.unwrap().id;
    alice.api.add_member(room, bob.user_id, Some(Role::Reader)).await.unwrap();
    let (mut at_alice, at_bob) = (live(alice).await, live(bob).await);
    let message_id = alice.api.send_message(room, &text("news")).await.unwrap().id;
    next_entry(&mut at_alice).await;
    assert_eq!(ask(&at_bob, room, &react(message_id, "👍")).await.unwrap(), None, "no entry");
    alice.api.act(room, IdGenerator.next(), &react(message_id, "👍")).await.unwrap();
    let wanted = vec![ReactionCount { reaction: "👍".to_owned(), count: 2 }];
    // Told once or twice, as it falls.
    loop {
        let told = next(&mut at_alice, |body| match body {
            Body::Unknown { r#type, payload } if r#type == "reactions_changed" => Some(payload),
            _ => None,
        })
        .await;
        let told: Value = serde_json::from_str(told.get()).unwrap();
        assert_eq!(told["message_id"], Value::from(message_id.to_string()));
        if serde_json::from_value::<Vec<ReactionCount>>(told["reactions"].clone()).unwrap() == wanted {
            break;
        }
    }
    until("2", async || {
        let shown = bob.api.message(room, message_id).await.ok()?;
        shown.state.reactions.first().map(|one| one.count.to_string())
    })
    .await;
    assert_eq!(bob.api.conversation(room).await.unwrap().last_seq, 2);
}
