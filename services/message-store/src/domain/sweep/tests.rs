//! Sweepers over a model of the feed, in virtual time.

use std::ops::Bound;

use proptest::prelude::*;

use super::*;

const EARLY_AGE: i64 = 5_000;
const LATE_AGE: i64 = 25_000;
const LEASE: i64 = 15_000;
const WAIT_MAX: i64 = 120_000;

/// Time and number.
type Key = (i64, u32);
type Looks = Vec<(Key, Found)>;
type Outcomes = Vec<(Key, Outcome)>;

/// A row of the model; times in milliseconds.
#[derive(Debug, Clone)]
struct Row {
    key: Key,
    visible_at: i64,
    is_poisoned: bool,
    is_marked: bool,
    next_try_at: i64,
    tries: Vec<i64>,
}

/// A feed, and a plane that is away for a while.
struct World {
    start: Instant,
    rows: BTreeMap<Key, Row>,
    away: std::ops::Range<i64>,
}

/// A sweeper with what it has done.
struct Sweeper {
    sweep: Sweep<Key>,
    now: i64,
    scans: usize,
    claims_while_away: usize,
}

impl World {
    fn new(rows: Vec<Row>, away: std::ops::Range<i64>) -> Self {
        let rows = rows.into_iter().map(|row| (row.key, row)).collect();
        Self { start: Instant::now(), rows, away }
    }

    fn at(&self, millis: i64) -> Instant {
        self.start + Duration::from_millis(u64::try_from(millis).unwrap())
    }

    fn sweeper(&self, now: i64) -> Sweeper {
        Sweeper { sweep: Sweep::new(self.at(now), (now - LATE_AGE, 0)), now, scans: 0, claims_while_away: 0 }
    }

    /// Lets sweepers work, the one whose time is earliest first.
    fn run(&mut self, sweepers: &mut [Sweeper], until: i64) {
        while let Some(sweeper) = sweepers.iter_mut().min_by_key(|sweeper| sweeper.now).filter(|one| one.now < until) {
            self.step(sweeper);
        }
    }

    fn step(&mut self, sweeper: &mut Sweeper) {
        let now = self.at(sweeper.now);
        match sweeper.sweep.next(now) {
            Step::Sleep(until) => {
                assert!(until > now, "sleeps no time at all");
                sweeper.now = i64::try_from((until - self.start).as_millis()).unwrap();
            }
            Step::Scan(pass, after) => {
                sweeper.scans += 1;
                let scanned = self.scan(sweeper.now, pass, after);
                sweeper.now += 3;
                sweeper.sweep.scanned(pass, scanned, self.at(sweeper.now));
            }
            Step::Claim(keys) => {
                let is_away = self.away.contains(&sweeper.now);
                let (found, outcomes) = self.claim(sweeper.now, &keys, is_away);
                sweeper.claims_while_away += usize::from(is_away && !outcomes.is_empty());
                sweeper.now += 7;
                sweeper.sweep.looked_at(&keys, &found, self.at(sweeper.now));
                sweeper.sweep.published(&outcomes, self.at(sweeper.now));
            }
        }
    }

    fn scan(&self, now: i64, pass: Pass, after: Option<Key>) -> Scanned<Key> {
        let age = if pass == Pass::Early { EARLY_AGE } else { LATE_AGE };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.rows.range((from, Bound::Included((now - age, u32::MAX)))).map(|(_, row)| row);
        let seen: Vec<_> = range.filter(|row| row.visible_at <= now).take(SCAN_ROWS).collect();
        let wait = |row: &Row| Duration::from_millis(u64::try_from(row.next_try_at - now).unwrap_or_default());
        Scanned {
            unmarked: seen.iter().filter(|row| !row.is_marked).map(|row| (row.key, wait(row))).collect(),
            last: seen.last().map(|row| row.key),
            rows: seen.len(),
        }
    }

    fn claim(&mut self, now: i64, keys: &[Key], is_away: bool) -> (Looks, Outcomes) {
        let (mut found, mut outcomes) = (Vec::new(), Vec::new());
        for key in keys {
            let row = self.rows.get_mut(key).unwrap();
            let wait = u64::try_from(row.next_try_at - now).unwrap_or_default();
            let how = match (row.is_marked, wait) {
                (true, _) => Found::Marked,
                (false, 0) => Found::Claimed,
                (false, wait) => Found::Taken(Duration::from_millis(wait)),
            };
            found.push((row.key, how));
            if how == Found::Claimed {
                let outcome = match (is_away, row.is_poisoned) {
                    (true, _) => Outcome::PlaneAway,
                    (false, true) => Outcome::Unpublishable,
                    (false, false) => Outcome::Published,
                };
                row.next_try_at = if is_away { 0 } else { now + ((now - row.key.0) / 2).clamp(LEASE, WAIT_MAX) };
                row.is_marked = outcome == Outcome::Published;
                if !is_away {
                    row.tries.push(now);
                }
                outcomes.push((row.key, outcome));
            }
        }
        (found, outcomes)
    }
}

