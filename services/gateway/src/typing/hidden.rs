//! From whom it is hidden that somebody types: the members of the conversation between whom and the typist there is a block.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ahash::AHashMap;
use entrenous_model::{ConversationId, UserId};
use entrenous_protocol::Failure;
use tokio::{sync::OnceCell, time::Instant};

/// How long what the store said is taken for true. Changes are told by a notice, which may be lost.
const KEPT: Duration = Duration::from_secs(60);
/// Pairs of typist and conversation remembered; above, all are forgotten and asked for anew.
const KNOWN_MAX: usize = 20_000;

/// Somebody in a conversation.
pub(crate) type Place = (UserId, ConversationId);
type Answer = Arc<OnceCell<Arc<[UserId]>>>;

/// What the store said lately.
#[derive(Debug, Default)]
pub(crate) struct HiddenFrom(Mutex<AHashMap<Place, (Instant, Answer)>>);

impl HiddenFrom {
    /// From whom it is hidden; asked where it is not known. Who asks for the same meanwhile waits for that answer, and gets
    /// it later: so the end of typing does not overtake its beginning.
    pub(crate) async fn of<F>(&self, place: Place, ask: impl FnOnce() -> F) -> Result<Arc<[UserId]>, Failure>
    where
        F: Future<Output = Result<Vec<UserId>, Failure>>,
    {
        let answer = self.answer(place, Instant::now());
        let hidden = answer.get_or_try_init(async || Ok(Arc::from(ask().await?))).await?;
        Ok(Arc::clone(hidden))
    }

    /// Everything is asked anew. An answer that is still under way serves only those who wait for it.
    pub(crate) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn answer(&self, place: Place, now: Instant) -> Answer {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((until, answer)) = known.get(&place)
            && now < *until
        {
            return Arc::clone(answer);
        }
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        let answer = Answer::default();
        known.insert(place, (now + KEPT, Arc::clone(&answer)));
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use uuid::Uuid;

    use super::*;

    fn place() -> Place {
        (Uuid::from_u128(1).into(), Uuid::from_u128(2).into())
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_kept_for_a_while_and_forgotten_when_something_changed() {
        let (hidden, asked) = (HiddenFrom::default(), Cell::new(0));
        let other: UserId = Uuid::from_u128(3).into();
        let ask = || {
            asked.set(asked.get() + 1);
            std::future::ready(Ok(vec![other]))
        };
        for _ in 0..3 {
            assert_eq!(hidden.of(place(), ask).await.unwrap().as_ref(), [other]);
        }
        assert_eq!(asked.get(), 1);
        tokio::time::advance(KEPT).await;
        hidden.of(place(), ask).await.unwrap();
        assert_eq!(asked.get(), 2);
        hidden.forget();
        hidden.of(place(), ask).await.unwrap();
        assert_eq!(asked.get(), 3);
    }

    #[tokio::test]
    async fn what_was_asked_before_a_change_is_not_kept_after_it() {
        let (hidden, other) = (HiddenFrom::default(), Uuid::from_u128(3).into());
        let early = async || {
            hidden.forget();
            Ok(Vec::new())
        };
        assert_eq!(hidden.of(place(), early).await.unwrap().as_ref(), []);
        assert_eq!(hidden.of(place(), async || Ok(vec![other])).await.unwrap().as_ref(), [other]);
    }

    #[tokio::test]
    async fn a_failure_is_not_kept() {
        let hidden = HiddenFrom::default();
        assert!(hidden.of(place(), async || Err(Failure::unavailable("away"))).await.is_err());
        assert!(hidden.of(place(), async || Ok(Vec::new())).await.is_ok());
    }
}
