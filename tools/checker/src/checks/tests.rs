//! Each check is shown a history that violates it: a check that cannot fail is worth nothing.

use std::{collections::BTreeMap, time::Duration};

use entrenous_model::{DeviceId, EntryId, Timestamp, UserId};
use entrenous_protocol::{EntryKind, entry::Role, scheduled::ScheduledState};
use uuid::Uuid;

use super::*;
use crate::{Change, Event, LogEntry, MemberChange, Plan, Planned, Synced};

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

/// So many seconds after some moment.
fn at(seconds: u64) -> Timestamp {
    serde_json::from_str::<Timestamp>("\"2026-11-20T10:00:00.000Z\"").unwrap() + Duration::from_secs(seconds)
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
    LogEntry {
        seq,
        id: id(seq.into()),
        sender: user(ALICE),
        kind: EntryKind::Message,
        sent_at: at(seq),
        version: None,
        member: None,
        is_message: true,
        is_countable: true,
    }
}

fn change(seq: u64, who: u128, is_member: bool) -> LogEntry {
    role(seq, who, is_member.then_some(Role::Member))
}

/// Alice says what somebody is.
fn role(seq: u64, who: u128, role: Option<Role>) -> LogEntry {
    LogEntry { member: Some(MemberChange { user: user(who), role }), ..of_kind(seq, ALICE, EntryKind::Member) }
}

