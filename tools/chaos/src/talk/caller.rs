//! People who use REST.

use std::sync::Arc;

use entrenous_checker::What;
use entrenous_client::{ApiError, OutgoingMessage};
use entrenous_model::{ConversationId, IdGenerator, UserId};
use entrenous_protocol::{Act, Code, act::Reaction, entry::ConversationKind, rest::MarkRead};
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

use super::{
    between, new_conversation,
    world::{Phase, World},
};
use crate::Person;

/// Conversations that are begun.
const ROOMS_MAX: usize = 40;

/// Sends one message after the other, each again and again until the outcome is known.
pub(super) async fn send(world: Arc<World>, person: Person, mut rng: StdRng) {
    while world.is_in(Phase::Talking) {
        tokio::time::sleep(between(&mut rng, 50..600)).await;
        let Some(conversation) = world.any_room(person.user_id, &mut rng) else { continue };
        let message = World::any_message(&mut rng);
        world.begin_message(conversation, message.id);
        while !world.is_in(Phase::Done) && !attempt(&world, &person, conversation, &message, &mut rng).await {
            tokio::time::sleep(between(&mut rng, 50..500)).await;
        }
        world.end_message();
    }
}

/// Whether the outcome is known.
async fn attempt(
    world: &World,
    person: &Person,
    conversation: ConversationId,
    message: &OutgoingMessage,
    rng: &mut StdRng,
) -> bool {
    let (operation, user, id) = (world.next_operation(), person.user_id, message.id);
    let api = person.api.with_base(world.any_gateway(rng));
    world.recorder.record(What::Sending { operation, connection: None, user, conversation, id });
    match api.send_message(conversation, message).await {
        Ok(entry) => {
            if (entry.id, entry.conversation_id) != (id, conversation) {
                world.complain(format!("{id} was answered with {}", entry.id));
            }
            world.recorder.record(What::Acknowledged { operation, seq: entry.seq });
            true
        }
        Err(error) if error.is_outcome_unknown() => {
            let is_answer = matches!(error, ApiError::Refused(_));
            world.recorder.record(What::Indeterminate { operation, reason: error.to_string(), is_answer });
            false
        }
        Err(error) => {
            world.recorder.record(What::Refused { operation, code: error.code().unwrap_or_default().to_owned() });
            !error.is(Code::RateLimited)
        }
    }
}

/// Everything else that people do by REST now and then: read, begin conversations, add, remove, leave.
pub(super) async fn administer(world: Arc<World>, person: Person, mut rng: StdRng) {
    while world.is_in(Phase::Talking) {
        tokio::time::sleep(between(&mut rng, 200..1_200)).await;
        let person = Person { api: person.api.with_base(world.any_gateway(&mut rng)), ..person.clone() };
        match rng.random_range(0..20) {
            0..7 => read(&world, &person, &mut rng).await,
            7..10 => mark(&world, &person, &mut rng).await,
            10..18 => change_members(&world, &person, &mut rng).await,
            18 => leave(&world, &person, &mut rng).await,
            _ => begin(&world, &person, &mut rng).await,
        }
    }
}

async fn read(world: &World, person: &Person, rng: &mut StdRng) {
    let user = person.user_id;
    let Some(conversation) = world.any_room(user, rng) else { return };
    let head = world.seen(conversation);
    let seq = head.saturating_sub(rng.random_range(0..10));
    world.recorder.record(What::Reading { user, conversation, seq });
    let read = MarkRead { conversation_id: conversation, seq: Some(seq), message_ids: None };
    let answer = person.api.mark_read(&read).await;
    if answer.is_ok() {
        world.recorder.record(What::HasRead { user, conversation, seq });
    }
    note(world, "read by REST", user, Some(conversation), answer);
}

/// Reacts to something, pins it, or takes either back.
async fn mark(world: &World, person: &Person, rng: &mut StdRng) {
    let user = person.user_id;
    let Some(conversation) = world.any_room(user, rng) else { return };
    let Some(message_id) = world.any_known(conversation, rng) else { return };
    let reaction = || Reaction { message_id, reaction: "👍".to_owned() };
    let act = match rng.random_range(0..4) {
        0 => Act::React(reaction()),
        1 => Act::Unreact(reaction()),
        2 => Act::Pin { message_id },
        _ => Act::Unpin { message_id },
    };
    let answer = person.api.act(conversation, IdGenerator.next(), &act).await;
    // Deleted meanwhile; or not everybody pins; or a hundred are.
    let is_expected =
        |error: &ApiError| [Code::Conflict, Code::Forbidden, Code::TooLarge].iter().any(|code| error.is(*code));
    let answer = answer.or_else(|error| if is_expected(&error) { Ok(()) } else { Err(error) });
    note(world, "mark", user, Some(conversation), answer);
}

/// An owner adds or removes somebody.
async fn change_members(world: &World, person: &Person, rng: &mut StdRng) {
    let groups: Vec<_> = world.rooms().into_iter().filter(|room| room.is_owned_by(person.user_id)).collect();
    let others: Vec<UserId> = world.people.iter().map(|other| other.user_id).collect();
    let (Some(group), Some(user)) = (groups.choose(rng), others.choose(rng).copied()) else { return };
    if user == person.user_id {
        return;
    }
    if rng.random_bool(0.6) {
        world.invite(group.id, user);
        let answer = person.api.add_member(group.id, user, None).await;
        note(world, "add", user, Some(group.id), answer.map(drop));
    } else {
        let answer = person.api.remove_member(group.id, user).await;
        note(world, "remove", user, Some(group.id), answer);
    }
}

/// Leaves a group that somebody else owns.
async fn leave(world: &World, person: &Person, rng: &mut StdRng) {
    let user = person.user_id;
    let rooms = world.rooms();
    let groups: Vec<_> = rooms.iter().filter(|room| room.is_group() && !room.is_owned_by(user)).collect();
    let Some(group) = groups.choose(rng) else { return };
    let answer = person.api.remove_member(group.id, user).await;
    note(world, "leave", user, Some(group.id), answer);
}

async fn begin(world: &World, person: &Person, rng: &mut StdRng) {
    if world.rooms().len() >= ROOMS_MAX {
        return;
    }
    let mut members: Vec<UserId> = world.people.iter().map(|other| other.user_id).collect();
    members.retain(|other| *other != person.user_id && rng.random_bool(0.6));
    members.insert(0, person.user_id);
    let kind = match members.len() {
        1 => return,
        2 => ConversationKind::Direct,
        _ => ConversationKind::Group,
    };
    let answer = person.api.create_conversation(&new_conversation(kind, &members)).await;
    let id = answer.as_ref().ok().map(|conversation| conversation.id);
    if let Some(id) = id {
        world.add_room(id, kind, members);
    }
    note(world, "begin", person.user_id, id, answer.map(drop));
}

/// What is so already, or is not for those who are no members, is refused; nothing else may be.
fn note(world: &World, action: &str, user: UserId, conversation: Option<ConversationId>, answer: Result<(), ApiError>) {
    let outcome = match answer {
        Ok(()) => "done".to_owned(),
        Err(error) if error.is_outcome_unknown() => "unknown".to_owned(),
        Err(error) => {
            if !error.is(Code::NotFound) && !error.is(Code::RateLimited) {
                world.complain(format!("{action} was refused: {error}"));
            }
            error.code().unwrap_or_default().to_owned()
        }
    };
    world.recorder.record(What::Tried { action: action.to_owned(), user, conversation, outcome });
}
