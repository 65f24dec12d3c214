//! `messaging.append` alone, with many callers.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName, sql_query,
    sql_types::{BigInt, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use entrenous_message_store::store::append::{Append, AppendError, Appended, append};
use entrenous_test_support::TestPostgres;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::fixture::{connect, database};

/// A message for the function.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    pub(crate) conversation: u128,
    pub(crate) id: u128,
    pub(crate) sender: u128,
    pub(crate) device: u128,
    pub(crate) digest: [u8; 32],
}

/// A message of a sender's only device.
pub(crate) fn line(conversation: u128, id: u128, sender: u128) -> Line {
    Line { conversation, id, sender, device: sender + 1_000, digest: [7; 32] }
}

pub(crate) fn batch(lines: &[Line], budget_ms: i32, wait_ms: i32) -> Append<'_> {
    let uuids = |of: fn(&Line) -> u128| lines.iter().map(|line| Uuid::from_u128(of(line))).collect();
    Append {
        not_after: None,
        batch_id: Uuid::from_u128(u128::from(rand::random::<u64>())),
        budget_ms,
        wait_ms,
        conversation_ids: uuids(|line| line.conversation),
        ids: uuids(|line| line.id),
        sender_ids: uuids(|line| line.sender),
        device_ids: uuids(|line| line.device),
        message_types: vec!["text"; lines.len()],
        contents: vec![b"{}".as_slice(); lines.len()],
        sealed: vec![true; lines.len()],
        digests: lines.iter().map(|line| line.digest.as_slice()).collect(),
        reply_tos: Vec::new(),
        thread_ids: Vec::new(),
        attachments: Vec::new(),
        mentions: Vec::new(),
        metadatas: Vec::new(),
        signatures: Vec::new(),
    }
}

pub(crate) async fn call(connection: &mut AsyncPgConnection, lines: &[Line]) -> Result<Vec<Appended>, AppendError> {
    let mut rows = append(connection, batch(lines, 30_000, 0)).await?;
    rows.sort_by_key(|row| row.place);
    Ok(rows)
}

pub(crate) fn outcomes(rows: &[Appended]) -> Vec<(&str, Option<i64>)> {
    rows.iter().map(|row| (row.outcome.as_str(), row.seq)).collect()
}

/// Groups with empty logs.
pub(crate) async fn groups(postgres: &TestPostgres, conversations: &[u128], members: &[u128]) -> AsyncPgConnection {
    let mut connection = connect(postgres).await;
    for conversation in conversations {
        let id = Uuid::from_u128(*conversation);
        let mut text = format!(
            "INSERT INTO messaging.conversations (id, kind, max_members, member_count, created_by) \
             VALUES ('{id}', 'group', 10, 0, '{id}'); INSERT INTO messaging.heads (conversation_id) VALUES ('{id}');"
        );
        for member in members {
            let user = Uuid::from_u128(*member);
            let insert = format!(
                "INSERT INTO messaging.members (conversation_id, user_id, role, joined_seq, joined_at) \
                 VALUES ('{id}', '{user}', 'member', 1, now());"
            );
            text.push_str(&insert);
        }
        connection.batch_execute(&text).await.unwrap();
    }
    connection
}

#[derive(Debug, QueryableByName)]
pub(crate) struct Stored {
    #[diesel(sql_type = BigInt)]
    pub(crate) seq: i64,
    #[diesel(sql_type = SqlUuid)]
    pub(crate) id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    pub(crate) sender_id: Uuid,
    #[diesel(sql_type = BigInt)]
    countable_no: i64,
    #[diesel(sql_type = Timestamptz)]
    sent_at: DateTime<Utc>,
}

#[derive(QueryableByName)]
pub(crate) struct Count {
    #[diesel(sql_type = BigInt)]
    pub(crate) count: i64,
}

pub(crate) async fn count(connection: &mut AsyncPgConnection, query: &str) -> i64 {
    sql_query(query).get_result::<Count>(connection).await.unwrap().count
}

