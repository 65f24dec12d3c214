//! The client that stays, against services that are killed while it talks.

use std::time::Duration;

use entrenous_client::{
    Client, Target,
    client::{Event, Login, MemoryCursors, Options, PendingSend, RefreshingTokens, Status},
};
use entrenous_model::{ConversationId, EntryId};
use entrenous_system_tests::{Person, Shape, System};

use crate::{
    device_messages::to,
    support::{group, text},
};

/// How long everything may take to arrive: late, because a busy machine is no failure.
const LIMIT: Duration = Duration::from_secs(120);
const MESSAGES: usize = 60;
/// The group's first entry.
const BEGINNING: u64 = 1;

fn stay(person: &Person) -> Client {
    let login = Login {
        api: person.api.clone(),
        user_id: person.user_id,
        device_id: person.device_id,
        access_token: person.token().to_owned(),
    };
    let tokens = RefreshingTokens::new(person.api.clone(), person.refresh_token.clone());
    Client::start(login, tokens, MemoryCursors, Options::default())
}

async fn live(client: &mut Client) {
    while !matches!(client.next().await.unwrap(), Event::Status(Status::Live)) {}
}

/// The ids of a conversation's entries as the client tells them, checked to be each once and in order.
async fn told(client: &mut Client, room: ConversationId, count: usize) -> Vec<EntryId> {
    let (mut ids, mut last) = (Vec::new(), BEGINNING);
    while ids.len() < count {
        let (conversation, seq, id) = match client.next().await.unwrap() {
            Event::Entry(entry) => (entry.conversation_id, entry.seq, entry.id),
            Event::Acknowledged { id, stored, in_place: true } => (stored.conversation_id, stored.seq, id),
            Event::Violation(violation) => panic!("{violation:?}"),
            _ => continue,
        };
        if conversation == room && seq > BEGINNING {
            assert_eq!(seq, last + 1, "each once and in order");
            last = seq;
            ids.push(id);
        }
    }
    ids
}

#[tokio::test]
async fn nothing_is_lost_while_services_are_killed() {
    let shape = Shape { gateways: 1, replicas: 1, ..Shape::split() };
    let system = System::start(&shape).await.unwrap();
    let alice = Person::new(system.gateway(), "alice").await.unwrap();
    let bob = Person::new(system.gateway(), "bob").await.unwrap();
    let room = group(&alice, &[&bob]).await;
    let (mut at_alice, mut at_bob) = (stay(&alice), stay(&bob));
    live(&mut at_alice).await;
    live(&mut at_bob).await;
    let handle = at_alice.handle().clone();
    let talking = async {
        let mut pending: Vec<(EntryId, PendingSend)> = Vec::new();
        for number in 0..MESSAGES {
            match number {
                15 | 45 => assert!(system.kill("gateway-1").unwrap()),
                30 => assert!(system.kill("message-store-1").unwrap()),
                _ => {}
            }
            let message = text(&number.to_string());
            let sent = handle.queue(Target::Conversation(room), &message).await.unwrap();
            if number % 10 == 9 {
                // Otherwise all would be over before anything dies.
                sent.wait().await.unwrap();
            } else {
                pending.push((message.id, sent));
            }
        }
        for (_, sent) in pending {
            sent.wait().await.unwrap();
        }
    };
    let everything = async {
        let ((), here, there) =
            tokio::join!(talking, told(&mut at_alice, room, MESSAGES), told(&mut at_bob, room, MESSAGES));
        assert_eq!(here, there, "both see the same log");
    };
    tokio::time::timeout(LIMIT, everything).await.expect("not everything arrived");
    let log = alice.api.log(room, BEGINNING, 500).await.unwrap().items;
    assert_eq!(log.len(), MESSAGES, "each message is stored once");
    let written: Vec<_> = log.iter().map(|entry| entry.content.as_ref().unwrap().get().to_owned()).collect();
    let spoken: Vec<_> = (0..MESSAGES).map(|number| format!("\"{number}\"")).collect();
    assert!(written.iter().zip(&spoken).all(|(text, number)| text.contains(number)), "in the order of the calls");
    // Alice waits for an answer after each kill of the gateway; bob may sleep through the second one.
    let (here, there) = (at_alice.handle().stats(), at_bob.handle().stats());
    assert!(here.connections >= 3 && there.connections >= 2, "{here:?} {there:?}");
    at_alice.close().await;
    at_bob.close().await;
    system.stop().await;
}

/// The seqs of the device messages that come before everything is live.
async fn waiting(client: &mut Client) -> Vec<u64> {
    let mut seqs = Vec::new();
    loop {
        match client.next().await.unwrap() {
            Event::DeviceMessage(message) => seqs.push(message.seq),
            Event::Status(Status::Live) => return seqs,
            _ => {}
        }
    }
}

#[tokio::test]
async fn device_messages_wait_until_the_program_has_them() {
    const COUNT: u64 = 20;
    const KEPT: u64 = 15;
    let shape = Shape { gateways: 1, replicas: 1, ..Shape::split() };
    let system = System::start(&shape).await.unwrap();
    let alice = Person::new(system.gateway(), "alice").await.unwrap();
    let bob = Person::new(system.gateway(), "bob").await.unwrap();
    let (mut at_alice, mut at_bob) = (stay(&alice), stay(&bob));
    live(&mut at_alice).await;
    live(&mut at_bob).await;
    let handle = at_alice.handle().clone();
    let sending = async {
        for number in 0..COUNT {
            if number == COUNT / 2 {
                assert!(system.kill("gateway-1").unwrap());
            }
            handle.send_device_messages(&[to(&bob, &number.to_string())], Some(bob.user_id)).await.unwrap();
        }
    };
    let taking = async {
        for expected in 1..=COUNT {
            let seq = loop {
                if let Event::DeviceMessage(message) = at_bob.next().await.unwrap() {
                    break message.seq;
                }
            };
            assert_eq!(seq, expected, "each once and in order");
            if seq <= KEPT {
                at_bob.handle().acknowledge_device_messages(seq);
            }
        }
    };
    let others = async { while at_alice.next().await.is_some() {} };
    let everything = async {
        tokio::select! {
            ((), ()) = async { tokio::join!(sending, taking) } => {}
            () = others => panic!("alice's client has ended"),
        }
    };
    tokio::time::timeout(LIMIT, everything).await.expect("not everything arrived");
    // What the program has said to have is gone; the rest comes to another client of the same device.
    let coming_back = async {
        loop {
            at_bob.close().await;
            at_bob = stay(&bob);
            let seqs = waiting(&mut at_bob).await;
            assert!(seqs.ends_with(&(KEPT + 1..=COUNT).collect::<Vec<_>>()), "{seqs:?}");
            if seqs.first() == Some(&(KEPT + 1)) {
                return at_bob.close().await;
            }
            at_bob.handle().acknowledge_device_messages(KEPT);
        }
    };
    tokio::time::timeout(LIMIT, coming_back).await.expect("what was acknowledged comes again");
    at_alice.close().await;
    system.stop().await;
}
