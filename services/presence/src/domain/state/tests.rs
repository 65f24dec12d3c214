//! The machine against a model that knows the truth.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use entrenous_protocol::rpc::presence::ListPart;

const SETTINGS: Settings = Settings {
    connections_max: 1_000,
    gateways_max: 10,
    watched_max: 10,
    lease: Duration::from_secs(15),
    grace: Duration::from_secs(15),
};

/// The machine; what users chose is learnt as soon as they come.
#[derive(Debug)]
struct Machine(State);

impl Machine {
    fn new(settings: Settings) -> Self {
        Self(State::new(settings))
    }

    fn report(&mut self, report: GatewayReport, now: Moment) -> Vec<Seen> {
        self.0.report(report, now);
        let unlearnt = self.0.take_unlearnt(usize::MAX - 1);
        let chosen = unlearnt.into_iter().map(|user_id| chosen(user_id, 0, ChosenStatus::Online)).collect();
        self.0.learn(chosen, now).seen
    }

    fn advance(&mut self, now: Moment) -> Vec<Seen> {
        self.0.advance(now).seen
    }

    fn is_complete(&self) -> bool {
        self.0.incomplete().next().is_none()
    }
}

impl std::ops::Deref for Machine {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

fn chosen(user_id: UserId, version: u64, status: ChosenStatus) -> Chosen {
    Chosen { user_id, choice: StatusChoice { status, text: None }, version }
}

fn there() -> Known {
    Known::There(StatusChoice::default())
}

fn user(number: u128) -> UserId {
    Uuid::from_u128(number).into()
}

fn connection(number: u128) -> ConnectionId {
    Uuid::from_u128(number).into()
}

/// So many milliseconds after the start.
fn at(millis: u64) -> Moment {
    let wall = chrono::DateTime::from_timestamp_millis(1_000_000 + i64::try_from(millis).unwrap()).unwrap();
    Moment { uptime: Duration::from_millis(millis), wall: wall.into() }
}

const WHOLE: Option<ListPart> = Some(ListPart { is_first: true, is_last: true });

fn full(gateway: u128, number: u64, connected: &[(u128, u128)]) -> GatewayReport {
    GatewayReport { list: WHOLE, ..delta(gateway, number, connected, &[]) }
}

fn delta(gateway: u128, number: u64, connected: &[(u128, u128)], disconnected: &[(u128, u128)]) -> GatewayReport {
    let pairs = |pairs: &[(u128, u128)]| pairs.iter().map(|(who, what)| (user(*who), connection(*what))).collect();
    GatewayReport {
        gateway_id: Uuid::from_u128(gateway),
        number,
        connected: pairs(connected),
        disconnected: pairs(disconnected),
        ..GatewayReport::default()
    }
}

fn seen(who: u128, millis: u64) -> Seen {
    Seen { user_id: user(who), at: at(millis).wall }
}

#[test]
fn a_user_is_online_while_one_connection_is_there() {
    let mut state = Machine::new(SETTINGS);
    assert_eq!(state.report(full(1, 1, &[(7, 1), (7, 2)]), at(0)), [seen(7, 0)]);
    assert_eq!(state.report(full(2, 1, &[(7, 3)]), at(0)), []);
    state.report(delta(1, 2, &[], &[(7, 1), (7, 2)]), at(1_000));
    assert_eq!(state.user(user(7), at(1_000)), there());
    state.report(delta(2, 2, &[], &[(7, 3)]), at(2_000));
    assert_eq!(state.user(user(7), at(16_999)), there(), "in the grace");
    assert_eq!(state.user(user(7), at(17_000)), Known::Left(at(2_000).wall));
    assert_eq!(state.advance(at(16_999)), []);
    assert_eq!(state.advance(at(17_000)), [seen(7, 2_000)]);
    assert_eq!(state.user(user(7), at(17_000)), Known::Absent);
}

#[test]
fn who_comes_back_within_the_grace_never_left() {
    let mut state = Machine::new(SETTINGS);
    state.report(full(1, 1, &[(7, 1)]), at(0));
    state.report(delta(1, 2, &[], &[(7, 1)]), at(1_000));
    assert_eq!(state.report(delta(1, 3, &[(7, 2)], &[]), at(15_999)), []);
    assert_eq!(state.advance(at(16_500)), []);
    assert_eq!(state.user(user(7), at(16_500)), there());
}

#[test]
fn a_silent_gateway_ends_with_its_connections_after_the_lease() {
    let mut state = Machine::new(SETTINGS);
    state.report(full(1, 1, &[(7, 1), (8, 2)]), at(0));
    state.report(delta(1, 2, &[], &[]), at(4_000));
    state.report(full(2, 1, &[(8, 3)]), at(18_000));
    assert_eq!(state.advance(at(18_999)), []);
    assert_eq!(state.gateway_count(), 2);
    assert_eq!(state.advance(at(19_000)), []);
    assert_eq!((state.gateway_count(), state.connection_count()), (1, 1));
    assert_eq!(state.user(user(7), at(33_999)), there(), "in the grace");
    state.report(delta(2, 2, &[], &[]), at(30_000));
    assert_eq!(state.advance(at(34_000)), [seen(7, 4_000)]);
    assert_eq!(state.user(user(8), at(34_000)), there());
}

#[test]
fn after_a_missed_report_what_is_known_stays_until_the_next_full_one() {
    let mut state = Machine::new(SETTINGS);
    state.report(full(1, 1, &[(7, 1), (8, 2)]), at(0));
    assert!(state.is_complete());
    // Number 2 said that connection 1 had ended.
    state.report(delta(1, 3, &[(9, 3)], &[]), at(2_000));
    assert!(!state.is_complete());
    for who in [7, 8, 9] {
        assert_eq!(state.user(user(who), at(2_000)), there(), "{who}");
    }
    state.report(delta(1, 4, &[], &[]), at(3_000));
    assert!(!state.is_complete());
    state.report(full(1, 5, &[(8, 2), (9, 3)]), at(4_000));
    assert!(state.is_complete());
    assert_eq!(state.advance(at(18_999)), []);
    assert_eq!(state.advance(at(19_000)), [seen(7, 4_000), seen(8, 4_000), seen(9, 4_000)][..1]);
}

#[test]
fn a_repeated_report_changes_nothing() {
    let mut state = Machine::new(SETTINGS);
    state.report(full(1, 1, &[(7, 1)]), at(0));
    state.report(delta(1, 2, &[], &[(7, 1)]), at(1_000));
    assert_eq!(state.report(full(1, 1, &[(7, 1)]), at(2_000)), []);
    assert_eq!(state.connection_count(), 0);
}

#[test]
fn silence_means_nothing_while_nobody_can_be_heard() {
    let mut state = Machine::new(SETTINGS);
    state.report(full(1, 1, &[(7, 1), (8, 2)]), at(0));
    state.report(delta(1, 2, &[], &[(8, 2)]), at(1_000));
    state.0.resume(at(60_000));
    assert_eq!(state.advance(at(60_000)), []);
    assert_eq!(state.user(user(7), at(74_999)), there());
    assert_eq!(state.advance(at(74_999)), []);
    assert_eq!(state.advance(at(75_000)), [seen(8, 1_000)]);
    assert_eq!(state.advance(at(90_000)), [seen(7, 1_000)], "when the gateway last spoke");
}

#[test]
fn the_number_of_connections_and_gateways_is_bounded() {
    let mut state = Machine::new(Settings { connections_max: 1, gateways_max: 1, ..SETTINGS });
    state.report(full(1, 1, &[(7, 1), (8, 2)]), at(0));
    state.report(full(2, 1, &[(9, 3)]), at(0));
    assert_eq!((state.connection_count(), state.user_count(), state.gateway_count()), (1, 1, 1));
    assert_eq!(state.left_out_count(), 2);
    // What was left out is there with the next full report, once there is room.
    state.report(full(1, 2, &[(8, 2)]), at(1_000));
    state.report(full(1, 3, &[(8, 2)]), at(2_000));
    assert_eq!(state.user(user(8), at(2_000)), there());
}

#[test]
fn a_list_may_come_in_parts_and_a_part_that_was_missed_makes_it_worth_nothing() {
    let part = |number, connected: &[(u128, u128)], is_first, is_last| {
        let list = Some(ListPart { is_first, is_last });
        GatewayReport { list, ..delta(1, number, connected, &[]) }
    };
    let mut state = Machine::new(SETTINGS);
    state.report(full(1, 1, &[(7, 1), (8, 2)]), at(0));
    state.report(part(2, &[(7, 1)], true, false), at(1_000));
    state.report(part(4, &[(9, 3)], false, true), at(1_000));
    assert!(!state.is_complete());
    assert_eq!(state.connection_count(), 3, "nobody has ended for that");
    state.report(part(5, &[(7, 1)], true, false), at(2_000));
    state.report(part(6, &[(9, 3)], false, true), at(2_000));
    assert!(state.is_complete());
    assert_eq!(state.connection_count(), 2);
    assert_eq!(state.advance(at(17_000)), [seen(8, 2_000)]);
}

#[test]
fn who_left_before_this_process_began_has_the_rest_of_the_grace() {
    let mut state = Machine::new(SETTINGS);
    let departed = |users: &[(u128, u64)]| {
        let departed = users.iter().map(|(who, millis)| (user(*who), *millis)).collect();
        GatewayReport { departed, ..full(1, 1, &[(7, 1)]) }
    };
    state.report(departed(&[(7, 5_000), (8, 5_000), (9, 15_000)]), at(10_000));
    assert_eq!(state.user(user(8), at(10_000)), there());
    assert_eq!(state.user(user(9), at(10_000)), Known::Absent);
    assert_eq!(state.advance(at(19_999)), []);
    assert_eq!(state.advance(at(20_000)), [seen(8, 5_000)]);
    assert_eq!(state.user(user(7), at(20_000)), there());
}

#[test]
fn what_a_user_shows_is_what_was_chosen_last() {
    let mut state = State::new(SETTINGS);
    state.report(full(1, 1, &[(7, 1)]), at(0));
    assert_eq!(state.user(user(7), at(0)), Known::Unlearnt);
    assert_eq!(state.take_unlearnt(10), [user(7)]);
    assert_eq!(state.take_unlearnt(10), []);
    let effects = state.learn(vec![chosen(user(7), 2, ChosenStatus::Busy)], at(0));
    assert_eq!((effects.changed, effects.seen), (vec![user(7)], vec![seen(7, 0)]));
    assert_eq!(state.learn(vec![chosen(user(7), 1, ChosenStatus::Away)], at(0)), Effects::default());
    assert_eq!(state.learn(vec![chosen(user(8), 1, ChosenStatus::Away)], at(0)), Effects::default(), "not there");
    let busy = StatusChoice { status: ChosenStatus::Busy, text: None };
    assert_eq!(state.user(user(7), at(0)), Known::There(busy));
    assert_eq!(state.learn(vec![chosen(user(7), 3, ChosenStatus::Away)], at(0)).seen, []);
}

#[test]
fn who_is_invisible_looks_gone_and_leaves_no_trace() {
    let mut state = State::new(SETTINGS);
    state.report(full(1, 1, &[(7, 1), (8, 2)]), at(0));
    let invisible = |number, version| chosen(user(number), version, ChosenStatus::Invisible);
    assert_eq!(state.learn(vec![invisible(7, 1)], at(0)), Effects::default(), "came invisible");
    state.learn(vec![chosen(user(8), 0, ChosenStatus::Online)], at(0));
    let effects = state.learn(vec![invisible(8, 1)], at(4_000));
    assert_eq!((effects.changed, effects.seen), (vec![user(8)], vec![seen(8, 4_000)]));
    assert_eq!(state.user(user(8), at(4_000)), Known::Absent);
    state.report(delta(1, 2, &[], &[(7, 1), (8, 2)]), at(5_000));
    let effects = state.advance(at(20_000));
    assert_eq!((effects.changed, effects.seen), (vec![], vec![]));
}

#[test]
fn choices_are_learnt_in_bounded_steps_and_again_when_some_were_missed() {
    let mut state = State::new(SETTINGS);
    state.report(full(1, 1, &[(7, 1), (8, 2), (9, 3)]), at(0));
    assert_eq!(state.take_unlearnt(2), [user(7), user(8)]);
    state.forget_choices([user(7), user(10)]);
    assert_eq!(state.take_unlearnt(2), [user(7), user(9)]);
    assert_eq!(state.take_unlearnt(2), []);
    state.forget_all_choices();
    assert_eq!(state.take_unlearnt(10).len(), 3);
}

#[test]
fn a_gateway_says_whom_it_watches() {
    let mut state = State::new(SETTINGS);
    let watched = |users: &[u128]| users.iter().map(|number| user(*number)).collect::<Vec<_>>();
    let report = GatewayReport { watched: watched(&[7, 8]), ..full(1, 1, &[]) };
    assert_eq!(state.report(report, at(0)).watching, Watching::Exactly(watched(&[7, 8]).into_iter().collect()));
    let report = GatewayReport { watched: watched(&[9]), unwatched: watched(&[7]), ..delta(1, 2, &[], &[]) };
    assert_eq!(
        state.report(report, at(0)).watching,
        Watching::Changed { watched: watched(&[9]), unwatched: watched(&[7]) }
    );
    assert_eq!(state.report(delta(1, 3, &[], &[]), at(0)).watching, Watching::Same);
    assert_eq!(state.advance(at(15_000)).ended, [Uuid::from_u128(1)]);
}

/// What happens in a random history.
#[derive(Debug, Clone)]
enum Step {
    Connect {
        gateway: u128,
        user: u128,
    },
    /// Ends one of the gateway's connections.
    Disconnect {
        gateway: u128,
        which: usize,
    },
    /// A gateway reports; the report may get lost.
    Report {
        gateway: u128,
        is_full: bool,
        is_lost: bool,
    },
    Wait {
        millis: u64,
    },
}

fn steps(may_lose: bool) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..3_u128, 0..4_u128).prop_map(|(gateway, user)| Step::Connect { gateway, user }),
        2 => (0..3_u128, 0..8_usize).prop_map(|(gateway, which)| Step::Disconnect { gateway, which }),
        4 => (0..3_u128, any::<bool>(), proptest::bool::weighted(0.3)).prop_map(move |(gateway, is_full, is_lost)| {
            Step::Report { gateway, is_full, is_lost: is_lost && may_lose }
        }),
        3 => (0..20_000_u64).prop_map(|millis| Step::Wait { millis }),
    ];
    proptest::collection::vec(step, 0..80)
}

