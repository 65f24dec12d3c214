//! People who use REST.

use std::sync::Arc;

use entrenous_checker::What;
use entrenous_client::{Api, ApiError, OutgoingMessage};
use entrenous_model::{ConversationId, UserId};
use entrenous_protocol::Code;
use rand::rngs::StdRng;

use super::{
    between,
    world::{Phase, World},
};
use crate::Person;

/// Somebody who asks for things.
pub(super) struct Caller {
    pub(super) world: Arc<World>,
    person: Person,
    pub(super) user: UserId,
    pub(super) rng: StdRng,
}

impl Caller {
    pub(super) fn new(world: Arc<World>, person: Person, rng: StdRng) -> Self {
        Self { world, user: person.user_id, person, rng }
    }

    /// The calls of any gateway.
    pub(super) fn api(&mut self) -> Api {
        self.person.api.with_base(self.world.any_gateway(&mut self.rng))
    }

    /// Asks again and again until the outcome is known. `attempt` tells what is asked for, `seq` the place in a log that an
    /// answer names.
    ///
    /// # Errors
    /// When it is refused; or not known and everybody goes.
    pub(super) async fn insist<T, F: Future<Output = Result<T, ApiError>>>(
        &mut self,
        attempt: impl Fn(u64) -> What,
        call: impl Fn(Api) -> F,
        seq: impl Fn(&T) -> Option<u64>,
    ) -> Result<T, ApiError> {
        self.world.begin();
        let answer = loop {
            let operation = self.world.next_operation();
            self.world.recorder.record(attempt(operation));
            let answer = call(self.api()).await;
            self.world.recorder.record(match &answer {
                Ok(answer) => What::Done { operation, seq: seq(answer) },
                Err(error) => failure(operation, error),
            });
            let is_known = answer.as_ref().err().is_none_or(|error| !error.is_outcome_unknown());
            if is_known || self.world.is_in(Phase::Done) {
                break answer;
            }
            tokio::time::sleep(between(&mut self.rng, 50..500)).await;
        };
        self.world.end();
        answer
    }

    /// Nothing may be refused but for these reasons, and because people ask too often.
    pub(super) fn expect<T>(&self, action: &str, answer: &Result<T, ApiError>, codes: &[Code]) {
        let Err(error) = answer else { return };
        let is_expected = codes.iter().chain([&Code::RateLimited]).any(|code| error.is(*code));
        if !error.is_outcome_unknown() && !is_expected {
            self.world.complain(format!("{action} was refused: {error}"));
        }
    }

    /// Keeps what became of something of which no check asks more.
    pub(super) fn note<T>(&self, action: &str, conversation: Option<ConversationId>, answer: &Result<T, ApiError>) {
        let outcome = match answer {
            Ok(_) => "done",
            Err(error) if error.is_outcome_unknown() => "unknown",
            Err(error) => error.code().unwrap_or_default(),
        };
        let (action, user, outcome) = (action.to_owned(), self.user, outcome.to_owned());
        self.world.recorder.record(What::Tried { action, user, conversation, outcome });
    }

    /// Sends one message after the other, each again and again until the outcome is known.
    pub(super) async fn send(mut self) {
        while self.world.is_in(Phase::Talking) {
            tokio::time::sleep(between(&mut self.rng, 50..600)).await;
            let Some(conversation) = self.world.any_room(self.user, &mut self.rng) else { continue };
            let message = World::any_message(&mut self.rng);
            self.world.begin_message(conversation, message.id);
            while !self.world.is_in(Phase::Done) && !self.attempt(conversation, &message).await {
                tokio::time::sleep(between(&mut self.rng, 50..500)).await;
            }
            self.world.end();
        }
    }

    /// Whether the outcome is known.
    async fn attempt(&mut self, conversation: ConversationId, message: &OutgoingMessage) -> bool {
        let (operation, user, id) = (self.world.next_operation(), self.user, message.id);
        let api = self.api();
        self.world.recorder.record(What::Sending { operation, connection: None, user, conversation, id });
        match api.send_message(conversation, message).await {
            Ok(entry) => {
                if (entry.id, entry.conversation_id) != (id, conversation) {
                    self.world.complain(format!("{id} was answered with {}", entry.id));
                }
                self.world.recorder.record(What::Acknowledged { operation, seq: entry.seq });
                true
            }
            Err(error) => {
                self.world.recorder.record(failure(operation, &error));
                !error.is_outcome_unknown() && !error.is(Code::RateLimited)
            }
        }
    }
}

/// What a failure says of an attempt.
pub(super) fn failure(operation: u64, error: &ApiError) -> What {
    if error.is_outcome_unknown() {
        let is_answer = matches!(error, ApiError::Refused(_));
        What::Indeterminate { operation, reason: error.to_string(), is_answer }
    } else {
        What::Refused { operation, code: error.code().unwrap_or_default().to_owned() }
    }
}
