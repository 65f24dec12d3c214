//! Which gateway wants to hear of which user, and what it still has to be told.

use std::time::Duration;

use ahash::{HashMap, HashMapExt, HashSet};
use entrenous_model::UserId;
use uuid::Uuid;

use super::Watching;

/// Who watches whom. Memory: about 120 bytes for a user whom one gateway watches.
#[derive(Debug)]
pub struct Watchers {
    gateways: HashMap<Uuid, Watcher>,
    /// Who watches a user: mostly one or two.
    by_user: HashMap<UserId, Vec<Uuid>>,
    watched_max: usize,
}

#[derive(Debug, Default)]
struct Watcher {
    users: HashSet<UserId>,
    /// Of these the gateway has not been told since they may have changed.
    untold: HashSet<UserId>,
    /// Of the last report to it.
    number: u64,
    told_at: Duration,
}

/// A report that is due to a gateway.
#[derive(Debug, PartialEq, Eq)]
pub struct DueReport {
    /// To whom.
    pub gateway_id: Uuid,
    /// Its number.
    pub number: u64,
    /// Whose status it tells; empty for a sign of life.
    pub user_ids: Vec<UserId>,
}

impl Watchers {
    /// Nobody watches. A gateway may watch so many users.
    pub fn new(watched_max: usize) -> Self {
        Self { gateways: HashMap::new(), by_user: HashMap::new(), watched_max }
    }

    /// A gateway said what it watches. Gives how many users found no place.
    pub fn watch(&mut self, gateway_id: Uuid, watching: Watching) -> usize {
        let (more, fewer) = match watching {
            Watching::Same => (Vec::new(), Vec::new()),
            Watching::Changed { watched, unwatched } => (watched, unwatched),
            Watching::Exactly(users) => {
                let known = self.gateways.get(&gateway_id).map(|watcher| &watcher.users);
                let fewer = known.into_iter().flatten().filter(|user_id| !users.contains(user_id)).copied();
                (users.iter().copied().collect(), fewer.collect())
            }
        };
        self.unwatch(gateway_id, &fewer);
        let watcher = self.gateways.entry(gateway_id).or_default();
        let mut left_out = 0;
        for user_id in more {
            if !watcher.users.contains(&user_id) {
                if watcher.users.len() >= self.watched_max {
                    left_out += 1;
                    continue;
                }
                watcher.users.insert(user_id);
                self.by_user.entry(user_id).or_default().push(gateway_id);
            }
            // Also where it was watched before: who asks anew may have missed something.
            watcher.untold.insert(user_id);
        }
        left_out
    }

    fn unwatch(&mut self, gateway_id: Uuid, user_ids: &[UserId]) {
        let Some(watcher) = self.gateways.get_mut(&gateway_id) else { return };
        for user_id in user_ids.iter().filter(|user_id| watcher.users.remove(user_id)) {
            watcher.untold.remove(user_id);
            forget(&mut self.by_user, *user_id, gateway_id);
        }
    }

    /// A gateway is gone.
    pub fn end(&mut self, gateway_id: Uuid) {
        let Some(watcher) = self.gateways.remove(&gateway_id) else { return };
        for user_id in watcher.users {
            forget(&mut self.by_user, user_id, gateway_id);
        }
    }

    /// Users who may show something else: whoever watches them is to be told.
    pub fn mark(&mut self, user_ids: &[UserId]) {
        for user_id in user_ids {
            for gateway_id in self.by_user.get(user_id).into_iter().flatten() {
                if let Some(watcher) = self.gateways.get_mut(gateway_id) {
                    watcher.untold.insert(*user_id);
                }
            }
        }
    }

    /// One gateway is to be told of these again, as far as it still watches them.
    pub fn mark_for(&mut self, gateway_id: Uuid, user_ids: &[UserId]) {
        if let Some(watcher) = self.gateways.get_mut(&gateway_id) {
            watcher.untold.extend(user_ids.iter().filter(|user_id| watcher.users.contains(user_id)));
        }
    }

    /// Everybody is to be told everything again.
    pub fn mark_all(&mut self) {
        for watcher in self.gateways.values_mut() {
            watcher.untold.clone_from(&watcher.users);
        }
    }

