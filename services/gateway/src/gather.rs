//! Gathers the questions of many connections into few requests: while one is out, the next one fills. A question alone
//! leaves at once; ten thousand clients that come back together cost some dozen requests.

use std::{collections::VecDeque, future::Future, sync::Arc};

use entrenous_protocol::Failure;
use entrenous_runtime::{Shutdown, Tasks};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::{mpsc, oneshot};

/// Requests of one kind that may be out at once.
const AT_ONCE: usize = 2;
/// Questions that wait; above it they are answered `unavailable`.
const QUEUE_MAX: usize = 65_536;

type Answers<A> = Result<Vec<A>, Failure>;
type Ask<Q, A> = dyn Fn(Vec<Q>) -> BoxFuture<'static, Answers<A>> + Send + Sync;

struct Waiting<Q, A> {
    question: Q,
    reply: oneshot::Sender<Result<A, Failure>>,
}

/// Takes questions of one kind. Cheap to clone.
#[derive(Debug)]
pub(crate) struct Gather<Q, A> {
    queue: mpsc::Sender<Waiting<Q, A>>,
}

impl<Q, A> std::fmt::Debug for Waiting<Q, A> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Waiting")
    }
}

impl<Q: Copy + Send + 'static, A: Send + 'static> Gather<Q, A> {
    /// Starts gathering. `ask` gets at most `max` questions and answers the first ones of them, in their order, one at
    /// least; the others are asked again.
    pub(crate) fn start<F>(
        tasks: &Tasks,
        shutdown: &Shutdown,
        max: usize,
        ask: impl Fn(Vec<Q>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Answers<A>> + Send + 'static,
    {
        let (queue, inbox) = mpsc::channel(QUEUE_MAX);
        let ask: Arc<Ask<Q, A>> = Arc::new(move |questions| ask(questions).boxed());
        tasks.spawn(run(inbox, shutdown.clone(), max, ask));
        Self { queue }
    }

    /// Asks.
    ///
    /// # Errors
    /// That of the request which carried the question, or `unavailable` when too many wait.
    pub(crate) async fn ask(&self, question: Q) -> Result<A, Failure> {
        let (reply, answer) = oneshot::channel();
        let overload = || Failure::unavailable("too many connections at once");
        self.queue.try_send(Waiting { question, reply }).map_err(|_full| overload())?;
        answer.await.unwrap_or_else(|_| Err(overload()))
    }
}

async fn run<Q: Copy + Send + 'static, A: Send + 'static>(
    mut inbox: mpsc::Receiver<Waiting<Q, A>>,
    shutdown: Shutdown,
    max: usize,
    ask: Arc<Ask<Q, A>>,
) {
    let mut waiting: VecDeque<Waiting<Q, A>> = VecDeque::new();
    let mut taken = Vec::new();
    let mut out = FuturesUnordered::new();
    loop {
        while out.len() < AT_ONCE && !waiting.is_empty() {
            // Who has given up meanwhile is not asked for.
            waiting.retain(|one| !one.reply.is_closed());
            let batch: Vec<_> = waiting.drain(..waiting.len().min(max)).collect();
            let ask = Arc::clone(&ask);
            out.push(async move {
                let answers = ask(batch.iter().map(|one| one.question).collect()).await;
                (batch, answers)
            });
        }
        tokio::select! {
            count = inbox.recv_many(&mut taken, QUEUE_MAX), if waiting.len() < QUEUE_MAX => {
                if count == 0 {
                    return;
                }
                waiting.extend(taken.drain(..));
            }
            Some((batch, answers)) = out.next() => {
                for unanswered in reply(batch, answers).into_iter().rev() {
                    waiting.push_front(unanswered);
                }
            }
            () = shutdown.triggered() => return,
        }
    }
}

/// Gives those that were not answered.
fn reply<Q, A>(batch: Vec<Waiting<Q, A>>, answers: Answers<A>) -> Vec<Waiting<Q, A>> {
    match answers {
        Ok(answers) if !answers.is_empty() => {
            let mut answers = answers.into_iter();
            batch
                .into_iter()
                .filter_map(|one| match answers.next() {
                    Some(answer) => {
                        // Who has gone needs no answer.
                        let _ = one.reply.send(Ok(answer));
                        None
                    }
                    None => Some(one),
                })
                .collect()
        }
        failed => {
            let failure = failed.err().unwrap_or_else(Failure::internal);
            for one in batch {
                let _ = one.reply.send(Err(failure.clone()));
            }
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use futures::future::join_all;

    use super::*;

    /// Answers `question * 2` for the first half of what it is asked, and notes how much that was.
    fn halves(sizes: &Arc<Mutex<Vec<usize>>>) -> impl Fn(Vec<u32>) -> BoxFuture<'static, Answers<u32>> + use<> {
        let sizes = Arc::clone(sizes);
        move |questions| {
            sizes.lock().unwrap_or_else(PoisonError::into_inner).push(questions.len());
            async move {
                tokio::task::yield_now().await;
                Ok(questions.iter().take(questions.len().div_ceil(2)).map(|question| question * 2).collect())
            }
            .boxed()
        }
    }

    #[tokio::test]
    async fn everyone_gets_their_own_answer_by_few_requests() {
        let sizes = Arc::default();
        let (tasks, stop) = (Tasks::new(), Shutdown::new());
        let gather = Gather::start(&tasks, &stop, 64, halves(&sizes));
        let answers = join_all((0..1_000).map(|question| gather.ask(question))).await;
        let answers: Vec<u32> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, (0..1_000).map(|question| question * 2).collect::<Vec<_>>());
        let sizes = sizes.lock().unwrap();
        assert!(sizes.len() < 100 && sizes.iter().all(|size| *size <= 64), "{sizes:?}");
    }

    #[tokio::test]
    async fn a_failure_is_everyones_of_that_request() {
        let (tasks, stop) = (Tasks::new(), Shutdown::new());
        let gather: Gather<u32, u32> =
            Gather::start(&tasks, &stop, 64, |_| async { Err(Failure::unavailable("away")) });
        let answers = join_all((0..10).map(|question| gather.ask(question))).await;
        assert!(answers.into_iter().all(|answer| answer.is_err()));
    }
}
