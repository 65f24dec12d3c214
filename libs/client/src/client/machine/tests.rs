//! The machine against a model of the server, in virtual time.

mod model;

use proptest::{collection::vec, prelude::*};

use self::model::{Fault, Op, World};
use super::*;

fn any_op() -> impl Strategy<Value = Op> {
    let lane = 0..model::CONVERSATIONS;
    prop_oneof![
        6 => lane.clone().prop_map(Op::Send),
        4 => lane.clone().prop_map(Op::OtherWrites),
        2 => Just(Op::SendToDevices),
        3 => Just(Op::DeviceMessage),
        2 => (1..5_usize).prop_map(Op::KeepDeviceMessages),
        2 => lane.prop_map(Op::Begin),
        6 => (1..6_usize, any::<u8>()).prop_map(|(count, luck)| Op::ServerWorks(count, luck)),
        6 => (1..12_usize).prop_map(Op::NetworkDelivers),
        2 => prop_oneof![Just(None), Just(Some(1001)), Just(Some(1012)), Just(Some(4400)), Just(Some(4401))]
            .prop_map(Op::Break),
        1 => Just(Op::Silence),
        3 => (1..2_000_u64).prop_map(Op::Pass),
        2 => any::<bool>().prop_map(Op::Attempt),
        1 => Just(Op::Heartbeat),
        1 => Just(Op::TokenExpiring),
        1 => (0..2_000_u64).prop_map(Op::Draining),
    ]
}

fn any_fault() -> impl Strategy<Value = Op> {
    prop_oneof![Just(Fault::Lose), Just(Fault::Repeat), Just(Fault::LoseDeviceMessages)].prop_map(Op::Fault)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Whatever breaks, and whenever: every message is resolved once and leaves in order, every entry and every device
    /// message is told once and in order, none of these is forgotten before the user has kept it, and a server that keeps
    /// its word is never said to break it.
    #[test]
    fn nothing_is_lost_doubled_or_out_of_order(
        ops in vec(any_op(), 1..150), seed in any::<u64>(), limit in prop::option::of(1..6_u32)
    ) {
        let mut world = World::mixed(seed, limit);
        for op in ops {
            world.apply(op);
        }
        world.come_to_rest();
        let stats = world.machine.stats();
        prop_assert_eq!((stats.violations, stats.digest_mismatches, stats.device_seq_mismatches), (0, 0, 0));
    }

    /// A server that loses or repeats entries is found out, and what is missing comes all the same.
    #[test]
    fn a_server_that_breaks_its_word_is_mended(
        ops in vec(prop_oneof![12 => any_op(), 1 => any_fault()], 1..150), seed in any::<u64>()
    ) {
        let mut world = World::mixed(seed, Some(50));
        for op in ops {
            world.apply(op);
        }
        world.come_to_rest();
    }
}

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn world() -> World {
    let mut world = World::new(7, None);
    world.settle();
    assert!(world.is_live());
    world
}

#[test]
fn a_lost_entry_is_noticed_by_the_next_one() {
    let mut world = world();
    world.apply(Op::OtherWrites(0));
    world.apply(Op::Fault(Fault::Lose));
    world.apply(Op::OtherWrites(0));
    world.apply(Op::OtherWrites(0));
    world.come_to_rest();
    assert_eq!((world.machine.stats().violations, world.machine.stats().syncs), (1, 2));
}

#[test]
fn a_lost_last_entry_is_noticed_by_two_heartbeats() {
    let mut world = world();
    world.apply(Op::OtherWrites(0));
    world.settle();
    world.apply(Op::Fault(Fault::Lose));
    world.apply(Op::OtherWrites(0));
    world.apply(Op::Heartbeat);
    world.settle();
    assert_eq!(world.machine.stats().syncs, 1, "one heartbeat may be a mistake");
    world.apply(Op::Heartbeat);
    world.come_to_rest();
    assert_eq!((world.machine.stats().digest_mismatches, world.machine.stats().syncs), (2, 2));
}

