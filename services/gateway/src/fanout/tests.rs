//! Whatever the live plane loses, repeats or reorders, a live connection gets each entry once and in order.

mod channels;

use std::rc::Rc;

use entrenous_model::{ConnectionId, ConversationId, DeviceId, LoginId, UserId};
use entrenous_protocol::{
    entry::{ConversationKind, MemberChange, MemberContent},
    live::{FLAG_END, FLAG_MEMBER, LiveKind, LiveMessage, Preamble},
    rpc::store::{LogEntry, Membership, Memberships, RangeRead, Stored},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Fanout, Standing, digest_of};
use crate::connection::{
    Connection, Mode,
    outbox::{Outbox, Outgoing},
};

const CONVERSATION: Uuid = Uuid::from_u128(0xc0);

fn conversation() -> ConversationId {
    CONVERSATION.into()
}

fn user(number: u128) -> UserId {
    Uuid::from_u128(number).into()
}

/// A connection of a user that has synced.
fn connection(fanout: &mut Fanout, number: u128) -> Rc<Connection> {
    let id = ConnectionId::from(Uuid::from_u128(number << 64 | number));
    let login = LoginId::from(Uuid::from_u128(number));
    let connection =
        Connection::new(id, user(number), DeviceId::from(Uuid::from_u128(number)), login, Outbox::new(10_000, 1 << 24));
    connection.has_synced.set(true);
    fanout.add_connection(&connection);
    connection
}

/// Where the conversation stands, a group's.
fn at(head: u64) -> Standing {
    Standing { conversation: conversation(), kind: ConversationKind::Group, head, leaves: 0 }
}

/// The connection has the conversation live from a head on.
fn go_live(fanout: &mut Fanout, connection: &Rc<Connection>, head: u64) {
    fanout.start_syncing(connection, &at(head));
    fanout.go_live(connection, conversation(), head, true);
}

/// What a read of the log gives up to its head.
fn read(entries: impl IntoIterator<Item = u64>, last_seq: u64) -> RangeRead {
    RangeRead {
        conversation_id: conversation(),
        is_readable: true,
        entries: entries.into_iter().map(logged).collect(),
        first_seq: 1,
        readable_from: 1,
        last_seq,
        has_more: false,
        leaves: 0,
        left: Vec::new(),
    }
}

fn entry_id(seq: u64) -> Uuid {
    Uuid::from_u128(0xe000 + u128::from(seq))
}

fn frame(seq: u64, member: Option<&MemberContent>) -> Value {
    json!({
        "type": if member.is_some() { "member_changed" } else { "group_message" },
        "id": entry_id(seq), "payload": {"seq": seq, "content": member}, "meta": {"timestamp": 1_700_000_000_000_i64},
    })
}

fn live(seq: u64, origin: u64, member: Option<&MemberContent>) -> LiveMessage {
    let preamble = Preamble {
        kind: LiveKind::Entry,
        flags: if member.is_some() { FLAG_MEMBER } else { 0 },
        leaves: 0,
        publisher: 1,
        number: 1,
        subject: CONVERSATION,
        seq,
        origin,
        incarnation: 1,
    };
    LiveMessage { preamble, body: frame(seq, member).to_string().into(), trace: None }
}

fn logged(seq: u64) -> LogEntry {
    LogEntry {
        seq,
        id: entry_id(seq).into(),
        kind: entrenous_protocol::EntryKind::Message,
        sender_device_id: None,
        frame: serde_json::value::to_raw_value(&frame(seq, None)).unwrap(),
    }
}

