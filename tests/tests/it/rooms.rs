//! Groups and channels from outside: everybody hears of their end, and a user's devices of their own settings.

use entrenous_client::{Connection, Reply, RequestError, SyncFrom, SyncStart, Target, frame::Body, outgoing};
use entrenous_model::{ConversationId, EntryId, IdGenerator};
use entrenous_protocol::{
    Code, EntryKind,
    entry::ConversationKind,
    rest::{ConversationPatch, CreateConversation, NewInvite},
};
use entrenous_system_tests::{Cluster, Person, Shape, System};
use serde_json::{Value, json};

use crate::support::{conversation, group, live, next, text, whole_log};

/// What a connection is told of one conversation.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Joined(u64),
    Left(u64),
    Entry(u64, EntryKind),
    Ack(u64),
}

async fn told(connection: &mut Connection, room: ConversationId) -> Told {
    next(connection, |body| match body {
        Body::Entry(entry) if entry.conversation_id == room => Some(Told::Entry(entry.seq, entry.kind)),
        Body::Ack(Some(stored)) if stored.conversation_id == room => Some(Told::Ack(stored.seq)),
        Body::Notification(note) if note.conversation_id == Some(room) => match note.event.as_str() {
            "conversation_joined" => note.seq.map(Told::Joined),
            "conversation_left" => note.seq.map(Told::Left),
            _ => None,
        },
        _ => None,
    })
    .await
}

