//! Whatever the live plane loses, it is caught up with from before it was published; and nothing is read for nothing.

use std::{ops::RangeInclusive, time::Duration};

use bytes::Bytes;
use entrenous_protocol::live::{LiveKind, LiveMessage, Preamble, encode_numbers, shard_of};
use proptest::prelude::*;
use tokio::time::Instant;
use uuid::Uuid;

use super::continuity::{Action, Bounds, Continuity};

const BOUNDS: Bounds = Bounds { degraded_after: Duration::from_secs(3), cut_off_after: Duration::from_secs(15) };

/// A gateway, its clock, and one publisher that it may or may not hear.
struct World {
    started_at: Instant,
    now: Instant,
    continuity: Continuity,
    born_at: Instant,
    numbers: Vec<u64>,
    /// What the gateway was told to do, and when.
    actions: Vec<(Duration, Action)>,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let numbers = vec![0; 1_024];
        let continuity = Continuity::new(BOUNDS, now);
        Self { started_at: now, now, continuity, born_at: now, numbers, actions: Vec::new() }
    }

    /// A world in which the publisher is known and everything is as it should be.
    fn settled() -> Self {
        let mut world = World::new();
        world.beat(true);
        world.pass(Duration::from_secs(1), true);
        assert_eq!(world.actions, []);
        world
    }

    fn publish(&mut self, conversation: u128, is_heard: bool) {
        let subject = Uuid::from_u128(conversation);
        let number = &mut self.numbers[usize::from(shard_of(subject))];
        *number += 1;
        let preamble = Preamble { publisher: 7, number: *number, subject, ..Preamble::empty(LiveKind::Entry) };
        self.hear(&LiveMessage { preamble, body: Bytes::new(), trace: None }, is_heard);
    }

    fn beat(&mut self, is_heard: bool) {
        let age = u64::try_from(self.now.duration_since(self.born_at).as_millis()).unwrap();
        let preamble = Preamble { publisher: 7, seq: age, ..Preamble::empty(LiveKind::Beat) };
        self.hear(&LiveMessage { preamble, body: encode_numbers(&self.numbers).into(), trace: None }, is_heard);
    }

    fn hear(&mut self, message: &LiveMessage, is_heard: bool) {
        if is_heard {
            self.continuity.on_message(message, self.now);
            self.act();
        }
    }

    /// Time passes in steps of the gateway's tick; NATS answers, or it does not. Nobody beats.
    fn pass(&mut self, time: Duration, is_connected: bool) {
        for _ in 0..time.as_millis() / 250 {
            self.now += Duration::from_millis(250);
            if is_connected {
                self.continuity.on_heard(self.now);
            }
            self.act();
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.continuity.next(self.now) {
            self.actions.push((self.now.duration_since(self.started_at), action));
        }
    }

    fn caught_up(&mut self, is_done: bool) {
        self.continuity.on_caught_up(is_done, self.now);
        self.act();
    }

    fn since(&self, seconds: u64) -> Action {
        Action::CatchUp(self.started_at + Duration::from_secs(seconds))
    }

    fn take(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions).into_iter().map(|(_, action)| action).collect()
    }
}

#[test]
fn nothing_is_read_while_everything_comes() {
    let mut world = World::settled();
    for second in 0..100 {
        world.publish(second, true);
        world.beat(true);
        world.pass(Duration::from_secs(1), true);
    }
    assert_eq!(world.actions, []);
}

#[test]
fn a_lost_message_shows_by_the_next_one_in_its_shard() {
    let mut world = World::settled();
    world.beat(true);
    world.publish(1, false);
    world.publish(1, true);
    assert_eq!(world.take(), [world.since(1)]);
    world.caught_up(true);
    world.publish(1, true);
    assert_eq!(world.take(), []);
}

#[test]
fn a_lost_last_message_shows_by_the_beat() {
    let mut world = World::settled();
    world.publish(1, false);
    world.pass(Duration::from_secs(1), true);
    assert_eq!(world.take(), []);
    world.beat(true);
    assert_eq!(world.take(), [world.since(0)]);
}

#[test]
fn a_publisher_that_falls_silent_is_looked_after_ever_more_seldom() {
    let mut world = World::settled();
    for _ in 0..60 {
        world.pass(Duration::from_secs(1), true);
        world.caught_up(true);
    }
    let at: Vec<u64> = world.actions.iter().map(|(at, _)| at.as_secs()).collect();
    assert_eq!(at, [3, 6, 12, 24, 48]);
    assert!(world.actions.iter().all(|(_, action)| matches!(action, Action::CatchUp(_))), "{:?}", world.actions);
}

