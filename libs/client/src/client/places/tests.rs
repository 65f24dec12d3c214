use super::*;

/// Of conversation 1 at seq 2, by sha256sum: the first 8 bytes of SHA-256(16 bytes of the id, 8 bytes of the seq).
const DIGEST_OF_1_2: u64 = 0x5dfa_dd0e_5091_0f56;

fn id<T: From<uuid::Uuid>>(number: u128) -> T {
    uuid::Uuid::from_u128(number).into()
}

fn synced(number: u128, starts_at: u64, sent_up_to: u64, last_seq: u64) -> SyncedConversation {
    SyncedConversation {
        conversation_id: id(number),
        first_seq: 1,
        starts_at,
        last_seq,
        sent_up_to,
        has_more: sent_up_to < last_seq,
    }
}

/// In conversation 1.
fn stored(seq: u64) -> Stored {
    let sent_at = serde_json::from_str("\"2026-11-20T10:30:00.123Z\"").unwrap();
    Stored { conversation_id: id(1), seq, sent_at }
}

/// Live in conversation 1 up to this seq.
fn live_at(cursor: u64) -> Places {
    let mut places = Places::new(Begin::Acknowledged, [(id(1), cursor)].into());
    places.begin_connection();
    places.begin_sync(None);
    places.end_sync(&[]);
    places
}

fn hole(expected: u64, seen: u64) -> Violation {
    Violation { conversation: id(1), expected, seen }
}

#[test]
fn the_first_sync_brings_all_cursors_and_says_where_others_begin() {
    for (begin, from) in
        [(Begin::Acknowledged, None), (Begin::Start, Some(SyncFrom::Start)), (Begin::Now, Some(SyncFrom::Start))]
    {
        let mut places = Places::new(begin, [(id(1), 5), (id(2), 7)].into());
        assert!(places.needs_sync());
        let start = places.begin_sync(Some(9));
        assert_eq!((start.from, start.limit), (from, Some(9)));
        assert_eq!(start.cursors, [(id(1), 5), (id(2), 7)].into());
    }
}

#[test]
fn more_cursors_than_fit_a_frame_go_in_several_syncs() {
    let cursors: HashMap<_, _> = (0..3_000).map(|number| (id(number), 1)).collect();
    let mut places = Places::new(Begin::Acknowledged, cursors.clone());
    let mut named = HashMap::new();
    let mut sizes = Vec::new();
    while places.needs_sync() {
        let start = places.begin_sync(None);
        let text = crate::outgoing::sync(id(1), &start);
        assert!(text.len() < 96 * 1024, "{} bytes", text.len());
        assert_eq!(start.from, None);
        sizes.push(start.cursors.len());
        named.extend(start.cursors);
        // Live by the server's choice, but not named yet: it will be replayed.
        let unnamed = cursors.keys().find(|conversation| !named.contains_key(*conversation));
        if let Some(conversation) = unnamed {
            assert_eq!(places.take_entry(*conversation, 9, false), Take::Pass);
        }
        places.end_sync(&[]);
    }
    assert_eq!((sizes, named == cursors), (vec![1_400, 1_400, 200], true));
}

#[test]
fn a_beginning_that_was_cut_is_no_hole() {
    let mut places = Places::new(Begin::Acknowledged, [(id(1), 5)].into());
    places.begin_sync(None);
    assert_eq!(places.take_entry(id(1), 8, false), Take::Deliver);
    assert_eq!(places.take_entry(id(1), 9, false), Take::Deliver);
    assert!(places.end_sync(&[synced(1, 8, 9, 9)]).violations.is_empty());
    assert!(!places.needs_sync());
}

#[test]
fn a_hole_in_a_replay_is_found_and_read_again() {
    let mut places = Places::new(Begin::Acknowledged, [(id(1), 5)].into());
    places.begin_sync(None);
    assert_eq!(places.take_entry(id(1), 6, false), Take::Deliver);
    assert_eq!(places.take_entry(id(1), 8, false), Take::Violation(hole(7, 8)));
    assert_eq!(places.take_entry(id(1), 9, false), Take::Pass, "told once");
    assert!(places.end_sync(&[synced(1, 6, 9, 9)]).violations.is_empty());
    assert_eq!(places.begin_sync(None).cursors, [(id(1), 6)].into());
}

#[test]
fn a_sync_that_sent_less_than_it_says_is_found() {
    let mut places = Places::new(Begin::Acknowledged, [(id(1), 5)].into());
    places.begin_sync(None);
    let end = places.end_sync(&[synced(1, 6, 8, 8)]);
    assert_eq!(end.violations, [hole(6, 8)]);
    assert!(places.needs_sync());
}

#[test]
fn what_is_left_over_goes_on_from_where_it_stopped() {
    let mut places = Places::new(Begin::Acknowledged, HashMap::new());
    places.begin_sync(None);
    assert_eq!(places.take_entry(id(1), 4, false), Take::Deliver);
    places.end_sync(&[synced(1, 4, 4, 9), synced(2, 3, 2, 5)]);
    assert!(places.digest().is_none(), "nothing to compare before all is live");
    assert_eq!(places.begin_sync(None).cursors, [(id(1), 4), (id(2), 2)].into());
}

