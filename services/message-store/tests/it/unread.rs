//! Unread counts are what their definition says, whatever happened before.

use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use entrenous_model::ConversationId;
use entrenous_protocol::{
    Code,
    rpc::store::{
        Authors, Covered, ListUnread, ListUnreadRequest, ReadAuthors, ReadAuthorsRequest, ReadCursor, ReadUnread,
        ReadUnreadRequest, Unread,
    },
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use crate::{
    fixture::{Fixture, connect, into, new_message, sealed, user},
    function::count,
};

async fn unread(fixture: &Fixture, number: u128, conversation_id: ConversationId, read_seq: u64) -> Option<Unread> {
    let cursors = vec![ReadCursor { conversation_id, read_seq }];
    let read = fixture.call::<ReadUnread>(&ReadUnreadRequest { user_id: user(number), cursors }).await.unwrap();
    read.into_iter().next()
}

async fn unread_seqs(fixture: &Fixture, number: u128, conversation_id: ConversationId, read_seq: u64) -> Vec<u64> {
    let cursor = ReadCursor { conversation_id, read_seq };
    let request = ListUnreadRequest { user_id: user(number), cursor };
    fixture.call::<ListUnread>(&request).await.unwrap().seqs
}

#[tokio::test(flavor = "multi_thread")]
async fn sending_reads_and_control_messages_do_not_count() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let control = r#"{"message_type":"control","content":{"scheme":"mls","ciphertext":"aGk="}}"#;
    let say = async |sender| fixture.send(into(group, sender, sealed("a"))).await.seq;
    let at = async |number, read_seq| {
        let one = unread(&fixture, number, group, read_seq).await.unwrap();
        (one.read_seq, one.unread_count)
    };
    assert_eq!(at(1, 0).await, (0, 0));
    for expected in 2..=4 {
        assert_eq!(say(1).await, expected);
    }
    fixture.send(into(group, 1, new_message(control))).await;
    assert_eq!(at(1, 0).await, (4, 0), "one's own messages are read, and the protocol's own do not move the cursor");
    assert_eq!(at(2, 0).await, (0, 3));
    assert_eq!((at(2, 3).await, at(2, 5).await, at(2, 99).await), ((3, 1), (5, 0), (5, 0)));
    assert_eq!(unread_seqs(&fixture, 2, group, 2).await, [3, 4]);
    fixture.send(into(group, 2, new_message(control))).await;
    assert_eq!(at(2, 0).await, (0, 3), "a commit is not somebody reading");
    say(2).await;
    assert_eq!((at(2, 0).await, at(1, 0).await), ((7, 0), (4, 1)));
    // Who leaves and comes back begins anew.
    fixture.remove(1, group, 2).await.unwrap();
    assert_eq!(unread(&fixture, 2, group, 0).await, None);
    let request = ListUnreadRequest { user_id: user(2), cursor: ReadCursor { conversation_id: group, read_seq: 0 } };
    assert_eq!(fixture.call::<ListUnread>(&request).await.unwrap_err().code, Code::NotFound);
    say(1).await;
    fixture.add(1, group, 2, None).await.unwrap();
    assert_eq!(at(2, 4).await, (9, 0));
    say(1).await;
    assert_eq!((at(2, 4).await, unread_seqs(&fixture, 2, group, 4).await), ((9, 1), vec![11]));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_history_leaves_counts_that_can_be_explained() {
    let (fixture, replica) = Fixture::start().await;
    let mut connection = connect(&fixture.postgres).await;
    for seed in 0..4 {
        let mut rng = StdRng::seed_from_u64(seed);
        let group = fixture.group(&[1, 2, 3]).await.id;
        for _ in 0..40 {
            step(&fixture, &mut connection, group, &mut rng).await;
            let last = fixture.log(None, group).await.last_seq;
            for number in 1..=3 {
                let read_seq = rng.random_range(0..=last + 2);
                let Some(found) = unread(&fixture, number, group, read_seq).await else { continue };
                let seqs = unread_seqs(&fixture, number, group, read_seq).await;
                let expected = by_definition(&mut connection, group, number, read_seq).await;
                assert_eq!(seqs, expected, "seed {seed}, user {number} who read {read_seq} of {last}");
                assert_eq!(found.unread_count, u64::try_from(seqs.len()).unwrap(), "seed {seed}: {found:?} {seqs:?}");
            }
        }
        connection.batch_execute("DELETE FROM messaging.members").await.unwrap();
    }
    replica.stop().await;
}

/// A message of somebody, a deletion, a removal or return, or a beginning cut off.
async fn step(fixture: &Fixture, connection: &mut AsyncPgConnection, group: ConversationId, rng: &mut StdRng) {
    let log = fixture.log(None, group).await;
    match rng.random_range(0..10) {
        0..6 => {
            let kind = if rng.random_bool(0.3) { "control" } else { "text" };
            let json = format!(r#"{{"message_type":"{kind}","content":{{"scheme":"x","ciphertext":"aGk="}}}}"#);
            // Who is no member at the moment is refused.
            fixture.append_one(into(group, rng.random_range(1..=3), new_message(&json))).await;
        }
        6 | 7 => {
            let Some(entry) = log.entries.choose(rng) else { return };
            let delete = format!(
                "UPDATE messaging.log SET deleted = true, content = NULL, request_digest = NULL
                 WHERE conversation_id = '{group}' AND seq = {} AND kind = 'message'",
                entry.seq
            );
            connection.batch_execute(&delete).await.unwrap();
        }
        8 => {
            if fixture.remove(1, group, 3).await.is_err() {
                fixture.add(1, group, 3, None).await.unwrap();
            }
        }
        _ => {
            let first = rng.random_range(log.first_seq..=log.last_seq);
            let cut = format!(
                "UPDATE messaging.heads SET first_seq = {first} WHERE conversation_id = '{group}';
                 DELETE FROM messaging.log WHERE conversation_id = '{group}' AND seq < {first}"
            );
            connection.batch_execute(&cut).await.unwrap();
        }
    }
}

/// Messages of others, newer than the read cursor, which moves with one's own; not deleted, not of the protocol.
async fn by_definition(
    connection: &mut AsyncPgConnection,
    group: ConversationId,
    number: u128,
    read_seq: u64,
) -> Vec<u64> {
    let me = user(number);
    let is_unread = format!(
        "kind = 'message' AND message_type <> 'control' AND NOT deleted AND sender_id <> '{me}' AND seq > {read_seq}
         AND seq >= (SELECT joined_seq FROM messaging.members WHERE conversation_id = '{group}' AND user_id = '{me}')
         AND seq > coalesce((SELECT max(seq) FROM messaging.log WHERE conversation_id = '{group}' AND sender_id = '{me}'
                             AND kind = 'message' AND message_type <> 'control'), 0)"
    );
    let rest = format!("FROM messaging.log WHERE conversation_id = '{group}' AND {is_unread}");
    let mut seqs = Vec::new();
    loop {
        let after = seqs.last().copied().unwrap_or(0);
        let next = format!("SELECT coalesce(min(seq), 0) AS count {rest} AND seq > {after}");
        match u64::try_from(count(connection, &next).await).unwrap() {
            0 => return seqs,
            seq => seqs.push(seq),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_that_is_wrong_is_found() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2, 3]).await.id;
    for sender in [1, 2, 1] {
        fixture.send(into(group, sender, sealed("a"))).await;
    }
    let mut connection = connect(&fixture.postgres).await;
    let drift = "SELECT drift AS count FROM messaging.check_unread(10) WHERE looked_at = 3";
    assert_eq!(count(&mut connection, drift).await, 0);
    connection.batch_execute("UPDATE messaging.heads SET countable_no = countable_no + 1").await.unwrap();
    assert_eq!(count(&mut connection, drift).await, 3, "one too many for each of the three");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_concern_the_authors_that_are_there() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2, 3, 4]).await.id;
    let other = fixture.group(&[1, 2]).await.id;
    for sender in [1, 2, 2, 3, 4] {
        fixture.send(into(group, sender, sealed("a"))).await;
    }
    fixture.remove(1, group, 4).await.unwrap();
    let covered = |conversation_id, after, up_to| Covered { user_id: user(2), conversation_id, after, up_to };
    let nobody = ConversationId::direct(user(8), user(9));
    let receipts = vec![
        covered(group, 0, 99),
        covered(other, 0, 9),
        covered(group, 4, 5),
        covered(nobody, 0, 1),
        covered(group, 2, 4),
    ];
    let mut found = fixture.call::<ReadAuthors>(&ReadAuthorsRequest { receipts }).await.unwrap();
    for authors in &mut found {
        authors.user_ids.sort();
    }
    let authors =
        |member_count, users: &[u128]| Authors { member_count, user_ids: users.iter().copied().map(user).collect() };
    assert_eq!(
        found,
        [authors(3, &[1, 3]), authors(2, &[]), authors(3, &[3]), authors(0, &[]), authors(3, &[])],
        "others, once each, and no longer who has left"
    );
    let large = format!("UPDATE messaging.conversations SET member_count = 257 WHERE id = '{group}'");
    connect(&fixture.postgres).await.batch_execute(&large).await.unwrap();
    let request = ReadAuthorsRequest { receipts: vec![covered(group, 0, 99)] };
    assert_eq!(fixture.call::<ReadAuthors>(&request).await.unwrap(), [authors(257, &[])]);
    replica.stop().await;
}
