//! This gateway's connections and the users that they watch, as presence is told of them; and what presence tells.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytestring::ByteString;
use entrenous_model::{ConnectionId, UserId};
use entrenous_protocol::{
    frame,
    rpc::presence::{DEPARTED_KEPT_SECONDS, GatewayReport, ListPart, REPORT_ITEMS_MAX, StatusReport},
    status::UserStatus,
};
use tokio::{sync::Notify, time::Instant};
use uuid::Uuid;

const DEPARTED_KEPT: Duration = Duration::from_secs(DEPARTED_KEPT_SECONDS);
/// Replicas whose numbers are followed; above it all are forgotten, and everything is told again.
const REPLICAS_MAX: usize = 1_000;

/// Shared by all workers.
#[derive(Debug, Default)]
pub struct PresenceBook {
    book: Mutex<Book>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Book {
    connections: HashSet<(UserId, ConnectionId)>,
    counts: HashMap<UserId, usize>,
    /// Users whose last connection ended here, oldest first.
    departed: VecDeque<(Instant, UserId)>,
    connected: Vec<(UserId, ConnectionId)>,
    disconnected: Vec<(UserId, ConnectionId)>,
    /// Users whom somebody here watches.
    watched: HashMap<UserId, Watched>,
    /// Presence has not been told of these yet.
    newly_watched: HashSet<UserId>,
    newly_unwatched: HashSet<UserId>,
    /// Grows with each status that is not the one before.
    revision: u64,
    /// The last report of each replica.
    replicas: HashMap<Uuid, u64>,
    is_list_due: bool,
    /// Of the last report.
    number: u64,
}

#[derive(Debug, Default)]
struct Watched {
    /// Connections that watch.
    count: usize,
    /// What presence said last.
    status: Option<(UserStatus, Shown)>,
}

/// A status, ready to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    /// Two are the same where this is.
    pub(crate) revision: u64,
    pub(crate) frame: ByteString,
}

impl PresenceBook {
    /// A connection began.
    pub(crate) fn connected(&self, user: UserId, connection: ConnectionId) {
        let mut book = self.book();
        if book.connections.insert((user, connection)) {
            *book.counts.entry(user).or_default() += 1;
            book.connected.push((user, connection));
            self.changed.notify_one();
        }
    }

    /// A connection ended.
    pub(crate) fn disconnected(&self, user: UserId, connection: ConnectionId) {
        let mut book = self.book();
        if !book.connections.remove(&(user, connection)) {
            return;
        }
        book.disconnected.push((user, connection));
        let left = book.counts.get(&user).copied().unwrap_or(1) - 1;
        if left == 0 {
            book.counts.remove(&user);
            book.departed.push_back((Instant::now(), user));
        } else {
            book.counts.insert(user, left);
        }
        self.changed.notify_one();
    }

    /// Whether any connection is left.
    pub(crate) fn has_connections(&self) -> bool {
        !self.book().connections.is_empty()
    }

    /// A connection watches these, and did not before.
    pub(crate) fn watch(&self, user_ids: &[UserId]) {
        let mut book = self.book();
        for user_id in user_ids {
            let watched = book.watched.entry(*user_id).or_default();
            watched.count += 1;
            if watched.count == 1 {
                book.newly_unwatched.remove(user_id);
                book.newly_watched.insert(*user_id);
                self.changed.notify_one();
            }
        }
    }

    /// A connection watches these no longer.
    pub(crate) fn unwatch(&self, user_ids: &[UserId]) {
        let mut book = self.book();
        for user_id in user_ids {
            let Some(watched) = book.watched.get_mut(user_id) else { continue };
            watched.count -= 1;
            if watched.count == 0 {
                book.watched.remove(user_id);
                book.newly_watched.remove(user_id);
                book.newly_unwatched.insert(*user_id);
                self.changed.notify_one();
            }
        }
    }

    /// What a watched user shows, where presence has said.
    pub(crate) fn shown(&self, user_id: UserId) -> Option<Shown> {
        self.book().watched.get(&user_id).and_then(|watched| watched.status.as_ref()).map(|(_, shown)| shown.clone())
    }