/// What was sent, as `(type, seq)`.
fn sent(connection: &Connection) -> Vec<(String, u64)> {
    connection.close(entrenous_protocol::CloseCode::Normal);
    let mut sent = Vec::new();
    while let Some(Some(Outgoing::Text(text))) = futures::FutureExt::now_or_never(connection.outbox.next()) {
        let frame: Value = serde_json::from_str(&text).unwrap();
        let r#type = frame["type"].as_str().unwrap().to_owned();
        sent.push((r#type, frame["payload"]["seq"].as_u64().unwrap_or(0)));
    }
    sent
}

fn stored(seq: u64) -> Stored {
    let sent_at = chrono::DateTime::from_timestamp_millis(1_700_000_000_000).unwrap().into();
    Stored { seq, sent_at, expires_at: None, is_repeat: false, may_differ: false }
}

fn messages(seqs: impl IntoIterator<Item = u64>) -> Vec<(String, u64)> {
    seqs.into_iter().map(|seq| ("group_message".to_owned(), seq)).collect()
}

#[test]
fn a_repeat_is_dropped_and_a_hole_is_repaired_from_the_log() {
    let mut fanout = Fanout::default();
    let alice = connection(&mut fanout, 1);
    go_live(&mut fanout, &alice, 3);
    for seq in [4, 4, 3, 6] {
        fanout.on_live_entry(&live(seq, 0, None));
    }
    assert_eq!(fanout.take_holes(), [(conversation(), 4)]);
    // While the log is read, what comes is only noted.
    fanout.on_live_entry(&live(7, 0, None));
    assert!(!fanout.on_repaired(read([5, 6], 6)));
    assert!(fanout.on_repaired(read([7], 7)));
    assert_eq!(sent(&alice), messages(4..=7));
}

#[test]
fn a_lost_last_entry_shows_by_its_senders_ack() {
    let mut fanout = Fanout::default();
    let alice = connection(&mut fanout, 1);
    go_live(&mut fanout, &alice, 3);
    alice.note_send(entry_id(4).into(), conversation());
    fanout.on_stored(&alice, conversation(), Some(entry_id(4).into()), stored(4));
    fanout.tick();
    assert_eq!(fanout.take_holes(), [(conversation(), 3)]);
    assert!(fanout.on_repaired(read([4], 4)));
    assert_eq!(sent(&alice), [("ack".to_owned(), 4)]);
}

#[test]
fn the_ack_stands_in_the_place_of_its_entry_whatever_comes_first() {
    for is_answer_first in [false, true] {
        let mut fanout = Fanout::default();
        let alice = connection(&mut fanout, 1);
        let bob = connection(&mut fanout, 2);
        go_live(&mut fanout, &alice, 0);
        go_live(&mut fanout, &bob, 0);
        alice.note_send(entry_id(2).into(), conversation());
        if is_answer_first {
            fanout.on_stored(&alice, conversation(), Some(entry_id(2).into()), stored(2));
        }
        fanout.on_live_entry(&live(1, bob.origin, None));
        fanout.on_live_entry(&live(2, alice.origin, None));
        if !is_answer_first {
            fanout.on_stored(&alice, conversation(), Some(entry_id(2).into()), stored(2));
        }
        assert_eq!(sent(&alice), [("group_message".to_owned(), 1), ("ack".to_owned(), 2)]);
        assert_eq!(sent(&bob), messages([1, 2]));
    }
}

#[test]
fn while_a_sync_is_under_way_acks_come_at_once_and_own_entries_as_entries() {
    let mut fanout = Fanout::default();
    let alice = connection(&mut fanout, 1);
    go_live(&mut fanout, &alice, 0);
    alice.note_send(entry_id(1).into(), conversation());
    fanout.on_stored(&alice, conversation(), Some(entry_id(1).into()), stored(1));
    // The ack waited for its place; a sync takes that place away.
    fanout.start_syncing(&alice, &at(1));
    fanout.on_live_entry(&live(1, alice.origin, None));
    assert_eq!(fanout.forwarded(conversation()), Some(1));
    fanout.go_live(&alice, conversation(), 1, false);
    alice.note_send(entry_id(2).into(), conversation());
    fanout.on_stored(&alice, conversation(), Some(entry_id(2).into()), stored(2));
    fanout.on_live_entry(&live(2, alice.origin, None));
    assert_eq!(sent(&alice), [("ack".to_owned(), 1), ("ack".to_owned(), 2), ("group_message".to_owned(), 2)]);
}

#[test]
fn members_come_before_their_entry_and_go_after_it() {
    let mut fanout = Fanout::default();
    let (alice, bob) = (connection(&mut fanout, 1), connection(&mut fanout, 2));
    go_live(&mut fanout, &alice, 0);
    let change = |change| MemberContent { user_id: user(2), change, role: None, by: user(1), members: Vec::new() };
    fanout.on_live_entry(&live(1, 0, Some(&change(MemberChange::Added))));
    fanout.on_live_entry(&live(2, 0, None));
    fanout.on_live_entry(&live(3, 0, Some(&change(MemberChange::Removed))));
    fanout.on_live_entry(&live(4, 0, None));
    assert_eq!(
        sent(&bob),
        [("notification", 1), ("member_changed", 1), ("group_message", 2), ("member_changed", 3)]
            .map(|(r#type, seq)| (r#type.to_owned(), seq))
    );
    assert!(!bob.knows(conversation()));
    assert_eq!(sent(&alice).len(), 4);
}

/// The last entry of a conversation that was deleted.
fn end(seq: u64) -> LiveMessage {
    let mut message = live(seq, 0, None);
    message.preamble.flags = FLAG_END;
    message
}

fn ended(seq: u64) -> (String, u64) {
    ("notification".to_owned(), seq)
}

#[test]
fn after_the_end_nobody_has_the_conversation() {
    let mut fanout = Fanout::default();
    let (alice, bob) = (connection(&mut fanout, 1), connection(&mut fanout, 2));
    go_live(&mut fanout, &alice, 3);
    alice.note_send(entry_id(4).into(), conversation());
    fanout.on_stored(&alice, conversation(), Some(entry_id(4).into()), stored(4));
    // Replays it, and finds out by its next read.
    fanout.start_syncing(&bob, &at(3));
    fanout.on_live_entry(&live(4, alice.origin, None));
    fanout.on_live_entry(&end(5));
    fanout.on_live_entry(&end(5));
    assert!(!alice.knows(conversation()) && alice.digest.get() == 0);
    assert_eq!(fanout.forwarded(conversation()), Some(5), "a replay must get as far");
    fanout.tell_left(&bob, conversation(), 5);
    assert!(fanout.conversations().is_empty());
    assert_eq!(sent(&alice), [("ack".to_owned(), 4), messages([5]).remove(0), ended(5)]);
    assert_eq!(sent(&bob), [ended(5)]);
}

#[test]
fn an_end_that_was_missed_is_told_all_the_same() {
    let mut fanout = Fanout::default();
    let alice = connection(&mut fanout, 1);
    go_live(&mut fanout, &alice, 3);
    alice.note_send(entry_id(4).into(), conversation());
    fanout.on_stored(&alice, conversation(), Some(entry_id(4).into()), stored(4));
    fanout.on_live_entry(&end(5));
    assert_eq!(fanout.take_holes(), [(conversation(), 3)]);
    // Nothing of it can be read any more.
    fanout.on_gone(conversation());
    assert!(fanout.conversations().is_empty() && fanout.take_to_check().is_empty());
    assert_eq!(sent(&alice), [ended(5), ("ack".to_owned(), 4)]);
}

/// Of a conversation that was deleted, read before that and used after it: a look into the log ends it.
#[test]
fn news_of_a_membership_that_come_after_the_end_open_nothing_for_long() {
    let mut fanout = Fanout::default();
    let alice = connection(&mut fanout, 1);
    fanout.on_live_entry(&end(5));
    fanout.join(user(1), at(3));
    fanout.tick();
    assert_eq!(fanout.take_holes(), [(conversation(), 3)]);
    fanout.on_gone(conversation());
    assert!(!alice.knows(conversation()));
    assert_eq!(sent(&alice), [ended(4), ended(5)]);
}

#[test]
fn what_passed_by_before_the_conversation_was_followed_is_a_hole() {
    let mut fanout = Fanout::default();
    let alice = connection(&mut fanout, 1);
    // The head was read as 5; entry 6 passes by before the worker follows the conversation.
    fanout.on_live_entry(&live(6, 0, None));
    go_live(&mut fanout, &alice, 5);
    fanout.tick();
    assert_eq!(fanout.take_holes(), [(conversation(), 5)]);
    assert!(fanout.on_repaired(read([6], 6)));
    assert_eq!(sent(&alice), messages([6]));
}

#[test]
fn the_digest_is_over_what_was_sent_live() {
    let mut fanout = Fanout::default();
    let alice = connection(&mut fanout, 1);
    go_live(&mut fanout, &alice, 0);
    assert_eq!(alice.digest.get(), 0);
    fanout.on_live_entry(&live(1, 0, None));
    fanout.on_live_entry(&live(2, 0, None));
    assert_eq!(alice.digest.get(), digest_of(conversation(), 2));
    fanout.pause(&alice, conversation());
    assert_eq!(alice.digest.get(), 0);
    go_live(&mut fanout, &alice, 2);
    assert_eq!(alice.digest.get(), digest_of(conversation(), 2));
    // What the client has from elsewhere was not sent here.
    fanout.pause(&alice, conversation());
    go_live(&mut fanout, &alice, 5);
    assert_eq!(alice.digest.get(), digest_of(conversation(), 2));
    fanout.on_live_entry(&live(6, 0, None));
    assert_eq!(alice.digest.get(), digest_of(conversation(), 6));
}

#[test]
fn nothing_is_left_when_the_last_connection_goes() {
    let mut fanout = Fanout::default();
    let alice = connection(&mut fanout, 1);
    go_live(&mut fanout, &alice, 0);
    fanout.remove_connection(&alice);
    assert!(fanout.conversations().is_empty());
    assert!(fanout.connections().next().is_none());
    assert_eq!(alice.mode(conversation()), Mode::Paused);
}

proptest! {
    #[test]
    fn any_loss_repeat_and_order_gives_every_entry_once_in_order(arrivals in prop::collection::vec(1_u64..30, 0..80)) {
        let mut fanout = Fanout::default();
        let alice = connection(&mut fanout, 1);
        go_live(&mut fanout, &alice, 0);
        let mut head = 0;
        for seq in arrivals {
            head = head.max(seq);
            fanout.on_live_entry(&live(seq, 0, None));
            for (_, after) in fanout.take_holes() {
                prop_assert!(fanout.on_repaired(read(after + 1..=head, head)));
            }
        }
        prop_assert_eq!(sent(&alice), messages(1..=head));
    }
}

#[test]
fn a_connection_whose_first_sync_is_under_way_is_joined_to_nothing() {
    let mut fanout = Fanout::default();
    let alice = connection(&mut fanout, 1);
    alice.has_synced.set(false);
    // A notice that is told again, and what is read after an interruption: both also of conversations that the client has
    // long had.
    fanout.join(user(1), at(0));
    assert!(alice.is_outdated.replace(false) && !alice.knows(conversation()));
    let membership = Membership {
        conversation_id: conversation(),
        kind: ConversationKind::Group,
        readable_from: 1,
        first_seq: 1,
        last_seq: 9,
        device_start_seq: 0,
        has_mention: false,
        last_mention_seq: 0,
        leaves: 0,
    };
    let memberships = Memberships { conversations: vec![membership], left: Vec::new(), membership_version: 2 };
    fanout.on_memberships(user(1), &memberships);
    assert!(alice.is_outdated.get() && !alice.knows(conversation()));
    assert_eq!(sent(&alice), []);
}

#[test]
fn a_repeat_is_acknowledged_also_where_the_first_connections_entry_comes_after_the_answer() {
    let mut fanout = Fanout::default();
    let alice = connection(&mut fanout, 1);
    go_live(&mut fanout, &alice, 3);
    alice.note_send(entry_id(4).into(), conversation());
    fanout.on_stored(&alice, conversation(), Some(entry_id(4).into()), Stored { is_repeat: true, ..stored(4) });
    // Of a connection that is gone, or another gateway's.
    fanout.on_live_entry(&live(4, 99, None));
    assert!(!alice.has_pending());
    assert_eq!(sent(&alice), [("ack".to_owned(), 4)]);
}
