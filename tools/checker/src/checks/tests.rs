//! Each check is shown a history that violates it: a check that cannot fail is worth nothing.

use std::collections::BTreeMap;

use entrenous_model::{DeviceId, EntryId, UserId};
use uuid::Uuid;

use super::*;
use crate::{Event, LogEntry, MemberChange, Synced};

const ALICE: u128 = 1;
const BOB: u128 = 2;
const CAROL: u128 = 3;

fn user(number: u128) -> UserId {
    Uuid::from_u128(number).into()
}

fn conversation() -> ConversationId {
    Uuid::from_u128(100).into()
}

fn id(number: u128) -> EntryId {
    Uuid::from_u128(1_000 + number).into()
}

/// A small history; connection 1 is Alice's, 2 Bob's.
struct Story {
    history: History,
    operations: u64,
}

impl Story {
    fn new() -> Self {
        let mut story = Self { history: History::default(), operations: 0 };
        story.tell(What::Began { conversation: conversation(), members: vec![user(ALICE), user(BOB)] });
        for (connection, who) in [(1, ALICE), (2, BOB)] {
            let device = DeviceId::from(Uuid::from_u128(who));
            story.tell(What::Connected { connection, user: user(who), device });
        }
        story
    }

    fn tell(&mut self, what: What) -> &mut Self {
        let at_us = u64::try_from(self.history.events.len()).unwrap();
        self.history.events.push(Event { at_us, what });
        self
    }

    fn sending(&mut self, connection: Option<u64>, message: u128) -> u64 {
        self.operations += 1;
        let (operation, conversation) = (self.operations, conversation());
        self.tell(What::Sending { operation, connection, user: user(ALICE), conversation, id: id(message) });
        operation
    }

    fn sent(&mut self, connection: Option<u64>, message: u128, seq: u64) -> &mut Self {
        let operation = self.sending(connection, message);
        self.tell(What::Acknowledged { operation, seq })
    }

    fn saw(&mut self, connection: u64, seqs: impl IntoIterator<Item = u64>) -> &mut Self {
        for seq in seqs {
            let (conversation, id) = (conversation(), id(seq.into()));
            self.tell(What::Saw { connection, conversation, seq, id });
        }
        self
    }

    fn saw_ack(&mut self, connection: u64, seq: u64) -> &mut Self {
        let (conversation, id) = (conversation(), id(seq.into()));
        self.tell(What::SawAck { connection, conversation, seq, id })
    }

    fn sync(&mut self, connection: u64, cursor: u64) -> &mut Self {
        let cursors = [(conversation(), cursor)].into();
        self.tell(What::SyncBegan { connection, cursors, from_start: false })
    }

    fn synced(&mut self, connection: u64, sent: Option<(u64, u64, u64)>) -> &mut Self {
        let conversations = sent.map(|(starts_at, sent_up_to, last_seq)| Synced {
            conversation: conversation(),
            starts_at,
            last_seq,
            sent_up_to,
            has_more: false,
        });
        self.tell(What::SyncEnded { connection, conversations: conversations.into_iter().collect() })
    }

    fn read(&mut self, who: u128, entries: impl IntoIterator<Item = LogEntry>) -> &mut Self {
        let entries = entries.into_iter().collect();
        self.tell(What::ReadLog { user: user(who), conversation: conversation(), entries })
    }

    fn reads(&mut self, who: u128, seq: u64, is_answered: bool) -> &mut Self {
        let (user, conversation) = (user(who), conversation());
        self.tell(What::Reading { user, conversation, seq });
        if is_answered {
            self.tell(What::HasRead { user, conversation, seq });
        }
        self
    }

    fn told_unread(&mut self, who: u128, read_seq: u64, unread_count: u64, seqs: &[u64]) -> &mut Self {
        let (user, conversation, seqs) = (user(who), conversation(), seqs.to_vec());
        self.tell(What::ReadUnread { user, conversation, read_seq, unread_count, seqs })
    }

