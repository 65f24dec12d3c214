//! Gateways, their connections, and what follows for their users.
//!
//! Every report is the word of one gateway about its own connections, so gateways never contradict each other. A report
//! that was missed is noticed by its number; until the next list the machine keeps what it knows and goes on applying
//! changes: a connection's id is used once, so a change is right whatever was missed before it.

use std::{collections::BTreeSet, time::Duration};

use ahash::{HashMap, HashMapExt, HashSet};
use entrenous_model::{ConnectionId, Timestamp, UserId};
use entrenous_protocol::{
    rpc::presence::{Chosen, GatewayReport},
    status::{ChosenStatus, StatusChoice},
};
use uuid::Uuid;

/// The present, twice: leases and grace go by the time that the process has run, which nobody sets; what people are
/// shown goes by the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Since some fixed moment in this process.
    pub uptime: Duration,
    /// The wall clock.
    pub wall: Timestamp,
}

/// A user was seen at this moment: to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Who.
    pub user_id: UserId,
    /// When.
    pub at: Timestamp,
}

/// What the machine knows of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Connected, or gone for less than the grace; shows this.
    There(StatusChoice),
    /// The same, but what the user chose to show has not been learnt yet.
    Unlearnt,
    /// Gone; last seen then. Soon forgotten here, and then only in the table.
    Left(Timestamp),
    /// Not known here, or invisible.
    Absent,
}

/// Bounds of the machine.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Connections of all gateways together; those above it are left out until a list names them again.
    pub connections_max: usize,
    /// Gateways; reports of those above it are left out.
    pub gateways_max: usize,
    /// Users that one gateway watches; those above it are left out.
    pub watched_max: usize,
    /// How long a silent gateway is believed to be there.
    pub lease: Duration,
    /// Between the last connection's end and `offline`.
    pub grace: Duration,
}

/// What follows from what was heard.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Last moments to be kept.
    pub seen: Vec<Seen>,
    /// Users who show something else than before.
    pub changed: Vec<UserId>,
    /// What a gateway watches now.
    pub watching: Watching,
    /// Gateways that are believed to be gone.
    pub ended: Vec<Uuid>,
}

/// How what a gateway watches has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Watching {
    /// Not at all.
    #[default]
    Same,
    /// Some more, some no longer.
    Changed {
        /// From now on.
        watched: Vec<UserId>,
        /// No longer.
        unwatched: Vec<UserId>,
    },
    /// These and no others.
    Exactly(HashSet<UserId>),
}

#[derive(Debug)]
struct Gateway {
    /// Renewed by each report.
    lease_until: Duration,
    /// When the last report came.
    heard_at: Timestamp,
    number: u64,
    /// A list was heard and no report was missed since.
    is_complete: bool,
    connections: HashMap<ConnectionId, UserId>,
    /// What the parts of a list have named so far.
    listing: Option<Listing>,
}

#[derive(Debug, Default)]
struct Listing {
    connections: HashSet<ConnectionId>,
    watched: HashSet<UserId>,
}

#[derive(Debug)]
struct User {
    connections: usize,
    /// The last moment at which the user is known to have been there.
    seen_at: Timestamp,
    /// When the grace ends, once there is no connection.
    offline_at: Option<Duration>,
    choice: Option<Choice>,
}

#[derive(Debug, PartialEq, Eq)]
struct Choice {
    version: u64,
    shows: StatusChoice,
}

impl User {
    fn shown(&self) -> Option<&StatusChoice> {
        self.choice.as_ref().map(|choice| &choice.shows).filter(|shows| shows.status != ChosenStatus::Invisible)
    }
}

/// The machine. Memory: about 250 bytes for a connection of a user who has one, and for a user in the grace about 160;
/// bounded by [`Settings`].
#[derive(Debug)]
pub struct State {
    settings: Settings,
    gateways: HashMap<Uuid, Gateway>,
    users: HashMap<UserId, User>,
    /// Users without a connection, by the end of their grace.
    leaving: BTreeSet<(Duration, UserId)>,
    /// Users whose choice is to be learnt.
    unlearnt: BTreeSet<UserId>,
    connections: usize,
    left_out: u64,
}