#[test]
fn one_that_is_met_late_is_asked_about_from_its_birth() {
    let mut world = World::new();
    world.pass(Duration::from_secs(10), true);
    world.born_at = world.now;
    // Partitioned from us until now.
    world.publish(1, false);
    world.pass(Duration::from_secs(5), true);
    world.publish(1, true);
    world.beat(true);
    assert_eq!(world.take(), [world.since(10)]);
}

#[test]
fn a_short_interruption_is_caught_up_with_and_not_spoken_of() {
    let mut world = World::settled();
    world.pass(Duration::from_secs(1), false);
    world.continuity.on_interrupted(world.now);
    world.act();
    assert_eq!(world.take(), [world.since(0)]);
    world.caught_up(true);
    assert_eq!(world.take(), []);
}

#[test]
fn a_long_one_is_told_and_at_its_end_clients_are_sent_away() {
    let mut world = World::settled();
    world.pass(Duration::from_secs(4), false);
    assert!(!world.continuity.is_heard(world.now));
    assert_eq!(world.take(), [Action::Degrade]);
    world.pass(Duration::from_secs(12), false);
    assert_eq!(world.take(), [Action::CutOff]);
    world.pass(Duration::from_secs(60), false);
    world.continuity.on_interrupted(world.now);
    world.act();
    assert_eq!(world.take(), [world.since(0)]);
    world.caught_up(true);
    assert_eq!(world.take(), [Action::Restore]);
    assert!(world.continuity.is_heard(world.now));
}

#[test]
fn a_silence_without_a_break_counts_as_one() {
    let mut world = World::settled();
    world.pass(Duration::from_secs(5), false);
    world.beat(true);
    assert_eq!(world.take(), [Action::Degrade, world.since(0)]);
}

#[test]
fn without_the_store_it_says_that_something_may_be_missing_and_tries_on() {
    let mut world = World::settled();
    world.publish(1, false);
    world.beat(true);
    for _ in 0..5 {
        world.caught_up(false);
        world.pass(Duration::from_secs(1), true);
        world.beat(true);
    }
    let actions = world.take();
    assert_eq!(actions.iter().filter(|action| **action == world.since(0)).count(), 6, "{actions:?}");
    assert_eq!(actions.iter().filter(|action| **action == Action::Degrade).count(), 1);
    assert!(!actions.contains(&Action::CutOff));
    world.caught_up(true);
    assert_eq!(world.take(), [Action::Restore]);
}

/// What happens in a quarter of a second.
#[derive(Debug, Clone)]
struct Step {
    conversations: Vec<u128>,
    is_connected: bool,
    is_read: bool,
}

fn step() -> impl Strategy<Value = Step> {
    (prop::collection::vec(0_u128..4, 0..3), prop::bool::weighted(0.9), prop::bool::weighted(0.5))
        .prop_map(|(conversations, is_connected, is_read)| Step { conversations, is_connected, is_read })
}

/// The times that a read since then covers, when it was started now.
fn covered(since: Instant, now: Instant) -> RangeInclusive<Instant> {
    since..=now
}

proptest! {
    #[test]
    fn whatever_is_lost_is_caught_up_with(steps in prop::collection::vec(step(), 0..200)) {
        let mut world = World::settled();
        let mut lost: Vec<Instant> = Vec::new();
        let mut reading = None;
        let calm = Step { conversations: Vec::new(), is_connected: true, is_read: true };
        for (at, step) in steps.into_iter().chain(std::iter::repeat_n(calm, 40)).enumerate() {
            for conversation in step.conversations {
                world.publish(conversation, step.is_connected);
                if !step.is_connected {
                    lost.push(world.now);
                }
            }
            if at % 4 == 0 {
                world.beat(step.is_connected);
            }
            world.pass(Duration::from_millis(250), step.is_connected);
            for action in world.take() {
                if let Action::CatchUp(since) = action {
                    reading = Some(covered(since, world.now));
                }
            }
            if step.is_read && let Some(read) = reading.take() {
                lost.retain(|at| !read.contains(at));
                world.caught_up(true);
                for action in world.take() {
                    if let Action::CatchUp(since) = action {
                        reading = Some(covered(since, world.now));
                    }
                }
            }
        }
        prop_assert!(lost.is_empty(), "never read: {lost:?}");
    }
}
