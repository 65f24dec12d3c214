//! Moves what clients see of others' presence: judged by the store, told within a budget, and never before anything else.

use std::{cell::RefCell, rc::Rc, time::Duration};

use entrenous_model::UserId;
use entrenous_protocol::{
    Failure,
    rpc::store::{ReadVisible, ReadVisibleRequest},
};
use futures::future::join_all;
use tokio::sync::Notify;

use super::sights::Sights;
use crate::{connection::Connection, worker::Worker};

/// Between two rounds of telling: what changes twice within it is told once.
const ROUND: Duration = Duration::from_millis(100);
const ROUNDS_PER_SECOND: usize = 10;
/// Frames between which others have their turn.
const TURN_FRAMES: usize = 64;
/// Questions to the store that are out at once.
const QUESTIONS_AT_ONCE: usize = 4;
/// Between two tries while the store is away.
const RETRY: Duration = Duration::from_secs(1);
/// How often it is looked whether somebody may be seen by now.
const HIDDEN_INTERVAL: Duration = Duration::from_secs(60);

/// What the connections of one worker watch.
#[derive(Debug, Default)]
pub(crate) struct Watching {
    sights: RefCell<Sights>,
    to_judge: Notify,
    to_tell: Notify,
}

impl Watching {
    /// These users show something else.
    pub(crate) fn note_changed(&self, user_ids: &[UserId]) {
        let mut sights = self.sights.borrow_mut();
        for user_id in user_ids {
            sights.note_changed(*user_id);
        }
        self.to_tell.notify_one();
    }

    /// Something happened to a user that others may see them by, or not any more.
    pub(crate) fn judge_again(&self, user_id: UserId) {
        self.sights.borrow_mut().judge_again(user_id);
        self.to_judge.notify_one();
    }

    /// Such news may have been lost.
    pub(crate) fn judge_all_again(&self) {
        self.sights.borrow_mut().judge_all_again();
        self.to_judge.notify_one();
    }

    /// Whether anybody watches anybody.
    pub(crate) fn is_empty(&self) -> bool {
        self.sights.borrow().is_empty()
    }
}

/// `watch_status`.
///
/// # Errors
/// `too_large` when the connection would watch too many.
pub(crate) fn watch(worker: &Worker, connection: &Connection, user_ids: &[UserId]) -> Result<(), Failure> {
    let Watching { sights, to_judge, to_tell } = &worker.watching;
    let new = sights.borrow_mut().watch(connection.origin, connection.user_id, user_ids)?;
    worker.gateway.presence.watch(&new);
    to_judge.notify_one();
    to_tell.notify_one();
    Ok(())
}

/// `unwatch_status`.
pub(crate) fn unwatch(worker: &Worker, connection: &Connection, user_ids: &[UserId]) {
    let gone = worker.watching.sights.borrow_mut().unwatch(connection.origin, user_ids);
    worker.gateway.presence.unwatch(&gone);
}

/// The connection has ended.
pub(crate) fn leave(worker: &Worker, connection: &Connection) {
    let gone = worker.watching.sights.borrow_mut().leave(connection.origin);
    worker.gateway.presence.unwatch(&gone);
}

/// Judges and tells for as long as the worker runs.
pub(crate) async fn run(worker: Rc<Worker>) {
    actix_web::rt::spawn(judge(Rc::clone(&worker)));
    loop {
        while !worker.watching.sights.borrow().has_due() {
            worker.watching.to_tell.notified().await;
        }
        tell(&worker, budget(&worker)).await;
        tokio::time::sleep(ROUND).await;
    }
}

/// This worker's part of what the gateway may send in one round.
fn budget(worker: &Worker) -> usize {
    let workers = worker.gateway.workers().len().max(1);
    (worker.gateway.config.presence_frames_per_second.get() / (ROUNDS_PER_SECOND * workers)).max(1)
}

async fn tell(worker: &Worker, budget: usize) {
    let is_busy = |origin| worker.fanout.borrow().connection(origin).is_some_and(|one| one.outbox.is_busy());
    let shown = |user_id| worker.gateway.presence.shown(user_id);
    let frames = worker.watching.sights.borrow_mut().take_due(budget, is_busy, shown);
    metrics::counter!("chat_presence_frames_total").increment(u64::try_from(frames.len()).unwrap_or(u64::MAX));
    for turn in frames.chunks(TURN_FRAMES) {
        for (origin, frame) in turn {
            if let Some(connection) = worker.fanout.borrow().connection(*origin) {
                connection.tell(frame.clone());
            }
        }
        tokio::task::yield_now().await;
    }
}

async fn judge(worker: Rc<Worker>) {
    let mut hidden = tokio::time::interval(HIDDEN_INTERVAL);
    loop {
        let questions: Vec<_> = {
            let mut sights = worker.watching.sights.borrow_mut();
            std::iter::from_fn(|| sights.take_question()).take(QUESTIONS_AT_ONCE).collect()
        };
        if questions.is_empty() {
            tokio::select! {
                () = worker.watching.to_judge.notified() => {}
                _ = hidden.tick() => worker.watching.sights.borrow_mut().judge_hidden_again(),
            }
            continue;
        }
        let asked = questions.iter().map(async |question| {
            let request = ReadVisibleRequest { viewer: question.viewer, user_ids: question.user_ids.clone() };
            let answer = worker.gateway.call::<ReadVisible>(&request).await;
            let mut sights = worker.watching.sights.borrow_mut();
            match &answer {
                Ok(may_see) => sights.judge(question, may_see),
                Err(_) => sights.ask_again(question),
            }
            answer.is_ok()
        });
        let are_answered = join_all(asked).await;
        worker.watching.to_tell.notify_one();
        if are_answered.contains(&false) {
            tokio::time::sleep(RETRY).await;
        }
    }
}