impl State {
    /// Knows nobody.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            gateways: HashMap::new(),
            users: HashMap::new(),
            leaving: BTreeSet::new(),
            unlearnt: BTreeSet::new(),
            connections: 0,
            left_out: 0,
        }
    }

    /// Takes a gateway's report.
    pub fn report(&mut self, report: GatewayReport, now: Moment) -> Effects {
        let gateway_id = report.gateway_id;
        let Some(mut gateway) = self.take_gateway(&report, now) else {
            return Effects::default();
        };
        let is_next = report.number == gateway.number + 1;
        gateway.number = report.number;
        gateway.lease_until = now.uptime + self.settings.lease;
        gateway.heard_at = now.wall;
        gateway.is_complete &= is_next;
        let is_last = self.list(&mut gateway, &report, is_next);
        for (user_id, connection_id) in report.connected {
            self.connect(&mut gateway, user_id, connection_id, now);
        }
        for (_, connection_id) in report.disconnected {
            self.disconnect(&mut gateway, connection_id, now);
        }
        for (user_id, millis) in report.departed {
            self.depart(user_id, Duration::from_millis(millis), now);
        }
        let listing = if is_last { gateway.listing.take() } else { None };
        let watching = match listing {
            Some(Listing { connections, watched }) => {
                gateway.is_complete = true;
                let is_gone = |id: &&ConnectionId| !connections.contains(id);
                let gone: Vec<_> = gateway.connections.keys().filter(is_gone).copied().collect();
                for connection_id in gone {
                    self.disconnect(&mut gateway, connection_id, now);
                }
                Watching::Exactly(watched)
            }
            None if report.watched.is_empty() && report.unwatched.is_empty() => Watching::Same,
            None => Watching::Changed { watched: report.watched, unwatched: report.unwatched },
        };
        self.gateways.insert(gateway_id, gateway);
        Effects { watching, ..Effects::default() }
    }

    /// Gathers a part of a list; true for the last part of one of which none was missed.
    fn list(&mut self, gateway: &mut Gateway, report: &GatewayReport, is_next: bool) -> bool {
        let Some(part) = report.list else {
            gateway.listing = None;
            return false;
        };
        if part.is_first {
            gateway.listing = Some(Listing::default());
        } else if !is_next {
            gateway.listing = None;
        }
        let Some(listing) = &mut gateway.listing else { return false };
        listing.connections.extend(report.connected.iter().map(|(_, connection)| *connection));
        for user_id in &report.watched {
            if listing.watched.len() >= self.settings.watched_max {
                self.left_out += 1;
            } else {
                listing.watched.insert(*user_id);
            }
        }
        part.is_last
    }

    /// Users whose choice is to be learnt, at most so many; they are given once.
    pub fn take_unlearnt(&mut self, users_max: usize) -> Vec<UserId> {
        let rest = self.unlearnt.iter().nth(users_max).copied();
        let later = rest.map(|first| self.unlearnt.split_off(&first)).unwrap_or_default();
        std::mem::replace(&mut self.unlearnt, later).into_iter().collect()
    }

    /// The choices of these users are to be learnt, again or at last.
    pub fn forget_choices(&mut self, user_ids: impl IntoIterator<Item = UserId>) {
        self.unlearnt.extend(user_ids.into_iter().filter(|user_id| self.users.contains_key(user_id)));
    }

    /// Choices of some replica may have been missed.
    pub fn forget_all_choices(&mut self) {
        self.unlearnt.extend(self.users.keys());
    }

    /// Takes what users chose. What is older than what is known changes nothing, and users who are not there are left out.
    pub fn learn(&mut self, chosen: Vec<Chosen>, now: Moment) -> Effects {
        let mut effects = Effects::default();
        for Chosen { user_id, choice: shows, version } in chosen {
            let Some(user) = self.users.get_mut(&user_id) else { continue };
            if user.choice.as_ref().is_some_and(|known| known.version >= version) {
                continue;
            }
            let before = user.shown().cloned();
            user.choice = Some(Choice { version, shows });
            let after = user.shown();
            if before.as_ref() == after {
                continue;
            }
            effects.changed.push(user_id);
            if before.is_none() || after.is_none() {
                let at = if user.offline_at.is_some() { user.seen_at } else { now.wall };
                effects.seen.push(Seen { user_id, at });
            }
        }
        effects
    }

    /// Lets time pass: silent gateways are given up, and users whose grace is over leave.
    pub fn advance(&mut self, now: Moment) -> Effects {
        let mut effects = Effects { ended: self.end_leases(now), ..Effects::default() };
        while let Some((offline_at, user_id)) = self.leaving.first().copied() {
            if offline_at > now.uptime {
                break;
            }
            self.leaving.pop_first();
            self.unlearnt.remove(&user_id);
            if let Some(user) = self.users.remove(&user_id)
                && user.shown().is_some()
            {
                effects.seen.push(Seen { user_id, at: user.seen_at });
                effects.changed.push(user_id);
            }
        }
        effects
    }

    /// After this process could hear nobody: silence meant nothing, so every lease and every grace begins again.
    pub fn resume(&mut self, now: Moment) {
        for gateway in self.gateways.values_mut() {
            gateway.lease_until = now.uptime + self.settings.lease;
            gateway.is_complete = false;
        }
        let offline_at = now.uptime + self.settings.grace;
        let leaving = std::mem::take(&mut self.leaving);
        self.leaving = leaving.into_iter().map(|(_, user_id)| (offline_at, user_id)).collect();
        for (_, user_id) in &self.leaving {
            if let Some(user) = self.users.get_mut(user_id) {
                user.offline_at = Some(offline_at);
            }
        }
    }

    /// What is known of a user.
    pub fn user(&self, user_id: UserId, now: Moment) -> Known {
        let Some(user) = self.users.get(&user_id) else { return Known::Absent };
        if user.choice.is_none() {
            return Known::Unlearnt;
        }
        match user.shown() {
            None => Known::Absent,
            Some(_) if user.offline_at.is_some_and(|offline_at| offline_at <= now.uptime) => Known::Left(user.seen_at),
            Some(shows) => Known::There(shows.clone()),
        }
    }

    /// Gateways of which something was missed: their lists are needed.
    pub fn incomplete(&self) -> impl Iterator<Item = Uuid> {
        self.gateways.iter().filter(|(_, gateway)| !gateway.is_complete).map(|(gateway_id, _)| *gateway_id)
    }

    /// Gateways that are believed to be there.
    pub fn gateway_count(&self) -> usize {
        self.gateways.len()
    }

    /// Their connections.
    pub fn connection_count(&self) -> usize {
        self.connections
    }

    /// Users who are there, those in the grace included.
    pub fn user_count(&self) -> usize {
        self.users.len()
    }

    /// How often something was left out for want of room.
    pub fn left_out_count(&self) -> u64 {
        self.left_out
    }

    /// The reporting gateway, out of the map; none for a repeated report, or where there is no room for another.
    fn take_gateway(&mut self, report: &GatewayReport, now: Moment) -> Option<Gateway> {
        match self.gateways.get(&report.gateway_id) {
            Some(known) if report.number <= known.number => None,
            Some(_) => self.gateways.remove(&report.gateway_id),
            None if self.gateways.len() >= self.settings.gateways_max => {
                self.left_out += 1;
                None
            }
            None => Some(Gateway {
                lease_until: now.uptime,
                heard_at: now.wall,
                number: 0,
                is_complete: false,
                connections: HashMap::new(),
                listing: None,
            }),
        }
    }

    fn connect(&mut self, gateway: &mut Gateway, user_id: UserId, connection_id: ConnectionId, now: Moment) {
        if gateway.connections.contains_key(&connection_id) {
            return;
        }
        if self.connections >= self.settings.connections_max {
            self.left_out += 1;
            return;
        }
        gateway.connections.insert(connection_id, user_id);
        self.connections += 1;
        let user = self.come(user_id, now.wall);
        user.connections += 1;
        user.seen_at = now.wall.max(user.seen_at);
        if let Some(offline_at) = user.offline_at.take() {
            self.leaving.remove(&(offline_at, user_id));
        }
    }

    /// The user, who may be new.
    fn come(&mut self, user_id: UserId, seen_at: Timestamp) -> &mut User {
        let unlearnt = &mut self.unlearnt;
        self.users.entry(user_id).or_insert_with(|| {
            unlearnt.insert(user_id);
            User { connections: 0, seen_at, offline_at: None, choice: None }
        })
    }

    fn disconnect(&mut self, gateway: &mut Gateway, connection_id: ConnectionId, now: Moment) {
        if let Some(user_id) = gateway.connections.remove(&connection_id) {
            self.drop_connection(user_id, now);
        }
    }

    /// A user whom this process has never seen there was, until so long ago: whoever counted the connection is gone.
    fn depart(&mut self, user_id: UserId, since: Duration, now: Moment) {
        let rest = self.settings.grace.saturating_sub(since);
        if self.users.contains_key(&user_id) || rest.is_zero() {
            return;
        }
        let offline_at = now.uptime + rest;
        self.come(user_id, now.wall - since).offline_at = Some(offline_at);
        self.leaving.insert((offline_at, user_id));
    }

    /// One connection of the user ended at this moment.
    fn drop_connection(&mut self, user_id: UserId, ended: Moment) {
        self.connections = self.connections.saturating_sub(1);
        let Some(user) = self.users.get_mut(&user_id) else {
            return;
        };
        user.connections = user.connections.saturating_sub(1);
        user.seen_at = ended.wall.max(user.seen_at);
        if user.connections == 0 {
            let offline_at = ended.uptime + self.settings.grace;
            user.offline_at = Some(offline_at);
            self.leaving.insert((offline_at, user_id));
        }
    }

    /// The connections of a gateway whose lease is over ended with it; their users were last seen when it last spoke.
    fn end_leases(&mut self, now: Moment) -> Vec<Uuid> {
        let ended: Vec<Uuid> =
            self.gateways.iter().filter(|(_, gateway)| gateway.lease_until <= now.uptime).map(|(id, _)| *id).collect();
        for gateway in ended.iter().filter_map(|id| self.gateways.remove(id)).collect::<Vec<_>>() {
            let moment = Moment { uptime: gateway.lease_until, wall: gateway.heard_at };
            for user_id in gateway.connections.into_values() {
                self.drop_connection(user_id, moment);
            }
        }
        ended
    }
}

#[cfg(test)]
mod tests;
