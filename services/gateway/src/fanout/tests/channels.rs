//! Joins and leaves of channels among the entries, in whatever order and however often they come, or never.

use entrenous_protocol::{live::ChannelMembership, rpc::store::Leave};

use super::*;

/// What happens in the channel, one thing after another; posts by seq, leaves by user.
#[derive(Debug, Clone, Copy)]
enum Happening {
    Post,
    Leave(u128),
}

/// Where something stands: the last seq and the number of leaves, it included.
#[derive(Debug, Clone, Copy)]
struct Placed {
    what: Happening,
    seq: u64,
    leaves: u64,
}

/// Users who may leave; user 1 stays.
const LEAVERS: std::ops::RangeInclusive<u128> = 2..=5;

fn standing(head: u64, leaves: u64) -> Standing {
    Standing { conversation: conversation(), kind: ConversationKind::Channel, head, leaves }
}

fn go_live_in_channel(fanout: &mut Fanout, connection: &Rc<Connection>, head: u64, leaves: u64) {
    fanout.start_syncing(connection, &standing(head, leaves));
    fanout.go_live(connection, conversation(), head, true);
}

fn post(seq: u64, leaves: u32) -> LiveMessage {
    let mut message = live(seq, 0, None);
    message.preamble.leaves = leaves;
    message
}

fn changed(fanout: &mut Fanout, user_number: u128, change: MemberChange, head: u64, leaves: u32) {
    let preamble = Preamble { subject: CONVERSATION, seq: head, leaves, ..Preamble::empty(LiveKind::Membership) };
    let content = MemberContent { user_id: user(user_number), change, role: None, by: user(1), members: Vec::new() };
    fanout.on_membership(&preamble, &ChannelMembership { content, moderators: vec![user(9)] });
}

fn note(seq: u64) -> (String, u64) {
    ("notification".to_owned(), seq)
}

/// What the store answers: entries and leaves after these, of what has happened so far.
fn read_of(happened: &[Placed], after: u64, leaves_after: u64, leaves_max: usize) -> RangeRead {
    let head = happened.iter().map(|one| one.seq).max().unwrap_or(0);
    let leaves = happened.iter().map(|one| one.leaves).max().unwrap_or(0);
    let left = happened.iter().filter_map(|one| match one.what {
        Happening::Leave(number) => Some(Leave { leave_no: one.leaves, user_id: user(number), seq: one.seq }),
        Happening::Post => None,
    });
    let left = left.filter(|leave| leave.leave_no > leaves_after).take(leaves_max).collect();
    RangeRead { leaves, left, ..read(after + 1..=head, head) }
}

fn repair_all(fanout: &mut Fanout, happened: &[Placed], leaves_max: usize) {
    for (conversation, mut after) in fanout.take_holes() {
        loop {
            let leaves_after = fanout.carried_out(conversation).unwrap();
            if fanout.on_repaired(read_of(happened, after, leaves_after, leaves_max)) {
                break;
            }
            after = fanout.forwarded(conversation).unwrap();
        }
    }
}

fn happenings() -> impl Strategy<Value = Vec<Placed>> {
    let what = prop_oneof![3 => Just(None), 1 => LEAVERS.prop_map(Some)];
    prop::collection::vec(what, 1..25).prop_map(|all| {
        let (mut seq, mut leaves, mut gone, mut placed) = (0, 0, Vec::new(), Vec::new());
        for what in all {
            let what = match what {
                Some(number) if gone.contains(&number) => continue,
                Some(number) => {
                    gone.push(number);
                    leaves += 1;
                    Happening::Leave(number)
                }
                None => {
                    seq += 1;
                    Happening::Post
                }
            };
            placed.push(Placed { what, seq, leaves });
        }
        placed
    })
}

