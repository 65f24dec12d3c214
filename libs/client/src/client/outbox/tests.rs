use super::*;

const UNKNOWN: RefusalKind = RefusalKind::OutcomeUnknown { is_internal: false, retry_after: None };

fn id<T: From<uuid::Uuid>>(number: u128) -> T {
    uuid::Uuid::from_u128(number).into()
}

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Three messages of one conversation and one of another.
fn outbox() -> Outbox {
    let mut outbox = Outbox::new(3);
    for (lane, number) in [(1, 11), (1, 12), (1, 13), (2, 21)] {
        assert!(outbox.add(id(lane), id(number), number.to_string().into()));
    }
    outbox
}

fn next_all(outbox: &mut Outbox, now: Duration) -> Vec<String> {
    std::iter::from_fn(|| outbox.next(now)).map(|text| text.to_string()).collect()
}

#[test]
fn conversations_take_turns_within_the_window() {
    let mut outbox = outbox();
    assert_eq!(next_all(&mut outbox, at(0)), ["11", "21", "12"]);
    assert_eq!(outbox.due(), None, "only an answer makes room");
    assert!(outbox.acknowledge(id(11)) && !outbox.acknowledge(id(11)));
    assert_eq!(next_all(&mut outbox, at(0)), ["13"]);
    assert!(!outbox.add(id(3), id(13), "again".into()), "it waits already");
}

#[test]
fn repeats_wait_for_those_behind_and_leave_in_order() {
    let mut outbox = outbox();
    assert_eq!(next_all(&mut outbox, at(0)), ["11", "21", "12"]);
    assert_eq!(outbox.refuse(at(0), id(11), UNKNOWN, 1.0), Refused::Repeats);
    assert_eq!(next_all(&mut outbox, at(499)), [""; 0]);
    assert_eq!(outbox.due(), Some(at(500)));
    assert_eq!(next_all(&mut outbox, at(500)), [""; 0], "the second one is still under way");
    assert_eq!(outbox.refuse(at(600), id(12), UNKNOWN, 1.0), Refused::Repeats);
    assert_eq!(next_all(&mut outbox, at(1_599)), [""; 0], "twice as long");
    assert_eq!(next_all(&mut outbox, at(1_600)), ["11", "12"]);
    assert!(outbox.is_repeat(id(11)) && !outbox.is_repeat(id(13)));
    assert_eq!(outbox.repeats(), 2);
}

#[test]
fn a_lost_connection_repeats_everything_at_once() {
    let mut outbox = outbox();
    next_all(&mut outbox, at(0));
    outbox.refuse(at(0), id(11), UNKNOWN, 1.0);
    outbox.lose_connection();
    assert_eq!(outbox.oldest(), None);
    let again = next_all(&mut outbox, at(1));
    assert_eq!(again.iter().filter(|text| text.starts_with('1')).collect::<Vec<_>>(), ["11", "12"]);
    assert_eq!(again.len(), 3);
    assert_eq!(outbox.oldest(), Some(at(1)));
    assert_eq!(outbox.drain().len(), 4);
    assert_eq!((outbox.next(at(2)), outbox.due()), (None, None));
}

#[test]
fn what_was_seen_in_the_log_is_not_sent_again_and_still_counts_at_the_server() {
    let mut outbox = outbox();
    next_all(&mut outbox, at(0));
    assert!(!outbox.see(id(2), id(11)), "another conversation's message");
    assert!(outbox.see(id(1), id(11)));
    assert_eq!(next_all(&mut outbox, at(0)), [""; 0], "the window is full until the ack comes");
    assert!(!outbox.acknowledge(id(11)));
    assert_eq!(next_all(&mut outbox, at(0)), ["13"]);
}