    /// What is to be told now: to each gateway at most `users_max` users of those whom `is_ours`, and a sign of life after
    /// `silence_max`. The users whom others tell are forgotten.
    pub fn take_due(
        &mut self,
        now: Duration,
        silence_max: Duration,
        users_max: usize,
        is_ours: impl Fn(UserId) -> bool,
    ) -> Vec<DueReport> {
        let mut due = Vec::new();
        for (gateway_id, watcher) in &mut self.gateways {
            let mut user_ids = Vec::new();
            watcher.untold.retain(|user_id| {
                let is_kept = user_ids.len() >= users_max;
                if !is_kept && is_ours(*user_id) {
                    user_ids.push(*user_id);
                }
                is_kept
            });
            if user_ids.is_empty() && now.saturating_sub(watcher.told_at) < silence_max {
                continue;
            }
            watcher.number += 1;
            watcher.told_at = now;
            due.push(DueReport { gateway_id: *gateway_id, number: watcher.number, user_ids });
        }
        due
    }

    /// Pairs of gateway and watched user.
    pub fn len(&self) -> usize {
        self.by_user.values().map(Vec::len).sum()
    }

    /// Whether nobody is watched.
    pub fn is_empty(&self) -> bool {
        self.by_user.is_empty()
    }
}

fn forget(by_user: &mut HashMap<UserId, Vec<Uuid>>, user_id: UserId, gateway_id: Uuid) {
    if let Some(gateways) = by_user.get_mut(&user_id) {
        gateways.retain(|known| *known != gateway_id);
        if gateways.is_empty() {
            by_user.remove(&user_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_secs(5);

    fn user(number: u128) -> UserId {
        Uuid::from_u128(number).into()
    }

    fn gateway(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn watched(users: &[u128]) -> Watching {
        Watching::Changed { watched: users.iter().map(|number| user(*number)).collect(), unwatched: Vec::new() }
    }

    fn told(watchers: &mut Watchers, seconds: u64) -> Vec<(Uuid, u64, Vec<UserId>)> {
        let mut due = watchers.take_due(Duration::from_secs(seconds), SILENCE, 10, |_| true);
        due.sort_unstable_by_key(|report| report.gateway_id);
        let sorted = |mut report: DueReport| {
            report.user_ids.sort_unstable();
            (report.gateway_id, report.number, report.user_ids)
        };
        due.into_iter().map(sorted).collect()
    }

    #[test]
    fn whoever_watches_is_told_at_first_and_of_each_change() {
        let mut watchers = Watchers::new(10);
        watchers.watch(gateway(1), watched(&[7, 8]));
        watchers.watch(gateway(2), watched(&[8]));
        assert_eq!(told(&mut watchers, 10), [(gateway(1), 1, vec![user(7), user(8)]), (gateway(2), 1, vec![user(8)])]);
        watchers.mark(&[user(7), user(9)]);
        assert_eq!(told(&mut watchers, 11), [(gateway(1), 2, vec![user(7)])]);
        watchers.end(gateway(1));
        watchers.mark(&[user(7), user(8)]);
        assert_eq!(told(&mut watchers, 12), [(gateway(2), 2, vec![user(8)])]);
        assert_eq!(watchers.len(), 1);
    }

    #[test]
    fn a_list_says_it_all_again_and_ends_what_it_does_not_name() {
        let mut watchers = Watchers::new(10);
        watchers.watch(gateway(1), watched(&[7, 8]));
        told(&mut watchers, 10);
        watchers.watch(gateway(1), Watching::Exactly([user(8), user(9)].into_iter().collect()));
        assert_eq!(told(&mut watchers, 11), [(gateway(1), 2, vec![user(8), user(9)])]);
        watchers.mark(&[user(7)]);
        assert_eq!(told(&mut watchers, 12), []);
    }

    #[test]
    fn a_gateway_hears_something_every_few_seconds() {
        let mut watchers = Watchers::new(10);
        watchers.watch(gateway(1), Watching::Same);
        assert_eq!(told(&mut watchers, 4), []);
        assert_eq!(told(&mut watchers, 5), [(gateway(1), 1, vec![])]);
        assert_eq!(told(&mut watchers, 9), []);
        assert_eq!(told(&mut watchers, 10), [(gateway(1), 2, vec![])]);
    }

    #[test]
    fn reports_are_bounded_and_users_of_others_are_left_to_them() {
        let mut watchers = Watchers::new(3);
        assert_eq!(watchers.watch(gateway(1), watched(&[1, 2, 3, 4])), 1);
        let of_ours = |user_id: UserId| user_id != user(1);
        let mut all: Vec<UserId> = Vec::new();
        for _ in 0..3 {
            for report in watchers.take_due(SILENCE, SILENCE, 1, of_ours) {
                assert!(report.user_ids.len() <= 1);
                all.extend(report.user_ids);
            }
        }
        all.sort_unstable();
        assert_eq!(all, [user(2), user(3)]);
    }
}
