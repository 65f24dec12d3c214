//! Which connections of a worker watch whom, who may see whom, and what each has been told. Pure: the caller asks the store
//! and sends the frames.

use std::collections::{HashMap, HashSet, VecDeque};

use bytestring::ByteString;
use entrenous_model::UserId;
use entrenous_protocol::{
    Failure, frame,
    message::too_large,
    status::{UserStatus, WATCHED_MAX},
};

use super::book::Shown;

/// Stands for the status of whom nothing may be seen.
const HIDDEN: u64 = 0;

/// Who watches whom. Memory: about 200 bytes for a user whom a connection watches.
#[derive(Debug, Default)]
pub(crate) struct Sights {
    watchers: HashMap<u64, Watcher>,
    /// The connections that watch a user.
    by_user: HashMap<UserId, HashSet<u64>>,
    /// The connections of a user that watch.
    by_viewer: HashMap<UserId, HashSet<u64>>,
    /// Connections that may have to be told of somebody; they take turns.
    due: VecDeque<u64>,
    /// Connections some of whose pairs are to be judged.
    unjudged: VecDeque<u64>,
}

#[derive(Debug)]
struct Watcher {
    viewer: UserId,
    sights: HashMap<UserId, Sight>,
    /// Of these the connection may have to be told.
    due: HashSet<UserId>,
    /// Whether it waits in the queue of that name. It stays until the connection ends, so that it never waits twice.
    is_due: bool,
    is_unjudged: bool,
}

#[derive(Debug, Default)]
struct Sight {
    /// What the store said last.
    may_see: Option<bool>,
    is_unjudged: bool,
    /// The revision that the connection was told.
    told: Option<u64>,
}

/// What the store is to be asked for one connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) origin: u64,
    pub(crate) viewer: UserId,
    pub(crate) user_ids: Vec<UserId>,
}

impl Watcher {
    fn new(viewer: UserId) -> Self {
        Self { viewer, sights: HashMap::new(), due: HashSet::new(), is_due: false, is_unjudged: false }
    }

    /// What this connection is to be told of one that is due; nothing where it knows, or nobody knows yet.
    fn tell(&mut self, user_id: UserId, shown: &impl Fn(UserId) -> Option<Shown>) -> Option<ByteString> {
        let sight = self.sights.get_mut(&user_id)?;
        let Shown { revision, frame } = if sight.may_see? { shown(user_id)? } else { hidden(user_id) };
        (sight.told.replace(revision) != Some(revision)).then_some(frame)
    }
}

impl Sights {
    /// A connection watches these; gives those that it did not watch before.
    ///
    /// # Errors
    /// `too_large` when it would watch more than [`WATCHED_MAX`]; then it watches none of them.
    pub(crate) fn watch(&mut self, origin: u64, viewer: UserId, user_ids: &[UserId]) -> Result<Vec<UserId>, Failure> {
        let known = self.watchers.get(&origin).map(|watcher| &watcher.sights);
        let is_known = |user_id: &UserId| known.is_some_and(|known| known.contains_key(user_id));
        let (again, new): (HashSet<UserId>, HashSet<UserId>) = user_ids.iter().copied().partition(is_known);
        if known.map_or(0, HashMap::len) + new.len() > WATCHED_MAX {
            return Err(too_large("watched_users", WATCHED_MAX));
        }
        if !new.is_empty() {
            let watcher = self.watchers.entry(origin);
            let watcher = watcher.or_insert_with(|| Watcher::new(viewer));
            self.by_viewer.entry(viewer).or_default().insert(origin);
            for user_id in &new {
                watcher.sights.insert(*user_id, Sight { is_unjudged: true, ..Sight::default() });
                self.by_user.entry(*user_id).or_default().insert(origin);
            }
            self.queue_judgement(origin);
        }
        // Who asks anew is told anew.
        for user_id in again {
            if let Some(sight) = self.sight(origin, user_id) {
                sight.told = None;
            }
            self.note_due(origin, user_id);
        }
        Ok(new.into_iter().collect())
    }

    /// A connection watches these no longer; gives those that it did.
    pub(crate) fn unwatch(&mut self, origin: u64, user_ids: &[UserId]) -> Vec<UserId> {
        let Some(watcher) = self.watchers.get_mut(&origin) else { return Vec::new() };
        let is_gone = |user_id: &&UserId| watcher.sights.remove(user_id).is_some();
        let gone: Vec<UserId> = user_ids.iter().filter(is_gone).copied().collect();
        watcher.due.retain(|user_id| watcher.sights.contains_key(user_id));
        self.look_away(origin, &gone);
        gone
    }

    /// A connection has ended; gives whom it watched.
    pub(crate) fn leave(&mut self, origin: u64) -> Vec<UserId> {
        let Some(watcher) = self.watchers.remove(&origin) else { return Vec::new() };
        remove(&mut self.by_viewer, watcher.viewer, origin);
        let gone: Vec<UserId> = watcher.sights.into_keys().collect();
        self.look_away(origin, &gone);
        gone
    }

    fn look_away(&mut self, origin: u64, user_ids: &[UserId]) {
        for user_id in user_ids {
            remove(&mut self.by_user, *user_id, origin);
        }
    }

