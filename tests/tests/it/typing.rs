//! Who is typing: told to the live members on all gateways, ended by itself, kept from everybody else.

use entrenous_client::{
    Connection, RequestError,
    frame::{Body, Typing},
    outgoing,
};
use entrenous_model::{ConversationId, IdGenerator};
use entrenous_system_tests::{Person, Shape, System};

use crate::support::{group, live, next, next_entry, text};

async fn say(connection: &Connection, room: ConversationId, typing: bool) -> Result<(), RequestError> {
    let id = IdGenerator.next();
    connection.handle().request(id, outgoing::typing(Some(id), room, typing)).await?.wait().await.map(drop)
}

async fn next_typing(connection: &mut Connection) -> Typing {
    next(connection, |body| match body {
        Body::Typing(typing) => Some(typing),
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typing_reaches_live_members_and_ends_by_itself() {
    let system = System::start(&Shape::one_process()).await.unwrap();
    let person = async |name: &str| Person::new(system.gateway(), name).await.unwrap();
    let (alice, bob, carol) = (person("alice").await, person("bob").await, person("carol").await);
    let room = group(&alice, &[&bob]).await;
    let laptop = Person::login(system.gateway(), "alice", "laptop").await.unwrap();
    let (at_alice, mut at_bob) = (live(&alice).await, live(&bob).await);
    let (mut at_laptop, at_carol) = (live(&laptop).await, live(&carol).await);
    let shape = |typing: &Typing| (typing.conversation_id, typing.user_id, typing.typing);
    let (begun, ended) = ((room, alice.user_id, true), (room, alice.user_id, false));

    say(&at_alice, room, true).await.unwrap();
    assert_eq!(shape(&next_typing(&mut at_bob).await), begun);
    say(&at_alice, room, false).await.unwrap();
    assert_eq!(shape(&next_typing(&mut at_bob).await), ended);
    say(&at_alice, room, true).await.unwrap();
    assert_eq!(shape(&next_typing(&mut at_bob).await), begun);
    assert_eq!(shape(&next_typing(&mut at_bob).await), ended, "after some seconds of silence");
    say(&at_alice, room, true).await.unwrap();
    assert_eq!(shape(&next_typing(&mut at_bob).await), begun);
    at_alice.close().await;
    assert_eq!(shape(&next_typing(&mut at_bob).await), ended, "with the connection");

    // Neither the own devices nor who is no member hears of it, and nobody types where they are no member.
    let refused = say(&at_carol, room, true).await.unwrap_err();
    assert!(matches!(&refused, RequestError::Refused(refusal) if refusal.code == "not_found"), "{refused:?}");
    say(&at_laptop, room, true).await.unwrap();
    assert_eq!(shape(&next_typing(&mut at_bob).await), begun);
    bob.api.send_message(room, &text("I see you")).await.unwrap();
    let first = next(&mut at_laptop, |body| matches!(body, Body::Entry(_) | Body::Typing(_)).then_some(body)).await;
    assert!(matches!(first, Body::Entry(_)), "{first:?}");
    assert_eq!(next_entry(&mut at_bob).await.conversation_id, room);
}