/// A gateway as it really is, with what it has not reported yet.
#[derive(Debug, Default)]
struct RealGateway {
    number: u64,
    connections: BTreeMap<ConnectionId, UserId>,
    connected: Vec<(UserId, ConnectionId)>,
    disconnected: Vec<(UserId, ConnectionId)>,
}

/// The world and the machine that hears of it.
#[derive(Debug)]
struct World {
    now: u64,
    next_connection: u128,
    gateways: BTreeMap<u128, RealGateway>,
    state: Machine,
}

impl World {
    fn new() -> Self {
        Self { now: 0, next_connection: 1, gateways: BTreeMap::new(), state: Machine::new(SETTINGS) }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Connect { gateway, user: who } => {
                let id = connection(self.next_connection);
                self.next_connection += 1;
                let gateway = self.gateways.entry(gateway).or_default();
                gateway.connections.insert(id, user(who));
                gateway.connected.push((user(who), id));
            }
            Step::Disconnect { gateway, which } => {
                let gateway = self.gateways.entry(gateway).or_default();
                let Some((id, who)) = gateway.connections.iter().nth(which).map(|(id, who)| (*id, *who)) else {
                    return;
                };
                gateway.connections.remove(&id);
                gateway.disconnected.push((who, id));
            }
            Step::Report { gateway, is_full, is_lost } => {
                let report = self.next_report(gateway, is_full);
                if !is_lost {
                    self.state.report(report, at(self.now));
                }
            }
            Step::Wait { millis } => {
                self.now += millis;
                self.state.advance(at(self.now));
            }
        }
    }

    fn next_report(&mut self, id: u128, is_full: bool) -> GatewayReport {
        let gateway = self.gateways.entry(id).or_default();
        gateway.number += 1;
        let connected = std::mem::take(&mut gateway.connected);
        let disconnected = std::mem::take(&mut gateway.disconnected);
        // The first report of a gateway is full.
        let is_full = is_full || gateway.number == 1;
        let all = || gateway.connections.iter().map(|(id, who)| (*who, *id)).collect();
        GatewayReport {
            gateway_id: Uuid::from_u128(id),
            number: gateway.number,
            list: if is_full { WHOLE } else { None },
            connected: if is_full { all() } else { connected },
            disconnected,
            ..GatewayReport::default()
        }
    }

    fn connected_users(&self) -> BTreeSet<UserId> {
        self.gateways.values().flat_map(|gateway| gateway.connections.values().copied()).collect()
    }
}