#[test]
fn a_lost_device_message_is_noticed_by_heartbeats_and_comes_on_another_connection() {
    let mut world = world();
    world.apply(Op::DeviceMessage);
    world.apply(Op::Fault(Fault::LoseDeviceMessages));
    world.apply(Op::DeviceMessage);
    for syncs in [1, 1, 2, 2] {
        let stats = world.machine.stats();
        assert_eq!((stats.syncs, stats.connections), (syncs, 1));
        world.apply(Op::Heartbeat);
        world.settle();
    }
    world.come_to_rest();
    let stats = world.machine.stats();
    assert_eq!((stats.syncs, stats.connections, stats.device_seq_mismatches), (3, 2, 4));
}

#[test]
fn a_silent_server_is_left() {
    let mut world = world();
    assert_eq!(world.due_in(), at(65_000), "two heartbeats and some slack");
    world.apply(Op::Silence);
    assert!(!world.is_up());
    world.come_to_rest();
    assert_eq!(world.machine.stats().connections, 2);
}

#[test]
fn waits_grow_and_a_stable_connection_ends_them() {
    let mut world = world();
    let mut waits = Vec::new();
    for _ in 0..6 {
        world.apply(Op::Break(None));
        waits.push(world.machine.backoff.attempts());
        world.apply(Op::Attempt(true));
        world.settle();
    }
    assert_eq!(waits, [1, 2, 3, 4, 5, 6]);
    world.apply(Op::Pass(10_000));
    world.apply(Op::Break(None));
    assert_eq!(world.machine.backoff.attempts(), 1);
}

#[test]
fn jitter_spreads_the_waits() {
    let wait = |seed, has_jitter| {
        let mut world = World::with(seed, Options { has_jitter, begin: Begin::Start, ..Options::default() });
        world.settle();
        world.apply(Op::Break(None));
        world.due_in()
    };
    let mut waits: Vec<_> = (0..50).map(|seed| wait(seed, true)).collect();
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 40 && waits[0] < at(100) && waits[waits.len() - 1] <= at(500), "{waits:?}");
    assert_eq!((wait(1, false), wait(2, false)), (at(500), at(500)));
}

#[test]
fn a_server_that_stops_names_the_moment() {
    let mut world = world();
    world.apply(Op::Draining(4_321));
    world.settle();
    let told = world.now;
    world.apply(Op::Pass(1_000));
    world.apply(Op::Break(Some(1012)));
    assert_eq!(world.machine.deadline(), Some(told + at(4_321)));
}

#[test]
fn retry_after_is_the_least_wait() {
    let mut world = World::new(1, None);
    world.apply(Op::Attempt(false));
    let refused = ConnectError::Upgrade { status: 503, retry_after: Some(Duration::from_secs(9)) };
    world.machine.on_open_failed(world.now, refused);
    let wait = world.due_in();
    assert!(wait >= at(9_000) && wait <= at(10_000), "{wait:?}");
}

#[test]
fn verdicts_that_end_it_end_every_message() {
    for code in [1003, 1007, 1008, 1009, 4500, 4501, 4503, 4509] {
        let mut world = world();
        world.apply(Op::Send(0));
        world.apply(Op::Send(1));
        world.apply(Op::Break(Some(code)));
        assert!(matches!(world.machine.end(), Some(End::NotWanted(end)) if end.code == Some(code)), "{code}");
        assert_eq!(world.ended_sends(), 2);
        world.apply(Op::Send(0));
        assert_eq!(world.ended_sends(), 3, "a message that comes too late is told so");
        assert_eq!(world.machine.deadline(), None);
    }
}

#[test]
fn an_address_without_a_server_is_an_end_only_at_first() {
    let no_server = || ConnectError::Upgrade { status: 404, retry_after: None };
    let mut fresh = World::new(1, None);
    fresh.apply(Op::Attempt(false));
    fresh.machine.on_open_failed(fresh.now, no_server());
    assert!(matches!(fresh.machine.end(), Some(End::NoServer(_))));
    let mut known = world();
    known.apply(Op::Break(None));
    known.machine.on_open_failed(known.now, no_server());
    assert!(known.machine.end().is_none());
}