    /// Whether anybody watches anybody.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_user.is_empty()
    }

    /// A user shows something else.
    pub(crate) fn note_changed(&mut self, user_id: UserId) {
        for origin in origins(&self.by_user, user_id) {
            self.note_due(origin, user_id);
        }
    }

    /// Who may see this user, and whom this user may see, is to be judged again. What was judged counts until then.
    pub(crate) fn judge_again(&mut self, user_id: UserId) {
        for origin in origins(&self.by_user, user_id) {
            if let Some(sight) = self.sight(origin, user_id) {
                sight.is_unjudged = true;
            }
            self.queue_judgement(origin);
        }
        self.judge_where(&origins(&self.by_viewer, user_id), |_| true);
    }

    /// Everything is to be judged again: news may have been lost.
    pub(crate) fn judge_all_again(&mut self) {
        let all: Vec<u64> = self.watchers.keys().copied().collect();
        self.judge_where(&all, |_| true);
    }

    /// What may not be seen is to be judged again: nobody tells when two have become contacts.
    pub(crate) fn judge_hidden_again(&mut self) {
        let all: Vec<u64> = self.watchers.keys().copied().collect();
        self.judge_where(&all, |sight| sight.may_see == Some(false));
    }

    fn judge_where(&mut self, origins: &[u64], is_wanted: impl Fn(&Sight) -> bool) {
        for origin in origins {
            let Some(watcher) = self.watchers.get_mut(origin) else { continue };
            let mut wanted = watcher.sights.values_mut().filter(|sight| is_wanted(sight)).peekable();
            if wanted.peek().is_none() {
                continue;
            }
            wanted.for_each(|sight| sight.is_unjudged = true);
            self.queue_judgement(*origin);
        }
    }

    fn queue_judgement(&mut self, origin: u64) {
        if let Some(watcher) = self.watchers.get_mut(&origin)
            && !watcher.is_unjudged
        {
            watcher.is_unjudged = true;
            self.unjudged.push_back(origin);
        }
    }

    /// What the store is to be asked next.
    pub(crate) fn take_question(&mut self) -> Option<Question> {
        loop {
            let origin = self.unjudged.pop_front()?;
            let Some(watcher) = self.watchers.get_mut(&origin) else { continue };
            watcher.is_unjudged = false;
            let unjudged = watcher.sights.iter_mut().filter(|(_, sight)| sight.is_unjudged);
            let user_ids: Vec<UserId> = unjudged
                .map(|(user_id, sight)| {
                    sight.is_unjudged = false;
                    *user_id
                })
                .collect();
            if !user_ids.is_empty() {
                return Some(Question { origin, viewer: watcher.viewer, user_ids });
            }
        }
    }

    /// The store did not answer: it is asked again.
    pub(crate) fn ask_again(&mut self, question: &Question) {
        for user_id in &question.user_ids {
            if let Some(sight) = self.sight(question.origin, *user_id) {
                sight.is_unjudged = true;
            }
        }
        self.queue_judgement(question.origin);
    }

    /// The store's answer, in the order of the question.
    pub(crate) fn judge(&mut self, question: &Question, may_see: &[bool]) {
        for (user_id, may_see) in question.user_ids.iter().zip(may_see) {
            if let Some(sight) = self.sight(question.origin, *user_id) {
                sight.may_see = Some(*may_see);
            }
            self.note_due(question.origin, *user_id);
        }
    }

    fn note_due(&mut self, origin: u64, user_id: UserId) {
        let Some(watcher) = self.watchers.get_mut(&origin) else { return };
        if watcher.sights.contains_key(&user_id) {
            watcher.due.insert(user_id);
            if !std::mem::replace(&mut watcher.is_due, true) {
                self.due.push_back(origin);
            }
        }
    }

    fn sight(&mut self, origin: u64, user_id: UserId) -> Option<&mut Sight> {
        self.watchers.get_mut(&origin)?.sights.get_mut(&user_id)
    }

    /// Whether anything may be due.
    pub(crate) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// What is to be sent now, at most `max` frames. A connection that is busy is told later; a user of whom presence has
    /// not said anything yet is told of when it does.
    pub(crate) fn take_due(
        &mut self,
        max: usize,
        is_busy: impl Fn(u64) -> bool,
        shown: impl Fn(UserId) -> Option<Shown>,
    ) -> Vec<(u64, ByteString)> {
        let mut frames = Vec::new();
        for _ in 0..self.due.len() {
            if frames.len() >= max {
                break;
            }
            let Some(origin) = self.due.pop_front() else { break };
            let Some(watcher) = self.watchers.get_mut(&origin) else { continue };
            if is_busy(origin) {
                self.due.push_back(origin);
                continue;
            }
            let next: Vec<UserId> = watcher.due.iter().take(max - frames.len()).copied().collect();
            for user_id in next {
                watcher.due.remove(&user_id);
                frames.extend(watcher.tell(user_id, &shown).map(|frame| (origin, frame)));
            }
            watcher.is_due = !watcher.due.is_empty();
            if watcher.is_due {
                self.due.push_back(origin);
            }
        }
        frames
    }
}

fn origins(by_user: &HashMap<UserId, HashSet<u64>>, user_id: UserId) -> Vec<u64> {
    by_user.get(&user_id).into_iter().flatten().copied().collect()
}

fn remove(by_user: &mut HashMap<UserId, HashSet<u64>>, user_id: UserId, origin: u64) {
    if let Some(origins) = by_user.get_mut(&user_id) {
        origins.remove(&origin);
        if origins.is_empty() {
            by_user.remove(&user_id);
        }
    }
}

fn hidden(user_id: UserId) -> Shown {
    Shown { revision: HIDDEN, frame: frame::status_update(&UserStatus::hidden(user_id)).into() }
}

#[cfg(test)]
mod tests;