/// The next direct message comes at once after what was told before.
async fn is_quiet(connection: &mut Connection, from: &Person, to: &Person) {
    let direct = from.api.create_conversation(&conversation(ConversationKind::Direct, &[to])).await.unwrap().id;
    let sent = from.api.send_message(direct, &text("that was all")).await.unwrap().id;
    let first = next(connection, |body| match body {
        Body::Entry(entry) => Some(entry.id),
        _ => None,
    })
    .await;
    assert_eq!(first, sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_hears_of_the_end_and_then_nothing() {
    let system = System::start(&Shape { gateways: 2, ..Shape::one_process() }).await.unwrap();
    let [near, far] = system.gateways() else { unreachable!("two gateways") };
    let (owner, bob) = (Person::new(near, "owner").await.unwrap(), Person::new(near, "bob").await.unwrap());
    let (carol, dave) = (Person::new(far, "carol").await.unwrap(), Person::new(far, "dave").await.unwrap());
    for kind in [ConversationKind::Group, ConversationKind::Channel] {
        let room = owner.api.create_conversation(&conversation(kind, &[&bob, &carol, &dave])).await.unwrap().id;
        let (mut at_owner, mut at_bob, mut at_carol) = (live(&owner).await, live(&bob).await, live(&carol).await);
        assert_eq!(owner.api.send_message(room, &text("soon over")).await.unwrap().seq, 2);
        owner.api.delete_conversation(room).await.unwrap();
        for connection in [&mut at_owner, &mut at_bob, &mut at_carol] {
            assert_eq!(told(connection, room).await, Told::Entry(2, EntryKind::Message));
            assert_eq!(told(connection, room).await, Told::Entry(3, EntryKind::Settings));
            assert_eq!(told(connection, room).await, Told::Left(3));
        }
        let refused = bob.api.send_message(room, &text("no")).await.unwrap_err();
        assert!(refused.is(Code::NotFound), "{refused}");

        // Who was away, and who has a place there, is told at the next sync.
        let mut away = dave.connect().await.unwrap();
        away.sync(&SyncStart { from: Some(SyncFrom::Start), ..SyncStart::default() }).await.unwrap();
        assert_eq!(told(&mut away, room).await, Told::Left(3));
        let start = SyncStart { cursors: [(room, 2)].into(), ..SyncStart::default() };
        at_bob.sync(&start).await.unwrap();
        assert_eq!(told(&mut at_bob, room).await, Told::Left(3));
        is_quiet(&mut at_carol, &owner, &carol).await;
    }
}

/// The gateway did not hear of the end: it finds nothing to read, and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_was_missed_is_made_up_for() {
    let cluster = Cluster::start().await.unwrap();
    let _store = cluster.store(&[]).await.unwrap();
    let settings = [("CUT_OFF_AFTER_MS", "300000")];
    let (near, far) = tokio::join!(cluster.gateway(&settings), cluster.gateway(&settings));
    let (near, far) = (near.unwrap(), far.unwrap());
    let owner = Person::new(&far.url(), "owner").await.unwrap();
    let bob = Person::new(&near.url(), "bob").await.unwrap();
    let room = group(&owner, &[&bob]).await;
    let other = group(&owner, &[&bob]).await;
    let mut at_bob = live(&bob).await;
    near.nats.cut();
    owner.api.delete_conversation(room).await.unwrap();
    assert_eq!(owner.api.send_message(other, &text("here")).await.unwrap().seq, 2);
    near.nats.heal();
    assert_eq!(told(&mut at_bob, room).await, Told::Left(2));
    assert_eq!(owner.api.send_message(other, &text("and here")).await.unwrap().seq, 3);
    next(&mut at_bob, |body| matches!(body, Body::Entry(entry) if entry.seq == 3).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_settings_reach_ones_other_devices_alone() {
    let system = System::start(&Shape { gateways: 2, ..Shape::one_process() }).await.unwrap();
    let [near, far] = system.gateways() else { unreachable!("two gateways") };
    let (owner, bob) = (Person::new(near, "owner").await.unwrap(), Person::new(near, "bob").await.unwrap());
    let other_device = Person::login(far, "bob", "tablet").await.unwrap();
    let room = group(&owner, &[&bob]).await;
    let (mut at_owner, mut at_other) = (live(&owner).await, live(&other_device).await);
    let settings = serde_json::from_value(json!({"archived": true, "pinned": 3})).unwrap();
    let member = bob.api.set_own_settings(room, bob.user_id, settings).await.unwrap();
    assert_eq!(json!(member.settings), json!({"archived": true, "pinned": 3}));
    let note = next(&mut at_other, |body| match body {
        Body::Notification(note) if note.event == "settings_changed" => Some(note),
        _ => None,
    })
    .await;
    let payload: Value = serde_json::from_str(note.payload.get()).unwrap();
    let wanted = json!({"event": "settings_changed", "conversation_id": room, "settings": member.settings});
    assert_eq!(payload, wanted);
    let bobs = bob.api.send_message(room, &text("nothing but this")).await.unwrap().seq;
    let first = next(&mut at_owner, |body| match body {
        Body::Entry(entry) => Some(Ok(entry.seq)),
        Body::Notification(note) => Some(Err(note.event)),
        _ => None,
    })
    .await;
    assert_eq!(first, Ok(bobs));
}

async fn ask(connection: &Connection, id: EntryId, room: ConversationId, is_join: bool) -> Result<Reply, RequestError> {
    let frame = outgoing::membership(Some(id), room, is_join);
    connection.handle().request(id, frame).await.unwrap().wait().await
}

fn place(reply: Result<Reply, RequestError>) -> Option<u64> {
    match reply.unwrap() {
        Reply::Ack(stored) => stored.map(|stored| stored.seq),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_join_and_leave_in_their_place() {
    let system = System::start(&Shape::one_process()).await.unwrap();
    let [gateway] = system.gateways() else { unreachable!("one gateway") };
    let (owner, bob) = (Person::new(gateway, "owner").await.unwrap(), Person::new(gateway, "bob").await.unwrap());
    let public = |kind| CreateConversation { is_public: true, ..conversation(kind, &[]) };
    let room = owner.api.create_conversation(&public(ConversationKind::Group)).await.unwrap().id;
    let (mut at_owner, at_bob) = (live(&owner).await, live(&bob).await);
    let [joins, leaves]: [EntryId; 2] = [IdGenerator.next(), IdGenerator.next()];
    assert_eq!(place(ask(&at_bob, joins, room, true).await), Some(2));
    assert_eq!(told(&mut at_owner, room).await, Told::Entry(2, EntryKind::Member));

    // What was sent before the leave is stored before it.
    let mut sent = Vec::new();
    for number in 0..5 {
        let target = Target::Conversation(room);
        sent.push(at_bob.handle().start_message(target, &text(&format!("number {number}"))).await.unwrap());
    }
    let left = ask(&at_bob, leaves, room, false).await;
    for (pending, seq) in sent.into_iter().zip(3..) {
        assert_eq!(pending.stored().await.unwrap().seq, seq);
    }
    assert_eq!(place(left), Some(8));
    for seq in 3..8 {
        assert_eq!(told(&mut at_owner, room).await, Told::Entry(seq, EntryKind::Message));
    }
    assert_eq!(told(&mut at_owner, room).await, Told::Entry(8, EntryKind::Member));
    assert_eq!(place(ask(&at_bob, joins, room, true).await), Some(2), "a repeat changes nothing");
    assert_eq!(place(ask(&at_bob, leaves, room, false).await), Some(8));
    let log = whole_log(&owner.api, room).await;
    assert_eq!((log.len(), log[1].id, log[1].sender_device_id), (8, joins, Some(bob.device_id)));

    let channel = owner.api.create_conversation(&public(ConversationKind::Channel)).await.unwrap().id;
    for is_join in [true, false] {
        assert_eq!(place(ask(&at_bob, IdGenerator.next(), channel, is_join).await), None);
    }
    let private = group(&owner, &[]).await;
    for is_join in [true, false] {
        let refused = ask(&at_bob, IdGenerator.next(), private, is_join).await.unwrap_err();
        assert!(matches!(&refused, RequestError::Refused(refusal) if refusal.is(Code::NotFound)), "{refused}");
    }
    owner.api.ban(room, bob.user_id).await.unwrap();
    let refused = ask(&at_bob, IdGenerator.next(), room, true).await.unwrap_err();
    assert!(matches!(&refused, RequestError::Refused(refusal) if refusal.is(Code::Forbidden)), "{refused}");
}

/// Settings, an invite and a join, told to who is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_live() {
    let system = System::start(&Shape::one_process()).await.unwrap();
    let [gateway] = system.gateways() else { unreachable!("one gateway") };
    let (owner, bob) = (Person::new(gateway, "owner").await.unwrap(), Person::new(gateway, "bob").await.unwrap());
    let room = group(&owner, &[]).await;
    let (mut at_owner, mut at_bob) = (live(&owner).await, live(&bob).await);
    let patch = ConversationPatch { title: Some(Some("Soup".to_owned())), ..ConversationPatch::default() };
    owner.api.update_conversation(room, &patch).await.unwrap();
    assert_eq!(told(&mut at_owner, room).await, Told::Entry(2, EntryKind::Settings));
    let invite = owner.api.create_invite(room, &NewInvite::default()).await.unwrap();
    let joined = bob.api.join_by_invite(invite.token.as_deref().unwrap()).await.unwrap();
    assert_eq!((joined.id, joined.title.as_deref()), (room, Some("Soup")));
    assert_eq!(told(&mut at_bob, room).await, Told::Joined(3));
    for connection in [&mut at_owner, &mut at_bob] {
        assert_eq!(told(connection, room).await, Told::Entry(3, EntryKind::Member));
    }
    owner.api.ban(room, bob.user_id).await.unwrap();
    for connection in [&mut at_owner, &mut at_bob] {
        assert_eq!(told(connection, room).await, Told::Entry(4, EntryKind::Member));
    }
    assert_eq!(owner.api.send_message(room, &text("alone")).await.unwrap().seq, 5);
    is_quiet(&mut at_bob, &owner, &bob).await;

    let public = CreateConversation { is_public: true, ..conversation(ConversationKind::Channel, &[]) };
    let channel = owner.api.create_conversation(&public).await.unwrap().id;
    let found = bob.api.channels(Some("TES"), None).await.unwrap().items;
    assert_eq!((found.len(), found[0].id), (1, channel));
    bob.api.join(channel).await.unwrap();
    assert_eq!(told(&mut at_bob, channel).await, Told::Joined(2));
}
