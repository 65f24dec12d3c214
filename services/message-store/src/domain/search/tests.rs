use chrono::TimeDelta;
use proptest::prelude::*;

use super::*;

/// A conversation whose entry `seq` was sent `offset + seq * step` ms after the epoch; some of them match.
#[derive(Debug, Clone)]
struct Log {
    id: u128,
    last: i64,
    offset: i64,
    step: i64,
    /// Every so-many-th entry matches.
    every: i64,
}

impl Log {
    fn at(&self, seq: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::milliseconds(self.offset + seq * self.step)
    }

    fn hits(&self) -> impl DoubleEndedIterator<Item = Hit> + '_ {
        let hit = |seq| Hit { sent_at: self.at(seq), conversation_id: Uuid::from_u128(self.id), seq };
        (1..=self.last).filter(|seq| seq % self.every == 0).map(hit)
    }

    /// As the store answers.
    fn scope(&self, after: Option<Hit>) -> Option<Scope> {
        let is_open = |seq: i64| after.is_none_or(|after| self.at(seq) <= after.sent_at);
        let high = (1..=self.last).rev().find(|seq| is_open(*seq))?;
        Some(Scope { top_at: self.at(high), conversation_id: Uuid::from_u128(self.id), low: 1, high })
    }

    fn probe(&self, scope: &Scope, after: Option<Hit>, limit: usize) -> Probe {
        let block = scope.high / BLOCK * BLOCK;
        let inside = |hit: &Hit| hit.seq >= block && hit.seq <= scope.high && after.is_none_or(|after| *hit < after);
        let hits = self.hits().rev().filter(inside).take(limit).collect();
        Probe { hits, below_at: (block > 1).then(|| self.at(block - 1)) }
    }
}

fn page(logs: &[Log], after: Option<Hit>, limit: usize) -> Found {
    let mut search = Search::new(logs.iter().filter_map(|log| log.scope(after)).collect(), after, limit);
    loop {
        let scopes = search.next();
        if scopes.is_empty() {
            return search.finish();
        }
        let log = |scope: &Scope| logs.iter().find(|log| Uuid::from_u128(log.id) == scope.conversation_id).unwrap();
        let probes = scopes.iter().map(|scope| log(scope).probe(scope, after, limit + 1)).collect();
        search.note(&scopes, probes);
    }
}

fn all(logs: &[Log], limit: usize) -> Vec<Hit> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = page(logs, after, limit);
        assert!(page.hits.len() <= limit && page.hits.is_sorted_by(|one, other| one > other));
        found.extend(page.hits);
        match page.next {
            None => return found,
            Some(next) => {
                assert!(after.is_none_or(|after| next < after), "no progress");
                after = Some(next);
            }
        }
    }
}

fn log() -> impl Strategy<Value = Log> {
    (1_u128..1_000, 1_i64..20_000, 0_i64..10_000, 0_i64..4, 1_i64..5_000)
        .prop_map(|(id, last, offset, step, every)| Log { id, last, offset, step: step.max(1), every: every.max(40) })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Pages together are everything, each once, newest first.
    #[test]
    fn pages_hold_everything_once(mut logs in prop::collection::vec(log(), 0..6), limit in 1_usize..60) {
        logs.sort_by_key(|log| log.id);
        logs.dedup_by_key(|log| log.id);
        let mut wanted: Vec<Hit> = logs.iter().flat_map(Log::hits).collect();
        wanted.sort_unstable_by(|one, other| other.cmp(one));
        prop_assert_eq!(all(&logs, limit), wanted);
    }
}

/// A page that would need more blocks than it may look into ends early, and the next one goes on.
#[test]
fn a_rare_word_in_much_text_is_found_page_after_page() {
    let blocks = i64::try_from(BLOCKS_MAX).unwrap();
    let log = Log { id: 1, last: BLOCK * (blocks * 2 + 9), offset: 0, step: 1, every: BLOCK * blocks };
    let first = page(std::slice::from_ref(&log), None, 5);
    assert!(first.next.is_some() && first.hits.len() < 2, "{first:?}");
    assert_eq!(all(std::slice::from_ref(&log), 5).len(), 2);
}