    /// Takes what a replica says; gives the users who show something else than before.
    pub(crate) fn hear(&self, report: StatusReport) -> Vec<UserId> {
        let mut book = self.book();
        if book.replicas.len() >= REPLICAS_MAX {
            book.replicas.clear();
        }
        let before = book.replicas.insert(report.replica_id, report.number).unwrap_or(0);
        if report.number != before + 1 {
            book.is_list_due = true;
            self.changed.notify_one();
        }
        report.statuses.into_iter().filter_map(|status| book.show(status)).collect()
    }

    /// Everything is to be told again: presence asks, or may have missed something, or we have.
    pub(crate) fn need_list(&self) {
        self.book().is_list_due = true;
        self.changed.notify_one();
    }

    /// Waits until something is to be told soon.
    pub(crate) async fn has_news(&self) {
        self.changed.notified().await;
    }

    /// What presence is to be told: what changed, or everything; one report without anything in it where nothing did.
    pub(crate) fn take_reports(&self, gateway_id: Uuid) -> Vec<GatewayReport> {
        let mut book = self.book();
        let now = Instant::now();
        book.departed.retain(|(at, _)| now.duration_since(*at) < DEPARTED_KEPT);
        let is_list = std::mem::take(&mut book.is_list_due);
        let all = if is_list { book.take_list(now) } else { book.take_changes() };
        let mut reports = split(all);
        let count = reports.len();
        for (index, report) in reports.iter_mut().enumerate() {
            book.number += 1;
            report.gateway_id = gateway_id;
            report.number = book.number;
            report.list = is_list.then_some(ListPart { is_first: index == 0, is_last: index + 1 == count });
        }
        reports
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn take_changes(&mut self) -> GatewayReport {
        GatewayReport {
            connected: std::mem::take(&mut self.connected),
            disconnected: std::mem::take(&mut self.disconnected),
            watched: self.newly_watched.drain().collect(),
            unwatched: self.newly_unwatched.drain().collect(),
            ..GatewayReport::default()
        }
    }

    fn take_list(&mut self, now: Instant) -> GatewayReport {
        drop(self.take_changes());
        let is_gone = |user_id: &UserId| !self.counts.contains_key(user_id);
        // The latest departure of each.
        let departed: HashMap<UserId, Instant> = self.departed.iter().map(|(at, user_id)| (*user_id, *at)).collect();
        let departed = departed.into_iter().filter(|(user_id, _)| is_gone(user_id));
        let since = |at: Instant| u64::try_from(now.duration_since(at).as_millis()).unwrap_or(u64::MAX);
        GatewayReport {
            connected: self.connections.iter().copied().collect(),
            departed: departed.map(|(user_id, at)| (user_id, since(at))).collect(),
            watched: self.watched.keys().copied().collect(),
            ..GatewayReport::default()
        }
    }

    /// Notes what a user shows; gives the user where that is news and somebody watches.
    fn show(&mut self, status: UserStatus) -> Option<UserId> {
        let watched = self.watched.get_mut(&status.user_id)?;
        if watched.status.as_ref().is_some_and(|(before, _)| *before == status) {
            return None;
        }
        self.revision += 1;
        let shown = Shown { revision: self.revision, frame: frame::status_update(&status).into() };
        let user_id = status.user_id;
        watched.status = Some((status, shown));
        Some(user_id)
    }
}

/// Reports of at most [`REPORT_ITEMS_MAX`] items each; one at least.
fn split(mut all: GatewayReport) -> Vec<GatewayReport> {
    let mut reports = Vec::new();
    loop {
        let mut room = REPORT_ITEMS_MAX;
        reports.push(GatewayReport {
            connected: take(&mut all.connected, &mut room),
            disconnected: take(&mut all.disconnected, &mut room),
            departed: take(&mut all.departed, &mut room),
            watched: take(&mut all.watched, &mut room),
            unwatched: take(&mut all.unwatched, &mut room),
            ..GatewayReport::default()
        });
        if room > 0 {
            return reports;
        }
    }
}

fn take<T>(from: &mut Vec<T>, room: &mut usize) -> Vec<T> {
    let rest = from.split_off((*room).min(from.len()));
    let taken = std::mem::replace(from, rest);
    *room -= taken.len();
    taken
}

#[cfg(test)]
mod tests {
    use entrenous_protocol::status::PresenceStatus;

    use super::*;