fn row(number: u32, created_at: i64, late: i64, is_poisoned: bool) -> Row {
    Row {
        key: (created_at, number),
        visible_at: created_at + late,
        is_poisoned,
        is_marked: false,
        next_try_at: 0,
        tries: Vec::new(),
    }
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let one = (0..300_000_i64, prop_oneof![3 => 0..50_i64, 1 => 0..20_000_i64], prop::bool::weighted(0.1));
    prop::collection::vec(one, 0..300).prop_map(|list| {
        (0..).zip(list).map(|(number, (at, late, is_poisoned))| row(number, at, late, is_poisoned)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever fails for however long: in the end each row was published by one sweeper, once; those that cannot be were
    /// tried ever more rarely; and nobody was hammered.
    #[test]
    fn everything_is_published_once(
        rows in rows(),
        away_from in 0..400_000_i64,
        away_for in 0..300_000_i64,
        starts in prop::collection::vec(0..60_000_i64, 1..4),
    ) {
        let mut world = World::new(rows, away_from..away_from + away_for);
        let mut sweepers: Vec<_> = starts.iter().map(|start| world.sweeper(100_000 + start)).collect();
        let end = 900_000;
        world.run(&mut sweepers, end);
        for row in world.rows.values() {
            if row.is_poisoned {
                let gaps = row.tries.windows(2).map(|pair| pair[1] - pair[0]);
                prop_assert!(gaps.clone().all(|gap| gap >= LEASE), "{row:?}");
                prop_assert!(gaps.zip(&row.tries).all(|(gap, at)| gap >= ((at - row.key.0) / 2).min(WAIT_MAX)), "{row:?}");
                prop_assert!(row.tries.len() > 1, "{row:?}");
            } else {
                prop_assert!(row.is_marked && row.tries.len() == 1, "{row:?}");
            }
        }
        for sweeper in &sweepers {
            let seconds = usize::try_from((end - 100_000) / 1_000).unwrap();
            prop_assert!(sweeper.scans <= seconds + 2, "{} scans", sweeper.scans);
            let tries_max = usize::try_from(away_for / 30_000).unwrap() + 6;
            prop_assert!(sweeper.claims_while_away <= tries_max, "{} claims", sweeper.claims_while_away);
        }
    }
}

/// Fresh rows are published soon, however many old ones cannot be.
#[test]
fn poisoned_rows_hold_up_no_others() {
    let mut rows: Vec<_> = (0..4_000).map(|number| row(number, i64::from(number), 0, true)).collect();
    rows.extend((0..50).map(|number| row(10_000 + number, 100_000 + i64::from(number) * 1_000, 0, false)));
    let mut world = World::new(rows, 0..0);
    let mut sweepers = [world.sweeper(60_000)];
    world.run(&mut sweepers, 300_000);
    for row in world.rows.values().filter(|row| !row.is_poisoned) {
        assert!(row.tries.len() == 1 && row.tries[0] - row.key.0 < EARLY_AGE + 5_000, "{row:?}");
    }
}

/// What commits later than it ever should is found when reading begins at the oldest row again.
#[test]
fn what_comes_much_too_late_is_found_at_last() {
    let rows = vec![row(1, 50_000, 600_000, false), row(2, 60_000, 0, false)];
    let mut world = World::new(rows, 0..0);
    let mut sweepers = [world.sweeper(100_000)];
    world.run(&mut sweepers, 1_500_000);
    let is_marked = |world: &World| world.rows.values().map(|row| row.is_marked).collect::<Vec<_>>();
    assert_eq!(is_marked(&world), [false, true]);
    world.run(&mut sweepers, 2_000_000);
    assert_eq!(is_marked(&world), [true, true]);
}

/// While the plane is away, no more is remembered than the bound, and the feed is not read over and over.
#[test]
fn what_is_remembered_is_bounded() {
    let rows = (0..60_000).map(|number| row(number, i64::from(number), 0, false)).collect();
    let mut world = World::new(rows, 0..500_000);
    let mut sweepers = [world.sweeper(100_000)];
    world.run(&mut sweepers, 499_000);
    let (oldest, waiting) = sweepers[0].sweep.waiting();
    assert_eq!((oldest, waiting), (Some((0, 0)), WAITING_MAX));
    assert_eq!(sweepers[0].scans, WAITING_MAX / SCAN_ROWS);
    world.run(&mut sweepers, 700_000);
    assert!(world.rows.values().all(|row| row.is_marked && row.tries.len() == 1));
    assert_eq!(sweepers[0].sweep.waiting(), (None, 0));
}

/// A database that does not answer is left alone for longer and longer.
#[test]
fn the_database_is_left_alone_when_it_fails() {
    let start = Instant::now();
    let mut sweep = Sweep::new(start, (0, 0));
    let (mut now, mut waits) = (start, Vec::new());
    for _ in 0..8 {
        assert_eq!(sweep.next(now), Step::Scan(Pass::Early, None));
        sweep.database_failed(now);
        let Step::Sleep(until) = sweep.next(now) else { panic!("goes on at once") };
        waits.push((until - now).as_secs());
        now = until;
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
    sweep.scanned(Pass::Early, Scanned { unmarked: Vec::new(), last: None, rows: 0 }, now);
    sweep.database_failed(now);
    assert_eq!(sweep.next(now), Step::Sleep(now + BACKOFF_MIN));
}
