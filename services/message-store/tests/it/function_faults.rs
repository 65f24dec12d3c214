//! `messaging.append` alone, when something stands in its way.

use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use entrenous_message_store::store::append::{AppendError, append};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{
    fixture::{connect, database},
    function::{batch, call, count, groups, line, outcomes, sound_log},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_conversation_does_not_hold_up_the_others() {
    let postgres = database().await;
    let mut connection = groups(&postgres, &[1, 2], &[1]).await;
    let mut holder = connect(&postgres).await;
    let lock =
        format!("BEGIN; SELECT FROM messaging.heads WHERE conversation_id = '{}' FOR UPDATE", Uuid::from_u128(1));
    holder.batch_execute(&lock).await.unwrap();
    let lines = [line(1, 1, 1), line(2, 2, 1), line(1, 3, 1)];
    let rows = call(&mut connection, &lines).await.unwrap();
    assert_eq!(outcomes(&rows), [("busy", None), ("stored", Some(1)), ("busy", None)]);
    let waited = append(&mut connection, batch(&lines[..1], 5_000, 10)).await;
    assert!(matches!(waited, Err(AppendError::Busy)), "{waited:?}");
    holder.batch_execute("ROLLBACK").await.unwrap();
    let rows = call(&mut connection, &lines).await.unwrap();
    assert_eq!(outcomes(&rows), [("stored", Some(1)), ("repeat", Some(1)), ("stored", Some(2))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_stored_when_the_deadline_has_passed() {
    let postgres = database().await;
    let mut connection = groups(&postgres, &[1], &[1]).await;
    let late = append(&mut connection, batch(&[line(1, 1, 1)], 0, 0)).await;
    assert!(matches!(late, Err(AppendError::Late)), "{late:?}");
    // Something inside takes longer than there is time.
    let slow = "CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS \
                'BEGIN PERFORM pg_sleep(0.05); RETURN NEW; END'; \
                CREATE TRIGGER slow BEFORE INSERT ON messaging.log FOR EACH ROW EXECUTE FUNCTION public.slow()";
    connection.batch_execute(slow).await.unwrap();
    let late = append(&mut connection, batch(&[line(1, 1, 1)], 20, 0)).await;
    assert!(matches!(late, Err(AppendError::Late)), "{late:?}");
    assert!(sound_log(&mut connection, 1).await.is_empty());
    assert_eq!(outcomes(&call(&mut connection, &[line(1, 1, 1)]).await.unwrap()), [("stored", Some(1))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_message_is_told_from_a_database_that_is_away() {
    let postgres = database().await;
    let mut connection = groups(&postgres, &[1, 2], &[1]).await;
    connection.batch_execute(&poison(1)).await.unwrap();
    let refused = call(&mut connection, &[line(2, 1, 1), line(1, 2, 1)]).await;
    assert!(matches!(refused, Err(AppendError::Poisoned(_))), "{refused:?}");
    let doubled = call(&mut connection, &[line(2, 1, 1), line(2, 1, 1)]).await;
    assert!(matches!(doubled, Err(AppendError::Poisoned(_))), "{doubled:?}");
    assert!(sound_log(&mut connection, 2).await.is_empty());

    let mut killer = connect(&postgres).await;
    killer.batch_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'").await.unwrap();
    let away = call(&mut connection, &[line(2, 1, 1)]).await;
    assert!(matches!(away, Err(AppendError::Away(_))), "{away:?}");
}

/// Makes every message into a conversation one that cannot be stored: its expiry is beyond all timestamps.
pub(crate) fn poison(conversation: u128) -> String {
    let id = Uuid::from_u128(conversation);
    format!("UPDATE messaging.conversations SET retention_seconds = 1000000000000000 WHERE id = '{id}'")
}

async fn remove_and_add(mut connection: AsyncPgConnection, times: usize) -> Vec<(i64, i64)> {
    let (id, user) = (Uuid::from_u128(1), Uuid::from_u128(1));
    let mut away = Vec::new();
    for _ in 0..times {
        let mut seqs = [0; 2];
        for (seq, change) in seqs.iter_mut().zip([
            "left_seq = (SELECT last_seq FROM messaging.heads h WHERE h.conversation_id = m.conversation_id), left_at = now()",
            "left_seq = NULL, left_at = NULL",
        ]) {
            let text = format!(
                "BEGIN; SELECT FROM messaging.heads WHERE conversation_id = '{id}' FOR NO KEY UPDATE; \
                 SELECT messaging.append_entry(gen_random_uuid(), '{id}', gen_random_uuid(), 'member', '{user}', NULL, '{{}}'); \
                 UPDATE messaging.members m SET {change} WHERE user_id = '{user}'"
            );
            connection.batch_execute(&text).await.unwrap();
            *seq = count(&mut connection, &format!("SELECT last_seq AS count FROM messaging.heads WHERE conversation_id = '{id}'")).await;
            connection.batch_execute("COMMIT").await.unwrap();
        }
        away.push((seqs[0], seqs[1]));
    }
    away
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_posts_between_removal_and_return() {
    let postgres = database().await;
    let mut connection = groups(&postgres, &[1], &[1, 2]).await;
    let mut senders = JoinSet::new();
    for caller in 0..3_u128 {
        let mut connection = connect(&postgres).await;
        senders.spawn(async move {
            for n in 0..300 {
                call(&mut connection, &[line(1, caller * 1_000 + n + 1, 1)]).await.unwrap();
            }
        });
    }
    let away = remove_and_add(connect(&postgres).await, 40).await;
    senders.join_all().await;
    let log = sound_log(&mut connection, 1).await;
    let is_away = |seq: i64| away.iter().any(|(left, back)| *left < seq && seq < *back);
    let wrong: Vec<_> = log.iter().filter(|entry| is_away(entry.seq)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(log.len() > 80, "{}", log.len());
}