/// The whole log: gapless, each id once, times in order, the head where the log ends.
pub(crate) async fn sound_log(connection: &mut AsyncPgConnection, conversation: u128) -> Vec<Stored> {
    let id = Uuid::from_u128(conversation);
    let query = format!(
        "SELECT seq, id, sender_id, countable_no, sent_at FROM messaging.log WHERE conversation_id = '{id}' ORDER BY seq"
    );
    let log: Vec<Stored> = sql_query(query).load(connection).await.unwrap();
    assert!(log.iter().map(|entry| entry.seq).eq(1..=i64::try_from(log.len()).unwrap()), "gaps");
    assert_eq!(log.iter().map(|entry| entry.id).collect::<HashSet<_>>().len(), log.len(), "doubles");
    assert!(log.is_sorted_by_key(|entry| entry.sent_at), "times");
    assert!(log.is_sorted_by_key(|entry| entry.countable_no), "counts");
    let head = format!("SELECT last_seq AS count FROM messaging.heads WHERE conversation_id = '{id}'");
    assert_eq!(count(connection, &head).await, i64::try_from(log.len()).unwrap());
    log
}

/// A sender that keeps its order: what is busy is tried again, with everything of that conversation behind it. Every third
/// batch repeats what was sent before.
async fn send_in_order(mut connection: AsyncPgConnection, sender: u128, messages: u128) -> BTreeMap<u128, i64> {
    let mut seqs = BTreeMap::new();
    for conversation in [1, 2, 3] {
        let mut next = 0;
        while next < messages {
            let size = 1 + (next + sender) % 9;
            let from = if next % 3 == 0 { next.saturating_sub(4) } else { next };
            let numbers = from..(next + size).min(messages);
            let lines: Vec<_> = numbers
                .clone()
                .map(|n| line(conversation, sender * 100_000 + conversation * 10_000 + n, sender))
                .collect();
            let rows = call(&mut connection, &lines).await.unwrap();
            if rows.iter().any(|row| row.outcome == "busy") {
                assert!(rows.iter().all(|row| row.outcome == "busy"), "{rows:?}");
                tokio::task::yield_now().await;
                continue;
            }
            for (line, row) in lines.iter().zip(&rows) {
                let seq = row.seq.unwrap();
                assert_eq!(*seqs.entry(line.id).or_insert(seq), seq, "another answer: {row:?}");
            }
            next = numbers.end;
        }
    }
    seqs
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_with_heavy_repeats_leave_sound_logs() {
    let postgres = database().await;
    let mut connection = groups(&postgres, &[1, 2, 3], &[1, 2, 3, 4]).await;
    let mut senders = JoinSet::new();
    // Each sender twice: as if a gateway asked again while its first request was still under way.
    for sender in [1, 2, 3, 4, 1, 2, 3, 4] {
        senders.spawn(send_in_order(connect(&postgres).await, sender, 120));
    }
    let answers: Vec<_> = senders.join_all().await;
    for conversation in [1, 2, 3] {
        let log = sound_log(&mut connection, conversation).await;
        assert_eq!(log.len(), 480);
        for sender in [1_u128, 2, 3, 4] {
            let own = log.iter().filter(|entry| entry.sender_id == Uuid::from_u128(sender));
            assert!(own.is_sorted_by_key(|entry| entry.id), "the sender's order");
        }
        for answers in &answers {
            let stored: BTreeMap<_, _> = log.iter().map(|entry| (entry.id.as_u128(), entry.seq)).collect();
            let own = answers.iter().filter(|(id, _)| *id % 100_000 / 10_000 == conversation);
            assert!(own.clone().count() == 120 && own.into_iter().all(|(id, seq)| stored[id] == *seq));
        }
    }
    // One row for each call that stored something, and its ranges are the logs, each seq once.
    let fed = "SELECT sum(l - f + 1)::bigint AS count FROM messaging.feed, unnest(first_seqs, last_seqs) r (f, l)";
    assert_eq!(count(&mut connection, fed).await, 3 * 480);
}

#[tokio::test(flavor = "multi_thread")]
async fn repeats_get_the_first_answer_and_others_a_conflict() {
    let postgres = database().await;
    let mut connection = groups(&postgres, &[1, 2], &[1, 2]).await;
    let first = line(1, 1, 1);
    let rows = call(&mut connection, &[first, line(1, 2, 2), line(2, 1, 1)]).await.unwrap();
    assert_eq!(outcomes(&rows), [("stored", Some(1)), ("stored", Some(2)), ("stored", Some(1))]);
    let repeat = call(&mut connection, &[first, line(1, 3, 1)]).await.unwrap();
    assert_eq!(outcomes(&repeat), [("repeat", Some(1)), ("stored", Some(3))]);
    assert_eq!((repeat[0].sent_at, repeat[0].countable_no), (rows[0].sent_at, Some(1)));

    let other_device = Line { device: 9, ..first };
    let other_digest = Line { digest: [8; 32], ..first };
    let other_sender = Line { sender: 2, ..first };
    let stranger = Line { sender: 3, ..first };
    for (line, outcome) in [
        (other_device, "id_conflict"),
        (other_digest, "id_conflict"),
        (other_sender, "id_conflict"),
        (stranger, "not_found"),
    ] {
        assert_eq!(outcomes(&call(&mut connection, &[line]).await.unwrap()), [(outcome, None)]);
    }
    // Removed since, and erased since: the answer stays.
    connection
        .batch_execute("UPDATE messaging.members SET left_seq = 3, left_at = now(); UPDATE messaging.log SET request_digest = NULL, content = NULL")
        .await
        .unwrap();
    for repeat in [first, other_digest] {
        assert_eq!(outcomes(&call(&mut connection, &[repeat]).await.unwrap()), [("repeat", Some(1))]);
    }
    assert_eq!(outcomes(&call(&mut connection, &[line(1, 4, 1)]).await.unwrap()), [("not_found", None)]);
    assert_eq!(sound_log(&mut connection, 1).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn authority_is_looked_at_message_by_message() {
    let postgres = database().await;
    let mut connection = groups(&postgres, &[1, 2], &[1, 2]).await;
    let set = "UPDATE messaging.members SET role = 'reader' WHERE user_id = '00000000-0000-0000-0000-000000000002'; \
               UPDATE messaging.conversations SET kind = 'channel', posting = 'moderators' \
               WHERE id = '00000000-0000-0000-0000-000000000002'";
    connection.batch_execute(set).await.unwrap();
    let lines = [line(1, 1, 1), line(1, 2, 2), line(2, 3, 1), line(3, 4, 1), line(1, 5, 3), line(1, 6, 1)];
    let rows = call(&mut connection, &lines).await.unwrap();
    let expected = [
        ("stored", Some(1)),
        ("forbidden", None),
        ("forbidden", None),
        ("not_found", None),
        ("not_found", None),
        ("stored", Some(2)),
    ];
    assert_eq!(outcomes(&rows), expected);
    let lines = [line(1, 7, 1)];
    let clear = Append { sealed: vec![false], ..batch(&lines, 1_000, 0) };
    assert_eq!(append(&mut connection, clear).await.unwrap()[0].outcome, "encryption_mismatch");
}

#[tokio::test(flavor = "multi_thread")]
async fn control_messages_do_not_count() {
    let postgres = database().await;
    let mut connection = groups(&postgres, &[1], &[1]).await;
    let lines = [line(1, 1, 1), line(1, 2, 1), line(1, 3, 1)];
    let statement = Append { message_types: vec!["text", "control", "media"], ..batch(&lines, 1_000, 0) };
    let mut rows = append(&mut connection, statement).await.unwrap();
    rows.sort_by_key(|row| row.place);
    assert_eq!(rows.iter().map(|row| row.countable_no.unwrap()).collect::<Vec<_>>(), [1, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_statement_is_prepared_once() {
    let postgres = database().await;
    let mut connection = groups(&postgres, &[1], &[1]).await;
    for size in 1..40_u128 {
        let lines: Vec<_> = (0..size).map(|n| line(1, size * 100 + n, 1)).collect();
        call(&mut connection, &lines).await.unwrap();
    }
    let prepared = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%FROM messaging.append_before(%' \
         AND statement NOT LIKE '%pg_prepared_statements%'";
    assert_eq!(count(&mut connection, prepared).await, 1);
}