#[test]
fn while_a_hole_is_mended_what_comes_live_is_not_taken_for_the_replay() {
    let mut places = live_at(5);
    assert_eq!(places.take_entry(id(1), 7, false), Take::Violation(hole(6, 7)));
    assert_eq!(places.begin_sync(None).cursors, [(id(1), 5)].into());
    assert_eq!(places.take_entry(id(1), 8, false), Take::Pass, "sent before the server knew of the sync");
    for seq in 6..=8 {
        assert_eq!(places.take_entry(id(1), seq, false), Take::Deliver);
    }
    places.end_sync(&[synced(1, 6, 8, 8)]);
    assert_eq!(places.take_entry(id(1), 9, false), Take::Deliver);
}

#[test]
fn acks_stand_in_place_where_it_is_live_and_nowhere_else() {
    let mut places = live_at(5);
    assert_eq!(places.take_ack(id(90), stored(6), false), AckPlace::InPlace);
    assert_eq!(places.take_ack(id(91), stored(3), true), AckPlace::Apart, "a repeat of what was seen");
    assert_eq!(places.take_ack(id(92), stored(9), true), AckPlace::Apart, "a repeat whose entry still comes");
    assert_eq!(places.take_ack(id(93), stored(9), false), AckPlace::Violation(hole(7, 9)));
    places.begin_sync(None);
    assert_eq!(places.take_ack(id(94), stored(7), false), AckPlace::Apart);
    assert_eq!(places.take_entry(id(1), 7, false), Take::Deliver);
}

#[test]
fn an_own_entry_after_its_ack_is_no_violation() {
    let mut places = live_at(5);
    assert_eq!(places.take_ack(id(90), stored(6), true), AckPlace::InPlace);
    assert_eq!(places.take_entry(id(1), 6, true), Take::Pass);
    assert_eq!(places.take_entry(id(1), 7, false), Take::Deliver);
    assert_eq!(places.take_entry(id(1), 7, false), Take::Violation(hole(8, 7)));
}

#[test]
fn a_log_that_is_shorter_than_it_was_is_read_from_its_start() {
    let mut places = Places::new(Begin::Acknowledged, [(id(1), 50), (id(2), 3)].into());
    places.begin_sync(None);
    let end = places.end_sync(&[synced(1, 11, 10, 10), synced(2, 4, 3, 8)]);
    assert_eq!(end.rewound, [id(1)]);
    let start = places.begin_sync(None);
    assert_eq!((start.from, start.cursors), (Some(SyncFrom::Start), [(id(2), 3)].into()));
    assert_eq!(places.take_entry(id(1), 1, false), Take::Deliver);
}

#[test]
fn a_new_membership_forgets_the_cursor_of_the_old_one() {
    let mut places = live_at(5);
    places.join(id(1), 5);
    assert_eq!(places.take_entry(id(1), 6, false), Take::Deliver);
    places.join(id(1), 20);
    assert_eq!(places.take_entry(id(1), 20, false), Take::Deliver);
    places.forget(id(1));
    assert!(places.digest().is_some_and(|digest| digest == 0));
}

#[test]
fn the_digest_is_the_protocols() {
    let mut places = Places::new(Begin::Acknowledged, HashMap::new());
    places.begin_sync(None);
    places.end_sync(&[]);
    assert_eq!(places.digest(), Some(0));
    assert_eq!(places.take_entry(id(1), 2, false), Take::Deliver);
    assert_eq!(places.digest(), Some(DIGEST_OF_1_2));
    assert_eq!(places.take_ack(id(91), stored(3), false), AckPlace::InPlace);
    assert_ne!(places.digest(), Some(DIGEST_OF_1_2));
    places.begin_connection();
    places.begin_sync(None);
    places.end_sync(&[]);
    assert_eq!(places.digest(), Some(0), "nothing was sent on this connection");
}

/// Nothing is known of conversation 1 but an ack.
fn unclear() -> Places {
    let mut places = Places::new(Begin::Acknowledged, HashMap::new());
    places.begin_sync(None);
    places.end_sync(&[]);
    assert_eq!(places.take_ack(id(90), stored(7), false), AckPlace::Unclear);
    assert!(places.needs_sync() && places.digest().is_none());
    places
}

fn settled(places: &mut Places) -> Vec<(u64, bool)> {
    places.take_settled().into_iter().map(|settled| (settled.stored.seq, settled.in_place)).collect()
}

#[test]
fn an_ack_of_an_unknown_conversation_that_was_live_stands_in_place() {
    let mut places = unclear();
    let start = places.begin_sync(None);
    assert!(start.cursors.is_empty() && start.from.is_none() && !places.needs_sync());
    assert_eq!(places.take_ack(id(91), stored(8), false), AckPlace::Unclear);
    places.end_sync(&[]);
    assert_eq!(settled(&mut places), [(7, true), (8, true)]);
    assert_eq!(places.take_entry(id(1), 9, false), Take::Deliver);
    let mut places = unclear();
    assert_eq!(places.take_entry(id(1), 8, false), Take::Deliver, "the next one tells it too");
    assert_eq!(settled(&mut places), [(7, true)]);
}

#[test]
fn an_ack_of_a_conversation_that_only_begins_waits_for_the_entries_before_it() {
    let mut places = unclear();
    places.begin_sync(None);
    assert_eq!(places.take_entry(id(1), 6, false), Take::Deliver);
    assert_eq!(settled(&mut places), [(7, false)]);
    assert_eq!(places.take_entry(id(1), 7, false), Take::Deliver);
    places.end_sync(&[synced(1, 6, 7, 7)]);
    assert!(!places.needs_sync());
    let mut places = unclear();
    places.begin_connection();
    assert_eq!(settled(&mut places), [(7, false)], "the next connection brings it");
}