    fn found(&self) -> Vec<Check> {
        let mut found: Vec<_> = check(&self.history).violations.iter().map(|violation| violation.check).collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// The entry that message `seq` would be.
fn entry(seq: u64) -> LogEntry {
    LogEntry { seq, id: id(seq.into()), sender: user(ALICE), member: None, is_message: true, is_countable: true }
}

fn change(seq: u64, who: u128, is_member: bool) -> LogEntry {
    LogEntry {
        member: Some(MemberChange { user: user(who), is_member }),
        is_message: false,
        is_countable: false,
        ..entry(seq)
    }
}

fn log(last: u64) -> impl Iterator<Item = LogEntry> {
    (1..=last).map(entry)
}

#[test]
fn a_good_history_has_no_violations_and_survives_being_written() {
    let mut story = Story::new();
    story.sync(2, 0).synced(2, None).sync(1, 0).synced(1, None);
    story.sent(Some(1), 1, 1).saw_ack(1, 1).saw(2, [1]);
    let unknown = story.sending(Some(1), 2);
    story.tell(What::Indeterminate { operation: unknown, reason: "closed".into(), is_answer: false });
    story.tell(What::Disconnected { connection: 1, code: None }).saw(2, [2]);
    story.sent(None, 2, 2);
    let refused = story.sending(None, 9);
    story.tell(What::Refused { operation: refused, code: "forbidden".into() });
    story.tell(What::Settled { connection: 2 }).read(ALICE, log(2)).read(BOB, log(2));
    let report = check(&story.history);
    assert!(report.is_ok(), "{report}");
    assert_eq!((report.counts.messages, report.counts.sends, report.counts.repeated), (3, 4, 1));
    let mut text = Vec::new();
    story.history.write(&mut text).unwrap();
    assert_eq!(History::read(text.as_slice()).unwrap(), story.history);
    assert!(History::read(b"{}".as_slice()).is_err());
}

#[test]
fn an_acknowledged_message_that_is_gone_is_found() {
    let mut story = Story::new();
    story.sent(Some(1), 1, 1).sent(Some(1), 2, 2).read(ALICE, log(1));
    assert_eq!(story.found(), [Check::Acknowledged]);
    let mut unread = Story::new();
    unread.sent(Some(1), 1, 1);
    assert_eq!(unread.found(), [Check::Acknowledged]);
}

#[test]
fn an_acknowledged_message_at_another_seq_is_found() {
    let mut story = Story::new();
    story.sent(Some(1), 2, 1).read(ALICE, log(2));
    assert_eq!(story.found(), [Check::Acknowledged]);
}

#[test]
fn two_acks_that_differ_are_found() {
    let mut story = Story::new();
    story.sent(Some(1), 1, 1).sent(None, 1, 2).read(ALICE, log(2));
    assert_eq!(story.found(), [Check::Acknowledged]);
}

#[test]
fn a_log_that_is_behind_an_ack_is_found() {
    let mut story = Story::new();
    story.sent(None, 1, 1).sent(None, 2, 2).read(ALICE, log(2)).read(BOB, log(1));
    assert_eq!(story.found(), [Check::Acknowledged]);
}

#[test]
fn a_refused_message_in_the_log_is_found() {
    let mut story = Story::new();
    let operation = story.sending(None, 1);
    story.tell(What::Refused { operation, code: "forbidden".into() }).read(ALICE, log(1));
    assert_eq!(story.found(), [Check::RefusedNotStored]);
}

#[test]
fn logs_with_gaps_or_another_beginning_are_found() {
    let mut gap = Story::new();
    gap.read(ALICE, [entry(1), entry(3)]);
    assert_eq!(gap.found(), [Check::OneLog]);
    let mut late = Story::new();
    late.read(ALICE, [entry(2), entry(3)]);
    assert_eq!(late.found(), [Check::OneLog]);
}

#[test]
fn logs_that_differ_are_found() {
    let mut story = Story::new();
    story.read(ALICE, log(2)).read(BOB, [entry(1), LogEntry { id: id(7), ..entry(2) }]);
    assert_eq!(story.found(), [Check::OneLog]);
}

#[test]
fn what_was_seen_and_is_not_in_the_log_is_found() {
    let mut other = Story::new();
    other.sync(2, 0).synced(2, None).saw(2, [1]).read(ALICE, [LogEntry { id: id(7), ..entry(1) }]);
    assert_eq!(other.found(), [Check::OneLog]);
    let mut gone = Story::new();
    gone.sync(2, 0).synced(2, None).saw(2, [1, 2]).read(ALICE, log(1));
    assert_eq!(gone.found(), [Check::OneLog]);
}

#[test]
fn a_senders_messages_out_of_order_are_found() {
    let mut story = Story::new();
    let (first, second) = (story.sending(Some(1), 2), story.sending(Some(1), 1));
    story.tell(What::Acknowledged { operation: first, seq: 2 });
    story.tell(What::Acknowledged { operation: second, seq: 1 }).read(ALICE, log(2));
    assert_eq!(story.found(), [Check::SenderOrder]);
}

#[test]
fn an_error_ends_the_promise_of_order() {
    let mut story = Story::new();
    let first = story.sending(Some(1), 2);
    let (failed, last) = (story.sending(Some(1), 8), story.sending(Some(1), 1));
    story.tell(What::Indeterminate { operation: failed, reason: "unavailable".into(), is_answer: true });
    story.tell(What::Acknowledged { operation: last, seq: 1 });
    story.tell(What::Acknowledged { operation: first, seq: 2 }).read(ALICE, log(2));
    assert_eq!(story.found(), []);
}

#[test]
fn a_message_before_one_that_was_acknowledged_earlier_is_found() {
    let mut story = Story::new();
    story.sent(None, 2, 2).sent(None, 1, 1).read(ALICE, log(2));
    assert_eq!(story.found(), [Check::RealTimeOrder]);
}

#[test]
fn an_id_in_two_places_is_found() {
    let mut story = Story::new();
    story.read(ALICE, [entry(1), LogEntry { id: id(1), ..entry(2) }]);
    assert_eq!(story.found(), [Check::NoIdTwice]);
    let mut seen = Story::new();
    let (conversation, twice) = (conversation(), id(1));
    seen.sync(2, 0).synced(2, None).saw(2, [1]);
    seen.tell(What::Saw { connection: 2, conversation, seq: 2, id: twice });
    assert_eq!(seen.found(), [Check::NoIdTwice]);
}

fn with_bob_removed_at_2() -> Story {
    let mut story = Story::new();
    story.sync(2, 0).synced(2, None).saw(2, [1, 2]);
    story
}

fn removal_log(last: u64) -> Vec<LogEntry> {
    log(last).map(|entry| if entry.seq == 2 { change(2, BOB, false) } else { entry }).collect()
}

#[test]
fn the_removal_may_be_seen_and_nothing_later() {
    let mut good = with_bob_removed_at_2();
    good.read(ALICE, removal_log(3)).tell(What::Settled { connection: 2 });
    assert_eq!(good.found(), []);
    let mut bad = with_bob_removed_at_2();
    bad.saw(2, [3]).read(ALICE, removal_log(3));
    assert_eq!(bad.found(), [Check::Visibility]);
    let mut read = with_bob_removed_at_2();
    read.read(ALICE, removal_log(3)).read(BOB, removal_log(3));
    assert_eq!(read.found(), [Check::Visibility]);
}

#[test]
fn who_joins_sees_from_there_on() {
    let log = |last| log(last).map(|entry| if entry.seq == 3 { change(3, CAROL, true) } else { entry });
    let device = DeviceId::from(Uuid::from_u128(CAROL));
    let carol = What::Connected { connection: 3, user: user(CAROL), device };
    let joined = What::Joined { connection: 3, conversation: conversation(), seq: 3 };
    let mut good = Story::new();
    good.tell(carol.clone()).tell(What::SyncBegan { connection: 3, cursors: BTreeMap::default(), from_start: true });
    good.synced(3, None).tell(joined.clone()).saw(3, [3, 4]).tell(What::Settled { connection: 3 });
    good.read(ALICE, log(4)).read(CAROL, log(4).skip(2));
    assert_eq!(good.found(), []);
    let mut bad = Story::new();
    bad.tell(carol).sync(3, 1).saw(3, [2]).read(ALICE, log(4));
    assert_eq!(bad.found(), [Check::Visibility]);
}

#[test]
fn holes_and_repeats_in_a_live_stream_are_found() {
    for (seqs, is_good) in [(vec![1, 2, 3], true), (vec![1, 3], false), (vec![1, 2, 2, 3], false), (vec![2, 3], false)]
    {
        let mut story = Story::new();
        story.sync(2, 0).synced(2, None).saw(2, seqs.clone()).read(ALICE, log(3));
        assert_eq!(story.found().is_empty(), is_good, "{seqs:?}");
    }
}

#[test]
fn a_tail_that_never_came_is_found() {
    let mut story = Story::new();
    story.sync(2, 0).synced(2, None).saw(2, [1]).tell(What::Settled { connection: 2 }).read(ALICE, log(2));
    assert_eq!(story.found(), [Check::LiveStream]);
}

#[test]
fn an_ack_stands_in_the_place_of_its_entry() {
    let mut good = Story::new();
    good.sync(1, 0).synced(1, None).saw(1, [1]).sent(Some(1), 2, 2).saw_ack(1, 2).saw(1, [3]).read(BOB, log(3));
    assert_eq!(good.found(), []);
    let mut early = Story::new();
    early.sync(1, 0).synced(1, None).sent(Some(1), 2, 2).saw_ack(1, 2).saw(1, [1, 3]).read(BOB, log(3));
    assert_eq!(early.found(), [Check::LiveStream]);
    let mut both = Story::new();
    both.sync(1, 0).synced(1, None).sent(Some(1), 1, 1).saw(1, [1]).saw_ack(1, 1).read(BOB, log(1));
    assert_eq!(both.found(), [Check::LiveStream]);
}

#[test]
fn acks_while_a_sync_replays_do_not_count() {
    let mut story = Story::new();
    story.sync(1, 0).sent(Some(1), 2, 2).saw_ack(1, 2).saw(1, [1, 2]).synced(1, Some((1, 2, 2))).saw(1, [3]);
    story.read(BOB, log(3));
    assert_eq!(story.found(), []);
}

#[test]
fn who_is_a_member_again_and_not_told_yet_is_acknowledged_at_once() {
    let mut story = Story::new();
    story.tell(What::SyncBegan { connection: 1, cursors: BTreeMap::new(), from_start: true }).synced(1, None);
    story.sent(Some(1), 3, 3).saw_ack(1, 3);
    story.tell(What::Joined { connection: 1, conversation: conversation(), seq: 2 }).saw(1, [2, 3]);
    story.read(BOB, [change(1, ALICE, false), change(2, ALICE, true), entry(3)]);
    assert_eq!(story.found(), []);
}

#[test]
fn what_was_live_may_be_on_its_way_when_a_sync_begins_and_then_the_replay_begins_again_once() {
    for (sent, is_good) in [
        (vec![3, 4, 5], true),
        (vec![3, 4, 3, 4, 5], true),
        (vec![3, 4, 4, 5], false),
        (vec![3, 4, 3, 4, 3, 4, 5], false),
        (vec![3, 4, 2, 3, 4, 5], false),
    ] {
        let mut story = Story::new();
        story.sync(2, 0).synced(2, None).saw(2, [1, 2]);
        story.sync(2, 2).saw(2, sent.clone()).synced(2, Some((3, 5, 5))).saw(2, [6]).read(ALICE, log(6));
        assert_eq!(story.found().is_empty(), is_good, "{sent:?}");
    }
    let mut story = Story::new();
    story.sync(2, 2).saw(2, [3, 4, 3, 4, 5]).synced(2, Some((3, 5, 5))).read(ALICE, log(5));
    assert_eq!(story.found(), [Check::LiveStream], "it was not live before");
}

#[test]
fn what_was_live_stays_so_where_a_sync_was_refused_and_its_acks_stand_in_their_places() {
    for (cursor, is_good) in [(4, true), (2, true), (1, false)] {
        let mut story = Story::new();
        story.sync(1, 0).synced(1, None).saw(1, [1, 2]);
        // The first is refused; the second is on its way while what is live still comes.
        story.sync(1, 2).sync(1, cursor).saw_ack(1, 3).saw_ack(1, 4).saw(1, [5]);
        let replayed = 3.max(cursor + 1);
        story.saw(1, replayed..=5).synced(1, Some((replayed, 5, 5))).read(ALICE, log(5));
        assert_eq!(story.found().is_empty(), is_good, "{cursor}");
    }
}

#[test]
fn a_sync_that_says_other_than_it_sent_is_found() {
    for (sent, said) in [
        (vec![1, 2], Some((2, 2, 2))),
        (vec![1, 2], Some((1, 3, 3))),
        (vec![1], Some((1, 1, 2))),
        (vec![1], None),
        (vec![], Some((1, 2, 2))),
    ] {
        let mut story = Story::new();
        story.sync(2, 0).saw(2, sent.clone()).synced(2, said).read(ALICE, log(3));
        assert_eq!(story.found(), [Check::LiveStream], "{sent:?} {said:?}");
    }
}

#[test]
fn entries_before_a_sync_or_while_paused_are_found() {
    let mut before = Story::new();
    before.saw(2, [1]).read(ALICE, log(1));
    assert_eq!(before.found(), [Check::LiveStream]);
    let mut left = Story::new();
    left.sync(2, 0).synced(2, None).saw(2, [1]).tell(What::Left { connection: 2, conversation: conversation() });
    left.saw(2, [2]).read(ALICE, log(2));
    assert_eq!(left.found(), [Check::LiveStream]);
}

#[test]
fn who_joined_again_while_away_begins_there() {
    let log = |last: u64| {
        log(last).map(|entry| match entry.seq {
            3 => change(3, BOB, false),
            5 => change(5, BOB, true),
            _ => entry,
        })
    };
    for (seqs, is_good) in [([5, 6], true), ([2, 3], true), ([6, 7], false)] {
        let mut story = Story::new();
        story.sync(2, 1).saw(2, seqs).synced(2, Some((seqs[0], seqs[1], seqs[1]))).read(ALICE, log(7));
        assert_eq!(story.found().is_empty(), is_good, "{seqs:?}");
    }
}

#[test]
fn a_conversation_of_which_nothing_came_is_found() {
    let mut story = Story::new();
    story.tell(What::SyncBegan { connection: 2, cursors: BTreeMap::new(), from_start: true });
    story.synced(2, None).tell(What::Settled { connection: 2 }).read(ALICE, log(1));
    assert_eq!(story.found(), [Check::LiveStream]);
}

#[test]
fn unread_counts_that_are_not_what_the_log_says_are_found() {
    let log = |last| log(last).map(|entry| if entry.seq == 3 { change(3, CAROL, true) } else { entry });
    for (who, is_answered, told, is_good) in [
        // Read up to 2; of Alice's 4 and 5 nothing is.
        (BOB, true, (2, 2, vec![4, 5]), true),
        (BOB, true, (0, 3, vec![2, 4, 5]), false),
        (BOB, true, (2, 3, vec![4, 5]), false),
        (BOB, true, (2, 2, vec![3, 4, 5]), false),
        (BOB, true, (4, 1, vec![5]), false),
        // Nobody knows whether the receipt was kept.
        (BOB, false, (2, 2, vec![4, 5]), true),
        (BOB, false, (0, 4, vec![1, 2, 4, 5]), true),
        (BOB, false, (1, 3, vec![2, 4, 5]), false),
        // Who sends has read, and who comes later begins there.
        (ALICE, false, (5, 0, vec![]), true),
        (ALICE, false, (2, 0, vec![]), false),
        (CAROL, false, (2, 2, vec![4, 5]), true),
        (CAROL, false, (0, 4, vec![1, 2, 4, 5]), false),
    ] {
        let mut story = Story::new();
        if who != CAROL {
            story.reads(who, 2, is_answered);
        }
        story.told_unread(who, told.0, told.1, &told.2).read(ALICE, log(5));
        let expected: &[Check] = if is_good { &[] } else { &[Check::Unread] };
        assert_eq!(story.found(), expected, "{who} {is_answered} {told:?}");
    }
}

#[test]
fn a_read_cursor_that_goes_back_is_found() {
    let mut story = Story::new();
    story.reads(BOB, 2, false).told_unread(BOB, 2, 1, &[3]).told_unread(BOB, 0, 3, &[1, 2, 3]).read(ALICE, log(3));
    assert_eq!(story.found(), [Check::Unread]);
}

#[test]
fn an_answer_that_the_protocol_does_not_allow_is_found() {
    let mut story = Story::new();
    story.tell(What::Unexpected { summary: "sync was refused".to_owned() });
    assert_eq!(story.found(), [Check::Answers]);
}

#[test]
fn a_violation_is_shown_with_what_was_done_before_and_without_the_rest_of_the_log() {
    let mut story = Story::new();
    for number in 0..4 {
        story.tell(What::Fault { name: format!("fault {number}") });
    }
    let gone = log(50).chain((52..=80).map(entry)).collect::<Vec<_>>();
    story.read(ALICE, gone).tell(What::Fault { name: "later".to_owned() });
    let report = check(&story.history);
    let [violation] = report.violations.as_slice() else { panic!("{report}") };
    let [first, second, read] = violation.events.as_slice() else { panic!("{report}") };
    assert_eq!(first.what, What::Fault { name: "fault 2".to_owned() });
    assert_eq!(second.what, What::Fault { name: "fault 3".to_owned() });
    let What::ReadLog { entries, .. } = &read.what else { panic!("{report}") };
    assert_eq!(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [49, 50, 52, 53]);
}

#[test]
fn every_check_has_a_history_above_that_violates_it() {
    let tests = include_str!("tests.rs");
    for check in Check::ALL {
        let expectation = format!("[Check::{check:?}]");
        assert!(tests.contains(&expectation), "{check:?}");
    }
}

#[test]
fn what_a_sync_left_paused_the_next_one_replays() {
    let mut story = Story::new();
    story.sync(1, 0).sent(Some(1), 2, 2).saw_ack(1, 2);
    let paused = Synced { conversation: conversation(), starts_at: 1, last_seq: 2, sent_up_to: 0, has_more: true };
    story.tell(What::SyncEnded { connection: 1, conversations: vec![paused] });
    story.tell(What::SyncBegan { connection: 1, cursors: BTreeMap::new(), from_start: true });
    story.sent(Some(1), 3, 3).saw_ack(1, 3).saw(1, [1, 2, 3]).synced(1, Some((1, 3, 3))).saw(1, [4]);
    story.read(BOB, log(4));
    assert_eq!(story.found(), []);
}

#[test]
fn an_error_that_was_lost_with_the_connection_ends_the_promise_of_order() {
    for (is_repeated, is_good) in [(true, true), (false, false)] {
        let mut story = Story::new();
        let (first, second) = (story.sending(Some(1), 2), story.sending(Some(1), 1));
        for operation in [first, second] {
            story.tell(What::Indeterminate { operation, reason: "closed".into(), is_answer: false });
        }
        if is_repeated {
            story.sent(None, 2, 2);
        }
        story.read(ALICE, log(2));
        assert_eq!(story.found().is_empty(), is_good, "{is_repeated}");
    }
}