#[test]
fn an_expired_token_is_renewed_before_the_next_attempt() {
    let mut world = world();
    world.apply(Op::Break(Some(4401)));
    world.hold_token();
    world.apply(Op::Pass(60_000));
    assert_eq!((world.machine.stats().attempts, world.renewals), (1, 1), "it waits for the token, once asked for");
    world.machine.on_token(world.now, Err(RenewError::NotNow { retry_after: Some(at(5_000)) }));
    assert!(world.machine.deadline().unwrap() >= world.now + at(5_000));
    world.apply(Op::Pass(60_000));
    assert_eq!(world.renewals, 2);
    let refusal = Refusal::from_frame(r#"{"code":"refresh_token_reused"}"#).unwrap();
    world.machine.on_token(world.now, Err(RenewError::LoginEnded { source: Box::new(refusal) }));
    assert!(matches!(world.machine.end(), Some(End::LoginEnded(_))));
}

#[test]
fn one_renewal_at_a_time() {
    let mut world = world();
    world.hold_token();
    world.apply(Op::TokenExpiring);
    world.apply(Op::TokenExpiring);
    world.settle();
    world.apply(Op::Break(Some(4401)));
    world.apply(Op::Pass(60_000));
    assert_eq!(world.renewals, 1);
    world.machine.on_token(world.now, Ok("new".to_owned()));
    world.settle();
    assert_eq!(world.machine.stats().attempts, 2);
}

#[test]
fn a_restored_server_is_believed() {
    let mut world = world();
    for _ in 0..3 {
        world.apply(Op::OtherWrites(0));
    }
    world.settle();
    world.restore("another", 1);
    world.apply(Op::OtherWrites(0));
    world.come_to_rest();
    assert_eq!(world.told_rewound, [None]);
    let mut world = model::World::new(3, None);
    world.settle();
    for _ in 0..3 {
        world.apply(Op::OtherWrites(0));
    }
    world.settle();
    world.restore("1", 1);
    world.come_to_rest();
    assert_eq!(world.told_rewound, [Some(model::conversation(0))], "a cursor ahead of the head tells it too");
}

#[test]
fn frames_stay_below_the_limits() {
    let mut world = world();
    for _ in 0..500 {
        world.apply(Op::Send(0));
    }
    assert!(world.waiting_at_server() <= 40, "{} at once", world.waiting_at_server());
    world.apply(Op::Pass(1_000));
    world.apply(Op::Pass(1_000));
    assert!(world.waiting_at_server() <= 128, "half of the server's window");
    world.come_to_rest();
}

#[test]
fn messages_wait_for_the_first_sync_and_no_longer_than_its_refusal() {
    let mut world = World::new(1, None);
    world.apply(Op::Send(0));
    world.apply(Op::Attempt(true));
    assert_eq!(world.waiting_at_server(), 1, "the sync alone");
    world.apply(Op::ServerWorks(1, 6));
    world.apply(Op::NetworkDelivers(1));
    assert_eq!((world.waiting_at_server(), world.is_live()), (1, false), "refused for now: the message leaves");
    world.come_to_rest();
}

#[test]
fn an_internal_error_that_stays_is_told() {
    let mut world = world();
    world.apply(Op::Send(0));
    let id = world.last_sent();
    for _ in 0..8 {
        let refusal = Refusal::from_frame(r#"{"code":"internal"}"#).unwrap();
        let frame = ServerFrame { id: Some(id), body: Body::Error(Box::new(refusal)) };
        world.machine.on_frame(world.now, frame);
        world.forget_client_frames();
        world.apply(Op::Pass(20_000));
        world.apply(Op::Heartbeat);
        world.settle_network();
    }
    assert!(matches!(world.fate(id), Some(Err(SendError::Refused(refusal))) if refusal.is(Code::Internal)));
}