fn of_kind(seq: u64, who: u128, kind: EntryKind) -> LogEntry {
    let is_message = kind == EntryKind::Message;
    LogEntry { sender: user(who), kind, is_message, is_countable: is_message, ..entry(seq) }
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

/// A group that Alice owns.
fn group(entries: impl IntoIterator<Item = LogEntry>) -> Vec<LogEntry> {
    [role(1, ALICE, Some(Role::Owner))].into_iter().chain(entries).collect()
}

#[test]
fn who_writes_without_the_right_is_found() {
    let muted = role(2, BOB, Some(Role::Reader));
    for (entries, is_good) in [
        (vec![muted, of_kind(3, BOB, EntryKind::Reaction)], true),
        (vec![muted, of_kind(3, BOB, EntryKind::Message)], false),
        (vec![muted, of_kind(3, BOB, EntryKind::Edit)], false),
        (vec![of_kind(2, BOB, EntryKind::Message), role(3, BOB, Some(Role::Reader))], true),
        (vec![muted, role(3, BOB, Some(Role::Member)), of_kind(4, BOB, EntryKind::Message)], true),
        (vec![role(2, BOB, None), of_kind(3, BOB, EntryKind::Reaction)], false),
        (vec![of_kind(2, BOB, EntryKind::Settings)], false),
        (vec![role(2, BOB, Some(Role::Moderator)), of_kind(3, BOB, EntryKind::Settings)], true),
        (vec![LogEntry { sender: user(BOB), ..role(2, CAROL, Some(Role::Member)) }], false),
        (vec![LogEntry { sender: user(CAROL), ..role(2, CAROL, Some(Role::Member)) }], true),
        (vec![LogEntry { sender: user(BOB), ..role(2, BOB, None) }], true),
        (vec![of_kind(2, CAROL, EntryKind::Message)], false),
    ] {
        let mut story = Story::new();
        story.read(ALICE, group(entries.clone()));
        let expected: &[Check] = if is_good { &[] } else { &[Check::Members] };
        assert_eq!(story.found(), expected, "{entries:?}");
    }
}

#[test]
fn members_who_are_not_those_of_the_log_are_found() {
    for (told, is_good) in [
        (vec![(ALICE, Role::Owner), (BOB, Role::Reader)], true),
        (vec![(ALICE, Role::Owner), (BOB, Role::Member)], false),
        (vec![(ALICE, Role::Owner)], false),
    ] {
        let mut story = Story::new();
        story.read(ALICE, group([role(2, BOB, Some(Role::Reader))])).told_room(&told, &[]);
        let expected: &[Check] = if is_good { &[] } else { &[Check::Members] };
        assert_eq!(story.found(), expected, "{told:?}");
    }
}

impl Story {
    fn told_room(&mut self, members: &[(u128, Role)], banned: &[u128]) -> &mut Self {
        let members = members.iter().map(|(who, role)| (user(*who), *role)).collect();
        let banned = banned.iter().map(|who| user(*who)).collect();
        self.tell(What::ReadRoom { conversation: conversation(), members, banned, title: Some("new".to_owned()) })
    }

    fn next_operation(&mut self) -> u64 {
        self.operations += 1;
        self.operations
    }

    /// Somebody asks for a change.
    fn changing(&mut self, frame: Option<u128>, change: &Change) -> u64 {
        let (operation, conversation, change) = (self.next_operation(), conversation(), change.clone());
        let (action, user, id) = ("change".to_owned(), user(ALICE), frame.map(id));
        self.tell(What::Changing { operation, action, user, conversation, id, change });
        operation
    }

    fn changed(&mut self, change: &Change) -> &mut Self {
        let operation = self.changing(None, change);
        self.tell(What::Done { operation, seq: None })
    }

    fn not_found(&mut self, operation: u64) -> &mut Self {
        self.tell(What::Refused { operation, code: "not_found".to_owned() })
    }

    /// Bob reads.
    fn peeks(&mut self, seqs: Option<&[u64]>) -> &mut Self {
        let operation = self.next_operation();
        self.tell(What::Peeking { operation, user: user(BOB), conversation: conversation() });
        match seqs {
            Some(seqs) => self.tell(What::Peeked { operation, seqs: seqs.to_vec() }),
            None => self.not_found(operation),
        }
    }
}

#[test]
fn changes_that_do_not_hold_are_found() {
    let bob = user(BOB);
    let (member, nobody) = (vec![(ALICE, Role::Owner), (BOB, Role::Member)], vec![(ALICE, Role::Owner)]);
    for (change, members, banned, is_good) in [
        (Change::Come(bob), &member, vec![], true),
        (Change::Come(bob), &nobody, vec![], false),
        (Change::Go(bob), &nobody, vec![], true),
        (Change::Go(bob), &member, vec![], false),
        (Change::Ban(bob), &nobody, vec![BOB], true),
        (Change::Ban(bob), &nobody, vec![], false),
        (Change::Ban(bob), &member, vec![BOB], false),
        (Change::Unban(bob), &nobody, vec![BOB], false),
        (Change::Role(bob, Role::Member), &member, vec![], true),
        (Change::Role(bob, Role::Reader), &member, vec![], false),
        (Change::Title("new".to_owned()), &member, vec![], true),
        (Change::Title("other".to_owned()), &member, vec![], false),
    ] {
        let mut story = Story::new();
        story.changed(&change).told_room(members, &banned);
        let expected: &[Check] = if is_good { &[] } else { &[Check::Changes] };
        assert_eq!(story.found(), expected, "{change:?}");
    }
}

#[test]
fn a_change_holds_only_until_something_may_undo_it() {
    let (ban, unban) = (Change::Ban(user(BOB)), Change::Unban(user(BOB)));
    let end = |mut story: Story| story.told_room(&[(ALICE, Role::Owner)], &[]).found();
    let mut undone = Story::new();
    undone.changed(&ban).changed(&unban);
    assert_eq!(end(undone), []);
    let mut before = Story::new();
    before.changed(&unban).changed(&ban);
    assert_eq!(end(before), [Check::Changes]);
    let mut refused = Story::new();
    refused.changed(&ban);
    let operation = refused.changing(None, &unban);
    refused.tell(What::Refused { operation, code: "forbidden".to_owned() });
    assert_eq!(end(refused), [Check::Changes]);
    // Of these nobody knows whether and when they were done.
    let mut unknown = Story::new();
    let operation = unknown.changing(None, &unban);
    unknown.tell(What::Indeterminate { operation, reason: "closed".into(), is_answer: false }).changed(&ban);
    assert_eq!(end(unknown), []);
    let mut slow = Story::new();
    let operation = slow.changing(None, &unban);
    slow.tell(What::Done { operation, seq: None });
    slow.history.events.last_mut().unwrap().at_us += 3_000_000;
    slow.changed(&ban);
    assert_eq!(end(slow), []);
}

#[test]
fn who_comes_and_is_removed_before_they_are_told_may_have_come() {
    let mut story = Story::new();
    story.changed(&Change::Go(user(BOB)));
    let operation = story.changing(None, &Change::Come(user(BOB)));
    story.not_found(operation).told_room(&[(ALICE, Role::Owner), (BOB, Role::Member)], &[]);
    assert_eq!(story.found(), []);
}

#[test]
fn the_answer_to_a_repeated_frame_tells_of_the_first_time() {
    for (frames, expected) in [([5, 5], [].as_slice()), ([5, 6], [Check::Changes].as_slice())] {
        let mut story = Story::new();
        let first = story.changing(Some(frames[0]), &Change::Go(user(BOB)));
        story.tell(What::Indeterminate { operation: first, reason: "closed".into(), is_answer: false });
        story.changed(&Change::Come(user(BOB)));
        let operation = story.changing(Some(frames[1]), &Change::Go(user(BOB)));
        story.tell(What::Done { operation, seq: None });
        story.told_room(&[(ALICE, Role::Owner), (BOB, Role::Member)], &[]);
        assert_eq!(story.found(), expected, "{frames:?}");
    }
}

#[test]
fn who_reads_after_a_removal_or_does_not_after_coming_is_found() {
    for (change, seqs, is_good) in [
        (Change::Ban(user(BOB)), Some([2].as_slice()), false),
        (Change::Ban(user(BOB)), None, true),
        (Change::Go(user(BOB)), Some([2].as_slice()), false),
        (Change::Come(user(BOB)), Some([2].as_slice()), true),
        (Change::Come(user(BOB)), None, false),
    ] {
        let mut story = Story::new();
        story.changed(&change).peeks(seqs);
        let expected: &[Check] = if is_good { &[] } else { &[Check::Changes] };
        assert_eq!(story.found(), expected, "{change:?} {seqs:?}");
    }
    let mut late = Story::new();
    late.read(ALICE, removal_log(3)).peeks(Some(&[1, 2])).peeks(Some(&[3]));
    assert_eq!(late.found(), [Check::Visibility]);
}

#[test]
fn who_comes_although_they_are_kept_out_is_found() {
    let mut story = Story::new();
    story.changed(&Change::Ban(user(BOB))).changed(&Change::Come(user(BOB)));
    assert_eq!(story.found(), [Check::Changes]);
    let mut again = Story::new();
    again.changed(&Change::Ban(user(BOB))).changed(&Change::Unban(user(BOB))).changed(&Change::Come(user(BOB)));
    assert_eq!(again.found(), []);
}

#[test]
fn a_place_at_which_nobody_came_or_went_is_found() {
    for (seq, change, is_good) in [
        (2, Change::Come(user(CAROL)), true),
        (1, Change::Come(user(CAROL)), true),
        (3, Change::Come(user(CAROL)), false),
        (2, Change::Come(user(BOB)), false),
        (2, Change::Go(user(CAROL)), false),
        (9, Change::Come(user(CAROL)), false),
    ] {
        let mut story = Story::new();
        let operation = story.changing(None, &change);
        story.tell(What::Done { operation, seq: Some(seq) });
        story.read(ALICE, group([role(2, CAROL, Some(Role::Member)), entry(3)]));
        let expected: &[Check] = if is_good { &[] } else { &[Check::Changes] };
        assert_eq!(story.found(), expected, "{seq} {change:?}");
    }
}

/// Bob leaves by a frame whose entry stands at seq 3, and later joins by one at seq 5.
fn moves(story: &mut Story) {
    for (place, change) in [(3, Change::Go(user(BOB))), (5, Change::Come(user(BOB)))] {
        story.changing(Some(place), &change);
    }
}

fn moves_log() -> Vec<LogEntry> {
    group([
        entry(2),
        LogEntry { sender: user(BOB), ..role(3, BOB, None) },
        entry(4),
        LogEntry { sender: user(BOB), ..role(5, BOB, Some(Role::Member)) },
        entry(6),
    ])
}

#[test]
fn acks_of_coming_and_going_stand_in_the_places_of_their_entries() {
    let joined = What::Joined { connection: 2, conversation: conversation(), seq: 5 };
    let live = |from: u64| {
        let mut story = Story::new();
        story.sync(2, 0).synced(2, None).saw(2, 1..from);
        moves(&mut story);
        story
    };
    let mut good = live(3);
    good.saw_ack(2, 3).tell(joined.clone()).saw_ack(2, 5).saw(2, [6]).tell(What::Settled { connection: 2 });
    good.read(ALICE, moves_log());
    assert_eq!(good.found(), []);
    // The news came late: what was missed is read, the entry with it.
    let mut late = live(3);
    late.saw_ack(2, 3).saw_ack(2, 5).tell(joined.clone()).saw(2, [5, 6]).read(ALICE, moves_log());
    assert_eq!(late.found(), []);
    let mut ahead = live(3);
    ahead.saw_ack(2, 3).tell(joined.clone()).saw_ack(2, 5).saw(2, [5, 6]).read(ALICE, moves_log());
    assert_eq!(ahead.found(), []);
    let mut twice = live(3);
    twice.saw_ack(2, 3).tell(joined).saw_ack(2, 5).saw(2, [5, 5, 6]).read(ALICE, moves_log());
    assert_eq!(twice.found(), [Check::LiveStream]);
    let mut after = live(3);
    after.saw_ack(2, 3).saw(2, [4]).read(ALICE, moves_log());
    assert_eq!(after.found(), [Check::Visibility, Check::LiveStream]);
    let mut hole = live(2);
    hole.saw_ack(2, 3).tell(What::Settled { connection: 2 }).read(ALICE, moves_log());
    assert_eq!(hole.found(), [Check::LiveStream]);
}

#[test]
fn the_ack_of_a_move_names_an_entry_that_says_so() {
    // Bob had gone before, and had come before.
    for (frame, seq, is_good) in [(20, 3, true), (21, 5, true), (20, 5, false), (20, 2, false)] {
        let mut story = Story::new();
        story.sync(2, 0).synced(2, None);
        story.changing(Some(20), &Change::Go(user(BOB)));
        story.changing(Some(21), &Change::Come(user(BOB)));
        story.tell(What::SawAck { connection: 2, conversation: conversation(), seq, id: id(frame) });
        story.read(ALICE, moves_log());
        let expected: &[Check] = if is_good { &[] } else { &[Check::OneLog] };
        assert_eq!(story.found(), expected, "{frame} {seq}");
    }
}

const LATER: Plan = Plan::Change { send_at: None, version: Some(1) };

impl Story {
    fn planning(&mut self, plan: Plan) -> u64 {
        let operation = self.next_operation();
        self.tell(What::Planning { operation, user: user(ALICE), conversation: conversation(), id: id(3), plan });
        operation
    }

    fn planned(&mut self, plan: Plan) -> &mut Self {
        let operation = self.planning(plan);
        self.tell(What::Done { operation, seq: None })
    }

    fn unknown(&mut self, plan: Plan) -> &mut Self {
        let operation = self.planning(plan);
        self.tell(What::Indeterminate { operation, reason: "closed".into(), is_answer: false })
    }

    /// Message 3 is to be sent at second 2.
    fn kept() -> Self {
        let mut story = Self::new();
        story.planned(Plan::Send { send_at: at(2), version: 0 });
        story
    }

    /// What Alice is told at the end.
    fn told_planned(&mut self, states: &[(ScheduledState, u64)]) -> &mut Self {
        let planned = |(state, version): &(ScheduledState, u64)| Planned {
            conversation: conversation(),
            id: id(3),
            send_at: at(2),
            state: *state,
            version: Some(*version),
        };
        self.tell(What::ReadPlanned { user: user(ALICE), messages: states.iter().map(planned).collect() })
    }
}

fn sent(version: u64) -> Vec<LogEntry> {
    vec![entry(1), entry(2), LogEntry { version: Some(version), ..entry(3) }]
}

#[test]
fn scheduled_messages_that_are_gone_or_too_many_are_found() {
    use ScheduledState::{Failed, Stale, Waiting};
    for (entries, told, is_good) in [
        (sent(0), vec![], true),
        (sent(0), vec![(Failed, 0)], false),
        (sent(1), vec![], false),
        (log(2).collect(), vec![], false),
        (log(2).collect(), vec![(Waiting, 0)], true),
        (log(2).collect(), vec![(Waiting, 1)], false),
        (log(2).collect(), vec![(Stale, 0)], false),
        // She might write all the time.
        (log(2).collect(), vec![(Failed, 0)], false),
        (vec![entry(1), role(2, ALICE, None)], vec![(Failed, 0)], true),
        (vec![entry(1), role(2, ALICE, None)], vec![], false),
    ] {
        let mut story = Story::kept();
        story.read(BOB, entries.clone()).told_planned(&told);
        let expected: &[Check] = if is_good { &[] } else { &[Check::Planned] };
        assert_eq!(story.found(), expected, "{entries:?} {told:?}");
    }
}

#[test]
fn scheduled_messages_before_their_time_are_found() {
    for (second, is_good) in [(1, false), (2, true)] {
        let mut story = Story::kept();
        let early = LogEntry { sent_at: at(second), version: Some(0), ..entry(3) };
        story.read(BOB, log(2).chain([early])).told_planned(&[]);
        let expected: &[Check] = if is_good { &[] } else { &[Check::Planned] };
        assert_eq!(story.found(), expected, "{second}");
    }
}

#[test]
fn what_was_deleted_and_is_sent_is_found() {
    let end = |mut story: Story| story.read(BOB, sent(0)).told_planned(&[]).found();
    let mut deleted = Story::kept();
    deleted.planned(Plan::Cancel);
    assert_eq!(end(deleted), [Check::Planned]);
    let mut listed = Story::kept();
    listed.planned(Plan::Cancel).read(BOB, log(2)).told_planned(&[(ScheduledState::Waiting, 0)]);
    assert_eq!(listed.found(), [Check::Planned]);
    let mut unknown = Story::kept();
    unknown.unknown(Plan::Cancel);
    assert_eq!(end(unknown), []);
    let mut gone = Story::kept();
    gone.unknown(Plan::Cancel).read(BOB, log(2)).told_planned(&[]);
    assert_eq!(gone.found(), []);
    // It may come to be kept once more.
    let mut again = Story::new();
    again.unknown(Plan::Send { send_at: at(2), version: 0 });
    again.planned(Plan::Send { send_at: at(2), version: 0 }).planned(Plan::Cancel);
    assert_eq!(end(again), []);
    let mut refused = Story::new();
    let operation = refused.planning(Plan::Send { send_at: at(2), version: 0 });
    refused.not_found(operation);
    assert_eq!(end(refused), [Check::Planned]);
}

#[test]
fn what_was_changed_is_sent_as_it_was_changed_last() {
    let found = |change: fn(&mut Story), version: u64| {
        let mut story = Story::kept();
        change(&mut story);
        story.read(BOB, sent(version)).told_planned(&[]).found()
    };
    let changed: fn(&mut Story) = |story| {
        story.planned(LATER);
    };
    assert_eq!(found(changed, 1), []);
    assert_eq!(found(changed, 0), [Check::Planned]);
    let unknown: fn(&mut Story) = |story| {
        story.unknown(LATER);
    };
    assert_eq!(found(unknown, 1), []);
    assert_eq!(found(unknown, 0), []);
    let later: fn(&mut Story) = |story| {
        story.planned(Plan::Change { send_at: Some(at(9)), version: None });
    };
    assert_eq!(found(later, 0), [Check::Planned]);
}

#[test]
fn a_scheduled_message_that_is_not_where_it_was_answered_to_be_is_found() {
    for (seq, is_good) in [(3, true), (2, false)] {
        let mut story = Story::kept();
        let operation = story.planning(Plan::Change { send_at: Some(at(1)), version: None });
        story.tell(What::Done { operation, seq: Some(seq) }).read(BOB, sent(0)).told_planned(&[]);
        let expected: &[Check] = if is_good { &[] } else { &[Check::Planned] };
        assert_eq!(story.found(), expected, "{seq}");
    }
}
