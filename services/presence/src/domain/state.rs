//! Gateways, their connections, and what follows for their users.
//!
//! Every report is the word of one gateway about its own connections, so gateways never contradict each other. A report
//! that was missed is noticed by its number; until the next full report the machine keeps what it knows and goes on
//! applying changes: a connection's id is used once, so a change is right whatever was missed before it.

use std::{collections::BTreeSet, time::Duration};

use ahash::{HashMap, HashMapExt, HashSet};
use entrenous_model::{ConnectionId, Timestamp, UserId};
use entrenous_protocol::rpc::presence::{GATEWAY_LEASE_SECONDS, GatewayReport, OFFLINE_GRACE_SECONDS};
use uuid::Uuid;

/// How long a silent gateway is believed to be there.
const LEASE: Duration = Duration::from_secs(GATEWAY_LEASE_SECONDS);
/// Between the last connection's end and `offline`.
const GRACE: Duration = Duration::from_secs(OFFLINE_GRACE_SECONDS);

/// The present, twice: leases and grace go by the time that the process has run, which nobody sets; what people are
/// shown goes by the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Since some fixed moment in this process.
    pub uptime: Duration,
    /// The wall clock.
    pub wall: Timestamp,
}

/// A user was there at this moment: to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Who.
    pub user_id: UserId,
    /// When.
    pub at: Timestamp,
}

/// What the machine knows of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Connected, or gone for less than the grace.
    Online,
    /// Gone; last seen then. Soon forgotten here, and then only in the table.
    Left(Timestamp),
    /// Not known here.
    Absent,
}

/// Bounds of the machine.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Connections of all gateways together; those above it are left out until a full report lists them again.
    pub connections_max: usize,
    /// Gateways; reports of those above it are left out.
    pub gateways_max: usize,
}

#[derive(Debug)]
struct Gateway {
    /// Renewed by each report.
    lease_until: Duration,
    /// When the last report came.
    heard_at: Timestamp,
    number: u64,
    /// A full report was heard and none was missed since.
    is_complete: bool,
    connections: HashMap<ConnectionId, UserId>,
}

#[derive(Debug)]
struct User {
    connections: usize,
    /// The last moment at which the user is known to have been there.
    seen_at: Timestamp,
    /// When the grace ends, once there is no connection.
    offline_at: Option<Duration>,
}

/// The machine. Memory: about 200 bytes for a connection of a user who has one, and for a user in the grace about 120;
/// bounded by [`Settings`].
#[derive(Debug)]
pub struct State {
    settings: Settings,
    gateways: HashMap<Uuid, Gateway>,
    users: HashMap<UserId, User>,
    /// Users without a connection, by the end of their grace.
    leaving: BTreeSet<(Duration, UserId)>,
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
            connections: 0,
            left_out: 0,
        }
    }

    /// Takes a gateway's report. Gives the users who came.
    pub fn report(&mut self, report: GatewayReport, now: Moment) -> Vec<Seen> {
        let Some(mut gateway) = self.take_gateway(&report, now) else {
            return Vec::new();
        };
        gateway.is_complete = report.is_full || (gateway.is_complete && report.number == gateway.number + 1);
        gateway.number = report.number;
        gateway.lease_until = now.uptime + LEASE;
        gateway.heard_at = now.wall;
        let mut ended = report.disconnected;
        if report.is_full {
            let listed: HashSet<ConnectionId> = report.connected.iter().map(|(_, connection)| *connection).collect();
            let known = gateway.connections.iter();
            ended.extend(known.filter(|(id, _)| !listed.contains(id)).map(|(id, user_id)| (*user_id, *id)));
        }
        let mut seen = Vec::new();
        for (user_id, connection_id) in report.connected {
            seen.extend(self.connect(&mut gateway, user_id, connection_id, now));
        }
        for (_, connection_id) in ended {
            self.disconnect(&mut gateway, connection_id, now);
        }
        self.gateways.insert(report.gateway_id, gateway);
        seen
    }

    /// Lets time pass: silent gateways are given up, and users whose grace is over leave. Gives those.
    pub fn advance(&mut self, now: Moment) -> Vec<Seen> {
        self.end_leases(now);
        let mut seen = Vec::new();
        while let Some((offline_at, user_id)) = self.leaving.first().copied() {
            if offline_at > now.uptime {
                break;
            }
            self.leaving.pop_first();
            if let Some(user) = self.users.remove(&user_id) {
                seen.push(Seen { user_id, at: user.seen_at });
            }
        }
        seen
    }

    /// After this process could hear nobody: silence meant nothing, so every lease and every grace begins again.
    pub fn resume(&mut self, now: Moment) {
        for gateway in self.gateways.values_mut() {
            gateway.lease_until = now.uptime + LEASE;
            gateway.is_complete = false;
        }
        let offline_at = now.uptime + GRACE;
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
        match self.users.get(&user_id) {
            None => Known::Absent,
            Some(user) if user.offline_at.is_some_and(|offline_at| offline_at <= now.uptime) => {
                Known::Left(user.seen_at)
            }
            Some(_) => Known::Online,
        }
    }

    /// Whether every gateway that was heard has given a full report, and none since was missed.
    pub fn is_complete(&self) -> bool {
        self.gateways.values().all(|gateway| gateway.is_complete)
    }

    /// Gateways that are believed to be there.
    pub fn gateway_count(&self) -> usize {
        self.gateways.len()
    }

    /// Their connections.
    pub fn connection_count(&self) -> usize {
        self.connections
    }

    /// Users who are online, those in the grace included.
    pub fn user_count(&self) -> usize {
        self.users.len()
    }

    /// How often a connection or a report was left out for want of room.
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
            }),
        }
    }

    fn connect(
        &mut self,
        gateway: &mut Gateway,
        user_id: UserId,
        connection_id: ConnectionId,
        now: Moment,
    ) -> Option<Seen> {
        if gateway.connections.contains_key(&connection_id) {
            return None;
        }
        if self.connections >= self.settings.connections_max {
            self.left_out += 1;
            return None;
        }
        gateway.connections.insert(connection_id, user_id);
        self.connections += 1;
        let is_new = !self.users.contains_key(&user_id);
        let user = self.users.entry(user_id).or_insert(User { connections: 0, seen_at: now.wall, offline_at: None });
        user.connections += 1;
        user.seen_at = now.wall.max(user.seen_at);
        if let Some(offline_at) = user.offline_at.take() {
            self.leaving.remove(&(offline_at, user_id));
        }
        is_new.then_some(Seen { user_id, at: now.wall })
    }

    fn disconnect(&mut self, gateway: &mut Gateway, connection_id: ConnectionId, now: Moment) {
        if let Some(user_id) = gateway.connections.remove(&connection_id) {
            self.drop_connection(user_id, now);
        }
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
            let offline_at = ended.uptime + GRACE;
            user.offline_at = Some(offline_at);
            self.leaving.insert((offline_at, user_id));
        }
    }

    /// The connections of a gateway whose lease is over ended with it; their users were last seen when it last spoke.
    fn end_leases(&mut self, now: Moment) {
        let ended: Vec<Uuid> =
            self.gateways.iter().filter(|(_, gateway)| gateway.lease_until <= now.uptime).map(|(id, _)| *id).collect();
        for gateway in ended.iter().filter_map(|id| self.gateways.remove(id)).collect::<Vec<_>>() {
            let moment = Moment { uptime: gateway.lease_until, wall: gateway.heard_at };
            for user_id in gateway.connections.into_values() {
                self.drop_connection(user_id, moment);
            }
        }
    }
}

#[cfg(test)]
mod tests;
