//! What a sweeper of the feed does next: which rows it looks at, which it claims, and how long it leaves things alone.
//!
//! The feed is read in two passes over the same rows, each from where it ended before. The early one reads rows as soon as
//! whoever wrote them must have published them. A row gets its time before it commits; the late pass reads it again once
//! nothing can commit with such a time any more. Now and then the early pass begins at the oldest row again, for what
//! committed later than it ever should. Rows without a mark are remembered, a bounded number of them, until they are seen
//! with one: reading goes past them, so that one row that cannot be published holds up no others.
//!
//! Time is given by the caller; nothing here waits.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

/// Rows read by one step.
pub(crate) const SCAN_ROWS: usize = 5_000;
/// Rows without a mark that are remembered. Above, nothing more is read until some have got theirs.
pub(crate) const WAITING_MAX: usize = 20_000;
/// Rows claimed by one step.
pub(crate) const CLAIM_ROWS: usize = 128;
/// Rows claimed while the plane is thought to be away: some, so that one that cannot be published does not stand for all.
pub(crate) const PROBE_ROWS: usize = 4;
/// Between two readings of the youngest rows.
pub(crate) const INTERVAL: Duration = Duration::from_secs(2);
/// How often reading begins at the oldest row again.
pub(crate) const REWIND: Duration = Duration::from_secs(30 * 60);
/// After how long a row that was published is looked at again, to see its mark.
const VERIFY: Duration = Duration::from_secs(3);
/// After how long, at most, a row that another sweeper has claimed is looked at again.
const RECHECK: Duration = Duration::from_secs(5);
/// For how long a plane, or the database, is left alone after it failed: the first time, and at most.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// One of the two readings of the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Rows that their writer must have published by now.
    Early,
    /// Rows beside which no other can appear any more.
    Late,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step<R> {
    /// Nothing until then.
    Sleep(Instant),
    /// Read [`SCAN_ROWS`] rows after this one, or from the oldest on; then [`Sweep::scanned`].
    Scan(Pass, Option<R>),
    /// Claim these; then [`Sweep::looked_at`], and [`Sweep::published`] for those that were claimed.
    Claim(Vec<R>),
}

/// What a step has read.
#[derive(Debug, Clone)]
pub(crate) struct Scanned<R> {
    /// The rows without a mark, each with the time for which it is another's.
    pub(crate) unmarked: Vec<(R, Duration)>,
    /// The last row read, marked or not; none where there was none.
    pub(crate) last: Option<R>,
    /// Rows read.
    pub(crate) rows: usize,
}

/// How a row was found when it was to be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// It has its mark.
    Marked,
    /// Ours for now.
    Claimed,
    /// Another's, for so long.
    Taken(Duration),
}

/// What became of a row that was claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was published.
    Published,
    /// It cannot be: the row's own fault.
    Unpublishable,
    /// The plane did not take it.
    PlaneAway,
}

/// Failures in a row, and until when they keep us away.
#[derive(Debug, Clone, Copy)]
struct Backoff {
    failures: u32,
    until: Instant,
}

impl Backoff {
    fn failed(&mut self, now: Instant) {
        let factor = 1_u32 << self.failures.min(10);
        self.failures = self.failures.saturating_add(1);
        self.until = now + BACKOFF_MIN.saturating_mul(factor).min(BACKOFF_MAX);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Reading(Pass),
    Resting,
}

/// Sweeps one plane. `R` names a row; rows are read in its order.
#[derive(Debug)]
pub(crate) struct Sweep<R> {
    early: Option<R>,
    late: R,
    stage: Stage,
    next_pass_at: Instant,
    rewind_at: Instant,
    /// Rows without a mark, and from when on each may be claimed.
    waiting: BTreeMap<R, Instant>,
    plane: Backoff,
    database: Backoff,
}

impl<R: Ord + Copy> Sweep<R> {
    /// Begins at the oldest row. Rows before `late` cannot appear any more when the first step reads.
    pub(crate) fn new(now: Instant, late: R) -> Self {
        let rested = Backoff { failures: 0, until: now };
        Self {
            early: None,
            late,
            stage: Stage::Reading(Pass::Early),
            next_pass_at: now,
            rewind_at: now + REWIND,
            waiting: BTreeMap::new(),
            plane: rested,
            database: rested,
        }
    }