proptest! {
    #[test]
    fn who_leaves_has_everything_before_and_nothing_after(
        all in happenings(),
        arrivals in prop::collection::vec(any::<prop::sample::Index>(), 1..60),
        leaves_max in 1_usize..3,
    ) {
        let mut fanout = Fanout::default();
        let staying = connection(&mut fanout, 1);
        let leaving: Vec<_> = LEAVERS.map(|number| (number, connection(&mut fanout, number))).collect();
        for connection in std::iter::once(&staying).chain(leaving.iter().map(|(_, connection)| connection)) {
            go_live_in_channel(&mut fanout, connection, 0, 0);
        }
        let mut happened = 0;
        for arrival in arrivals {
            let at = arrival.index(all.len());
            happened = happened.max(at + 1);
            let Placed { what, seq, leaves } = all[at];
            let leaves = u32::try_from(leaves).unwrap();
            match what {
                Happening::Post => fanout.on_live_entry(&post(seq, leaves)),
                Happening::Leave(number) => changed(&mut fanout, number, MemberChange::Left, seq, leaves),
            }
            fanout.tick();
            repair_all(&mut fanout, &all[..happened], leaves_max);
        }
        let happened = &all[..happened];
        let head = happened.iter().map(|one| one.seq).max().unwrap_or(0);
        prop_assert_eq!(sent(&staying), messages(1..=head));
        for (number, connection) in leaving {
            let left = happened.iter().find(|one| matches!(one.what, Happening::Leave(who) if who == number));
            let expected: Vec<_> = match left {
                Some(left) => messages(1..=left.seq).into_iter().chain([note(left.seq)]).collect(),
                None => messages(1..=head),
            };
            prop_assert_eq!(sent(&connection), expected, "user {}", number);
        }
    }
}

#[test]
fn an_entry_waits_for_the_leave_that_it_counts() {
    let mut fanout = Fanout::default();
    let (alice, bob) = (connection(&mut fanout, 1), connection(&mut fanout, 2));
    go_live_in_channel(&mut fanout, &alice, 3, 0);
    go_live_in_channel(&mut fanout, &bob, 3, 0);
    fanout.on_live_entry(&post(4, 1));
    assert_eq!(fanout.take_holes(), [(conversation(), 3)]);
    let leave = Leave { leave_no: 1, user_id: user(2), seq: 3 };
    assert!(fanout.on_repaired(RangeRead { leaves: 1, left: vec![leave], ..read([4], 4) }));
    // The news itself comes last, and changes nothing.
    changed(&mut fanout, 2, MemberChange::Removed, 3, 1);
    assert_eq!((sent(&bob), sent(&alice)), (vec![note(3)], messages([4])));
    assert!(fanout.take_to_check().contains(&user(2)), "whether they are a member again, the store knows");
}

#[test]
fn a_join_is_no_entry_and_begins_after_the_head() {
    let mut fanout = Fanout::default();
    let (alice, bob) = (connection(&mut fanout, 1), connection(&mut fanout, 2));
    let carol = connection(&mut fanout, 9);
    go_live_in_channel(&mut fanout, &alice, 3, 0);
    changed(&mut fanout, 2, MemberChange::Added, 3, 0);
    fanout.tick();
    assert_eq!(fanout.take_holes(), [], "nothing is awaited");
    fanout.on_live_entry(&post(4, 0));
    assert_eq!(sent(&bob), [note(4), ("group_message".to_owned(), 4)]);
    assert_eq!(sent(&carol), [note(3)], "who looks after the members is told");
    assert_eq!(sent(&alice), messages([4]));
}

#[test]
fn a_join_from_before_a_leave_that_was_carried_out_is_read_first() {
    let mut fanout = Fanout::default();
    let (alice, bob, carol) = (connection(&mut fanout, 1), connection(&mut fanout, 2), connection(&mut fanout, 3));
    go_live_in_channel(&mut fanout, &alice, 3, 0);
    go_live_in_channel(&mut fanout, &carol, 3, 0);
    changed(&mut fanout, 3, MemberChange::Removed, 3, 1);
    changed(&mut fanout, 2, MemberChange::Added, 3, 0);
    assert_eq!(bob.mode(conversation()), Mode::Paused, "bob may be the one who left");
    fanout.on_live_entry(&post(4, 1));
    assert_eq!((sent(&bob), sent(&carol)), (vec![note(4)], vec![note(3)]));
}