/// What the machine keeps twice must agree.
fn assert_sound(state: &State) {
    let mut counts: BTreeMap<UserId, usize> = BTreeMap::new();
    for user_id in state.gateways.values().flat_map(|gateway| gateway.connections.values()) {
        *counts.entry(*user_id).or_default() += 1;
    }
    assert_eq!(state.connections, counts.values().sum::<usize>());
    for (user_id, user) in &state.users {
        assert_eq!(user.connections, counts.get(user_id).copied().unwrap_or_default());
        assert_eq!(user.offline_at.is_some(), user.connections == 0);
    }
    let leaving: BTreeSet<_> =
        state.users.iter().filter_map(|(id, user)| user.offline_at.map(|offline_at| (offline_at, *id))).collect();
    assert_eq!(state.leaving, leaving);
    assert!(counts.keys().all(|user_id| state.users.contains_key(user_id)));
}

proptest! {
    #[test]
    fn any_history_leaves_the_machine_sound(steps in steps(true)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
            assert_sound(&world.state);
        }
    }

    #[test]
    fn full_reports_make_good_whatever_was_lost(steps in steps(true)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        let gateways: Vec<u128> = world.gateways.keys().copied().collect();
        for gateway in gateways {
            world.take(&Step::Report { gateway, is_full: true, is_lost: false });
        }
        prop_assert!(world.state.is_complete());
        // Grace over, leases not.
        world.state.advance(at(world.now + 14_999));
        for gateway in world.gateways.keys().copied().collect::<Vec<_>>() {
            let report = world.next_report(gateway, false);
            world.state.report(report, at(world.now + 14_999));
        }
        world.state.advance(at(world.now + 15_000));
        let online: BTreeSet<UserId> = world.state.users.keys().copied().collect();
        prop_assert_eq!(online, world.connected_users());
    }

    #[test]
    fn who_is_connected_and_reported_is_online_when_nothing_is_lost(steps in steps(false)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
            let now = at(world.now);
            for (id, gateway) in &world.gateways {
                // Reported, and still within the lease.
                let is_heard = world.state.gateways.contains_key(&Uuid::from_u128(*id));
                for (connection_id, who) in &gateway.connections {
                    let is_reported = !gateway.connected.contains(&(*who, *connection_id));
                    if is_heard && is_reported && world.state.gateways[&Uuid::from_u128(*id)].is_complete {
                        prop_assert_eq!(world.state.user(*who, now), there());
                    }
                }
            }
        }
    }

    #[test]
    fn nobody_stays_for_ever(steps in steps(true)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        world.state.advance(at(world.now + 30_000));
        prop_assert_eq!(world.state.gateway_count(), 0);
        prop_assert_eq!(world.state.connection_count(), 0);
        prop_assert_eq!(world.state.user_count(), 0);
        prop_assert!(world.state.leaving.is_empty());
    }
}