    /// What to do now.
    pub(crate) fn next(&mut self, now: Instant) -> Step<R> {
        if now < self.database.until {
            return Step::Sleep(self.database.until);
        }
        if self.stage == Stage::Resting && now >= self.next_pass_at {
            self.begin(now);
        }
        if now >= self.plane.until {
            let due = self.due(now);
            if !due.is_empty() {
                return Step::Claim(due);
            }
        }
        match self.stage {
            Stage::Reading(pass) if self.has_room() => Step::Scan(pass, self.position(pass)),
            Stage::Reading(_) => {
                self.rest(now);
                Step::Sleep(self.next_pass_at)
            }
            Stage::Resting => Step::Sleep(self.next_pass_at),
        }
    }

    /// A step of reading was done.
    pub(crate) fn scanned(&mut self, pass: Pass, scanned: Scanned<R>, now: Instant) {
        self.database.failures = 0;
        for (row, wait) in scanned.unmarked {
            self.waiting.entry(row).or_insert(now + wait.min(RECHECK));
        }
        if let Some(last) = scanned.last {
            match pass {
                Pass::Early => self.early = Some(last),
                Pass::Late => self.late = last,
            }
        }
        if scanned.rows < SCAN_ROWS {
            match pass {
                Pass::Early => self.stage = Stage::Reading(Pass::Late),
                Pass::Late => self.rest(now),
            }
        }
    }

    /// Rows were to be claimed: how each of them was found. Those that are not named are gone.
    pub(crate) fn looked_at(&mut self, asked: &[R], found: &[(R, Found)], now: Instant) {
        self.database.failures = 0;
        for row in asked {
            self.waiting.remove(row);
        }
        for (row, found) in found {
            match found {
                Found::Marked => {}
                Found::Claimed => drop(self.waiting.insert(*row, now + RECHECK)),
                // Not below a second: its claim may not be visible yet.
                Found::Taken(wait) => {
                    let wait = (*wait).clamp(BACKOFF_MIN, RECHECK);
                    self.waiting.insert(*row, now + wait);
                }
            }
        }
    }

    /// What became of the rows that were claimed.
    pub(crate) fn published(&mut self, outcomes: &[(R, Outcome)], now: Instant) {
        for (row, outcome) in outcomes {
            if *outcome == Outcome::Published {
                self.waiting.insert(*row, now + VERIFY);
            }
        }
        if outcomes.iter().any(|(_, outcome)| *outcome == Outcome::Published) {
            self.plane.failures = 0;
        } else if outcomes.iter().any(|(_, outcome)| *outcome == Outcome::PlaneAway) {
            self.plane.failed(now);
        }
    }

    /// The database did not do a step.
    pub(crate) fn database_failed(&mut self, now: Instant) {
        self.database.failed(now);
    }

    /// The oldest row known to lack its mark, or to have got it a moment ago; and how many there are.
    pub(crate) fn waiting(&self) -> (Option<R>, usize) {
        (self.waiting.first_key_value().map(|(row, _)| *row), self.waiting.len())
    }

    fn begin(&mut self, now: Instant) {
        self.stage = Stage::Reading(Pass::Early);
        if now >= self.rewind_at {
            self.early = None;
            self.rewind_at = now + REWIND;
        }
    }

    fn rest(&mut self, now: Instant) {
        self.stage = Stage::Resting;
        self.next_pass_at = now + INTERVAL;
    }

    fn has_room(&self) -> bool {
        self.waiting.len() + SCAN_ROWS <= WAITING_MAX
    }

    fn position(&self, pass: Pass) -> Option<R> {
        match pass {
            Pass::Early => self.early,
            Pass::Late => Some(self.late),
        }
    }

    /// Rows that may be claimed now, those first that could be for longest: who failed goes behind the others.
    fn due(&self, now: Instant) -> Vec<R> {
        let size = if self.plane.failures > 0 { PROBE_ROWS } else { CLAIM_ROWS };
        let mut due: Vec<_> = self.waiting.iter().filter(|(_, at)| **at <= now).map(|(row, at)| (*at, *row)).collect();
        due.sort_unstable();
        due.truncate(size);
        due.into_iter().map(|(_, row)| row).collect()
    }
}

#[cfg(test)]
mod tests;
