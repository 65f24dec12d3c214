use entrenous_protocol::status::PresenceStatus;
use uuid::Uuid;

use super::*;

const ORIGIN: u64 = 1;

fn user(number: u128) -> UserId {
    Uuid::from_u128(number).into()
}

fn viewer() -> UserId {
    user(100)
}

fn shown(user_id: UserId, revision: u64) -> Shown {
    let status = UserStatus { status: PresenceStatus::Online, ..UserStatus::hidden(user_id) };
    Shown { revision, frame: frame::status_update(&status).into() }
}

/// Whom the connections are told of, where presence says the same of everybody.
fn told(sights: &mut Sights, revision: Option<u64>) -> Vec<(u64, UserId, bool)> {
    let frames = sights.take_due(100, |_| false, |user_id| revision.map(|revision| shown(user_id, revision)));
    let read = |(origin, frame): (u64, ByteString)| {
        let frame: serde_json::Value = serde_json::from_str(&frame).unwrap();
        let user_id: UserId = serde_json::from_value(frame["payload"]["user_id"].clone()).unwrap();
        (origin, user_id, frame["payload"]["status"] == "online")
    };
    let mut told: Vec<_> = frames.into_iter().map(read).collect();
    told.sort_unstable();
    told
}

fn judge_all(sights: &mut Sights, may_see: bool) -> usize {
    let mut count = 0;
    while let Some(question) = sights.take_question() {
        count += question.user_ids.len();
        let answers = vec![may_see; question.user_ids.len()];
        sights.judge(&question, &answers);
    }
    count
}

#[test]
fn nobody_is_told_before_the_store_has_judged_and_presence_has_spoken() {
    let mut sights = Sights::default();
    sights.watch(ORIGIN, viewer(), &[user(1), user(2), user(1)]).unwrap();
    sights.note_changed(user(1));
    assert_eq!(told(&mut sights, Some(1)), []);
    let mut question = sights.take_question().unwrap();
    question.user_ids.sort_unstable();
    assert_eq!(question, Question { origin: ORIGIN, viewer: viewer(), user_ids: vec![user(1), user(2)] });
    assert_eq!(sights.take_question(), None);
    sights.judge(&question, &[true, false]);
    assert_eq!(told(&mut sights, None), [(ORIGIN, user(2), false)], "what may not be seen needs no word of presence");
    sights.note_changed(user(1));
    assert_eq!(told(&mut sights, Some(1)), [(ORIGIN, user(1), true)]);
}

#[test]
fn what_was_told_is_told_again_only_when_it_is_another() {
    let mut sights = Sights::default();
    sights.watch(ORIGIN, viewer(), &[user(1)]).unwrap();
    judge_all(&mut sights, true);
    assert_eq!(told(&mut sights, Some(1)).len(), 1);
    sights.note_changed(user(1));
    sights.note_changed(user(1));
    assert_eq!(told(&mut sights, Some(1)), []);
    sights.note_changed(user(1));
    assert_eq!(told(&mut sights, Some(2)).len(), 1);
    // Asked for again, it is told again.
    assert_eq!(sights.watch(ORIGIN, viewer(), &[user(1)]).unwrap(), []);
    assert_eq!(told(&mut sights, Some(2)).len(), 1);
}

#[test]
fn a_new_judgement_hides_and_shows() {
    let mut sights = Sights::default();
    sights.watch(ORIGIN, viewer(), &[user(1), user(2)]).unwrap();
    judge_all(&mut sights, true);
    told(&mut sights, Some(1));
    sights.judge_again(user(1));
    assert_eq!(told(&mut sights, Some(1)), [], "what was judged counts until then");
    assert_eq!(judge_all(&mut sights, false), 1);
    assert_eq!(told(&mut sights, Some(1)), [(ORIGIN, user(1), false)]);
    sights.judge_hidden_again();
    assert_eq!(judge_all(&mut sights, true), 1);
    assert_eq!(told(&mut sights, Some(1)), [(ORIGIN, user(1), true)]);
    // The viewer's own privacy counts for all that they see.
    sights.judge_again(viewer());
    assert_eq!(judge_all(&mut sights, true), 2);
    sights.judge_all_again();
    let question = sights.take_question().unwrap();
    sights.ask_again(&question);
    assert_eq!(judge_all(&mut sights, false), 2);
    assert_eq!(told(&mut sights, Some(1)).len(), 2);
}

#[test]
fn who_looks_away_or_leaves_is_told_nothing_more_and_leaves_nothing_behind() {
    let mut sights = Sights::default();
    sights.watch(ORIGIN, viewer(), &[user(1), user(2)]).unwrap();
    sights.watch(ORIGIN + 1, viewer(), &[user(1)]).unwrap();
    judge_all(&mut sights, true);
    told(&mut sights, Some(1));
    assert_eq!(sights.unwatch(ORIGIN, &[user(1), user(3)]), [user(1)]);
    sights.note_changed(user(1));
    assert_eq!(told(&mut sights, Some(2)), [(ORIGIN + 1, user(1), true)]);
    assert_eq!(sights.leave(ORIGIN + 1), [user(1)]);
    assert_eq!(sights.unwatch(ORIGIN, &[user(2)]), [user(2)]);
    assert!(sights.is_empty());
    assert_eq!(sights.leave(ORIGIN), []);
    assert!(sights.watchers.is_empty() && sights.by_viewer.is_empty());
}

#[test]
fn who_is_busy_is_told_later_and_rounds_are_bounded() {
    let mut sights = Sights::default();
    let users: Vec<UserId> = (0..10).map(user).collect();
    sights.watch(ORIGIN, viewer(), &users).unwrap();
    sights.watch(ORIGIN + 1, viewer(), &users[..1]).unwrap();
    judge_all(&mut sights, true);
    let to_idle = |origin| origin == ORIGIN;
    assert_eq!(sights.take_due(100, to_idle, |user_id| Some(shown(user_id, 1))).len(), 1);
    assert!(sights.has_due());
    for _ in 0..3 {
        assert!(sights.take_due(4, |_| false, |user_id| Some(shown(user_id, 1))).len() <= 4);
    }
    assert!(!sights.has_due());
}

#[test]
fn whoever_looks_to_and_fro_waits_once() {
    let mut sights = Sights::default();
    let users: Vec<UserId> = (0..10).map(user).collect();
    for _ in 0..100 {
        sights.watch(ORIGIN, viewer(), &users).unwrap();
        judge_all(&mut sights, true);
        sights.unwatch(ORIGIN, &users);
    }
    assert_eq!((sights.due.len(), sights.unjudged.len()), (1, 0));
    assert_eq!(told(&mut sights, Some(1)), []);
    sights.watch(ORIGIN, viewer(), &users).unwrap();
    judge_all(&mut sights, true);
    assert_eq!(told(&mut sights, Some(1)).len(), 10);
    assert!(!sights.has_due());
}

#[test]
fn a_connection_watches_so_many_and_no_more() {
    let mut sights = Sights::default();
    let users: Vec<UserId> = (0..=WATCHED_MAX).map(|number| user(u128::try_from(number).unwrap())).collect();
    assert!(sights.watch(ORIGIN, viewer(), &users).is_err());
    assert!(sights.is_empty());
    assert_eq!(sights.watch(ORIGIN, viewer(), &users[1..]).unwrap().len(), WATCHED_MAX);
    assert!(sights.watch(ORIGIN, viewer(), &users[..1]).is_err());
    assert_eq!(sights.watch(ORIGIN, viewer(), &users[1..3]).unwrap(), []);
}
