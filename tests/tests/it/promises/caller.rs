//! People who use REST.

use std::sync::Arc;

use entrenous_checker::What;
use entrenous_client::{ApiError, OutgoingMessage};
use entrenous_model::{ConversationId, UserId};
use entrenous_protocol::Code;
use entrenous_system_tests::Person;
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

use super::{
    between,
    world::{Phase, World},
};

/// Sends one message after the other, each again and again until the outcome is known.
pub(super) async fn send(world: Arc<World>, person: Person, mut rng: StdRng) {
    while world.is_in(Phase::Talking) {
        tokio::time::sleep(between(&mut rng, 50..600)).await;
        let conversation = world.any_room(person.user_id, &mut rng);
        let message = World::any_message(&mut rng);
        world.begin_message();
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
            assert_eq!((entry.id, entry.conversation_id), (id, conversation));
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

/// The owner of the second group adds and removes these people.
pub(super) async fn change_members(world: Arc<World>, people: Vec<UserId>, mut rng: StdRng) {
    let (Some(owner), Some(group)) = (world.people.first(), world.rooms().get(1)) else { return };
    while world.is_in(Phase::Talking) {
        tokio::time::sleep(between(&mut rng, 200..1_500)).await;
        let Some(user) = people.choose(&mut rng).copied() else { return };
        let api = owner.api.with_base(world.any_gateway(&mut rng));
        let changed = if rng.random_bool(0.5) {
            api.add_member(group.id, user, None).await.map(drop)
        } else {
            api.remove_member(group.id, user).await
        };
        match changed {
            Ok(()) => {}
            // Twice what is already so, or nobody knows: the log tells what became of it.
            Err(error) if error.is_outcome_unknown() || error.is(Code::NotFound) => {}
            Err(error) => panic!("a change of members was refused: {error}"),
        }
    }
}
