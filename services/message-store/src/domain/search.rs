//! In which order a search looks where: blocks of 4,096 entries, the newest first, across all conversations of the caller,
//! until a page is full or enough was looked at.

use std::collections::BinaryHeap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Entries of a block. The migration `clear_text` has the same number.
pub(crate) const BLOCK: i64 = 4_096;
/// Blocks looked into for one page.
pub(crate) const BLOCKS_MAX: usize = 256;
/// Blocks looked into at once.
pub(crate) const BLOCKS_AT_ONCE: usize = 8;

/// A message that was found, and its place in the order of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hit {
    pub(crate) sent_at: DateTime<Utc>,
    pub(crate) conversation_id: Uuid,
    pub(crate) seq: i64,
}

impl Hit {
    /// After everything that was sent at this moment.
    fn end_of(sent_at: DateTime<Utc>) -> Self {
        Self { sent_at, conversation_id: Uuid::max(), seq: i64::MAX }
    }
}

/// What is to be looked through of a conversation. Ordered by its newest entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Scope {
    /// When the entry at `high` was sent.
    pub(crate) top_at: DateTime<Utc>,
    pub(crate) conversation_id: Uuid,
    pub(crate) low: i64,
    pub(crate) high: i64,
}

impl Scope {
    /// What is below its highest block.
    fn below(self, top_at: DateTime<Utc>) -> Self {
        Self { high: self.high / BLOCK * BLOCK - 1, top_at, ..self }
    }
}

/// What was found in the highest block of a scope.
#[derive(Debug, Default)]
pub(crate) struct Probe {
    pub(crate) hits: Vec<Hit>,
    /// When the entry right below the block was sent; none: nothing is there.
    pub(crate) below_at: Option<DateTime<Utc>>,
}

/// A search for one page.
#[derive(Debug)]
pub(crate) struct Search {
    limit: usize,
    after: Option<Hit>,
    open: BinaryHeap<Scope>,
    hits: Vec<Hit>,
    blocks: usize,
}

/// What a search came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) hits: Vec<Hit>,
    /// Where the next page begins; none: nothing more is there.
    pub(crate) next: Option<Hit>,
}

impl Search {
    pub(crate) fn new(scopes: Vec<Scope>, after: Option<Hit>, limit: usize) -> Self {
        Self { limit, after, open: scopes.into(), hits: Vec::new(), blocks: 0 }
    }

    /// What to look into next; nothing: that was all.
    pub(crate) fn next(&mut self) -> Vec<Scope> {
        if self.blocks >= BLOCKS_MAX || self.is_full() {
            return Vec::new();
        }
        let next: Vec<_> = std::iter::from_fn(|| self.open.pop()).take(BLOCKS_AT_ONCE).collect();
        self.blocks += next.len();
        next
    }

    /// What was found there.
    pub(crate) fn note(&mut self, scopes: &[Scope], probes: Vec<Probe>) {
        for (scope, probe) in scopes.iter().zip(probes) {
            self.hits.extend(probe.hits);
            self.open.extend(probe.below_at.map(|top_at| scope.below(top_at)));
        }
        self.hits.sort_unstable_by(|one, other| other.cmp(one));
        self.hits.truncate(self.limit + 1);
    }

    /// One more than a page needs was found, and nothing that was not looked at is as new.
    fn is_full(&self) -> bool {
        let last = self.hits.get(self.limit);
        last.is_some_and(|last| self.open.peek().is_none_or(|scope| scope.top_at < last.sent_at))
    }

    pub(crate) fn finish(mut self) -> Found {
        let is_full = self.is_full();
        if let (Some(scope), false) = (self.open.peek(), is_full) {
            // What is as old as this may stand in blocks that were not looked into.
            let end = Hit::end_of(scope.top_at);
            let end = self.after.map_or(end, |after| end.min(after));
            self.hits.retain(|hit| *hit > end);
            if self.hits.len() <= self.limit {
                return Found { hits: self.hits, next: Some(end) };
            }
        }
        let has_more = self.hits.len() > self.limit;
        self.hits.truncate(self.limit);
        let next = self.hits.last().copied().filter(|_| has_more);
        Found { hits: self.hits, next }
    }
}

#[cfg(test)]
mod tests;