    fn user(number: usize) -> UserId {
        Uuid::from_u128(u128::try_from(number).unwrap()).into()
    }

    fn connection(number: usize) -> ConnectionId {
        Uuid::from_u128(u128::try_from(number).unwrap()).into()
    }

    fn take_one(book: &PresenceBook) -> GatewayReport {
        let mut reports = book.take_reports(Uuid::nil());
        assert_eq!(reports.len(), 1);
        reports.remove(0)
    }

    fn told(number: u64, user_id: UserId, status: PresenceStatus) -> StatusReport {
        let status = UserStatus { status, ..UserStatus::hidden(user_id) };
        StatusReport { replica_id: Uuid::nil(), number, statuses: vec![status] }
    }

    #[test]
    fn changes_are_told_once_and_a_list_tells_all_of_it() {
        let book = PresenceBook::default();
        book.connected(user(1), connection(1));
        book.connected(user(2), connection(2));
        book.disconnected(user(2), connection(2));
        book.watch(&[user(3)]);
        let report = take_one(&book);
        assert_eq!((report.connected.len(), report.disconnected.len()), (2, 1));
        assert_eq!((report.watched, report.list), (vec![user(3)], None));
        assert_eq!(take_one(&book), GatewayReport { number: 2, ..GatewayReport::default() });
        book.need_list();
        let report = take_one(&book);
        assert_eq!(report.list, Some(ListPart { is_first: true, is_last: true }));
        assert_eq!(report.connected, [(user(1), connection(1))]);
        assert_eq!(report.departed.iter().map(|(user_id, _)| *user_id).collect::<Vec<_>>(), [user(2)]);
        assert_eq!(report.watched, [user(3)]);
        assert_eq!(take_one(&book).list, None);
    }

    #[test]
    fn long_lists_are_split_and_numbered() {
        let book = PresenceBook::default();
        for number in 0..REPORT_ITEMS_MAX {
            book.connected(user(number), connection(number));
        }
        book.watch(&[user(1)]);
        book.need_list();
        let reports = book.take_reports(Uuid::nil());
        let parts: Vec<_> = reports.iter().map(|report| (report.number, report.list.unwrap())).collect();
        let (first, last) = (ListPart { is_first: true, is_last: false }, ListPart { is_first: false, is_last: true });
        assert_eq!(parts, [(1, first), (2, last)]);
        assert_eq!((reports[0].connected.len(), reports[1].watched.len()), (REPORT_ITEMS_MAX, 1));
    }

    #[test]
    fn a_user_is_watched_until_the_last_one_looks_away_and_what_was_told_is_forgotten() {
        let book = PresenceBook::default();
        book.watch(&[user(1)]);
        book.watch(&[user(1)]);
        take_one(&book);
        assert_eq!(book.hear(told(1, user(1), PresenceStatus::Busy)), [user(1)]);
        let first = book.shown(user(1)).unwrap();
        assert_eq!(book.hear(told(2, user(1), PresenceStatus::Busy)), [], "the same");
        assert_eq!(book.hear(told(3, user(1), PresenceStatus::Away)), [user(1)]);
        assert_ne!(book.shown(user(1)).unwrap().revision, first.revision);
        book.unwatch(&[user(1)]);
        assert_eq!(take_one(&book).unwatched, []);
        book.unwatch(&[user(1)]);
        assert!(book.shown(user(1)).is_none());
        assert_eq!(book.hear(told(4, user(1), PresenceStatus::Busy)), [], "nobody watches");
        // Watched again before presence heard that nobody did: it says the status again.
        book.watch(&[user(1)]);
        let report = take_one(&book);
        assert_eq!((report.watched, report.unwatched), (vec![user(1)], vec![]));
    }

    #[test]
    fn a_missed_report_makes_it_say_everything_again() {
        let book = PresenceBook::default();
        book.watch(&[user(1)]);
        take_one(&book);
        book.hear(told(1, user(1), PresenceStatus::Busy));
        assert_eq!(take_one(&book).list, None);
        book.hear(told(3, user(1), PresenceStatus::Busy));
        assert!(take_one(&book).list.is_some());
        book.hear(StatusReport { replica_id: Uuid::max(), ..told(7, user(1), PresenceStatus::Busy) });
        assert!(take_one(&book).list.is_some(), "of a replica whose beginning was missed");
    }
}
