//! The feed as an answer to what changed, and how it is kept short.

use std::time::Duration;

use diesel_async::SimpleAsyncConnection;
use entrenous_model::ConversationId;
use entrenous_protocol::rpc::store::{ChangedSince, ChangedSinceRequest, ChangedSinceResponse, Head};
use entrenous_test_support::wait_for;

use crate::{
    fixture::{Fixture, connect, into, new_message, sealed, stored, to, user},
    function::count,
};

async fn changed(fixture: &Fixture, age: Duration) -> Option<Vec<(ConversationId, u64)>> {
    let request = ChangedSinceRequest { age_ms: u64::try_from(age.as_millis()).unwrap() };
    match fixture.call::<ChangedSince>(&request).await.unwrap() {
        ChangedSinceResponse::Heads(mut heads) => {
            heads.sort_unstable_by_key(|head| head.conversation_id);
            Some(heads.into_iter().map(|Head { conversation_id, last_seq }| (conversation_id, last_seq)).collect())
        }
        ChangedSinceResponse::Unknown => None,
    }
}

fn sorted<const N: usize>(mut heads: [(ConversationId, u64); N]) -> Vec<(ConversationId, u64)> {
    heads.sort_unstable();
    heads.to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_since_is_told_once_with_its_head() {
    let (fixture, replica) = Fixture::start().await;
    assert_eq!(changed(&fixture, Duration::ZERO).await, Some(Vec::new()));
    let (old, young) = (fixture.group(&[1, 2]).await.id, fixture.group(&[1, 2]).await.id);
    fixture.send(into(old, 1, sealed("a"))).await;
    let mut connection = connect(&fixture.postgres).await;
    connection
        .batch_execute("UPDATE messaging.feed SET created_at = created_at - interval '10 minutes'")
        .await
        .unwrap();
    fixture.append(vec![into(young, 1, sealed("a")), into(young, 2, sealed("a")), to(2, 1, sealed("a"))]).await;
    fixture.send(into(young, 1, sealed("a"))).await;
    let direct = ConversationId::direct(user(1), user(2));
    assert_eq!(changed(&fixture, Duration::ZERO).await, Some(sorted([(young, 4), (direct, 1)])));
    assert_eq!(changed(&fixture, Duration::from_secs(5 * 60)).await, Some(sorted([(young, 4), (direct, 1)])));
    assert_eq!(
        changed(&fixture, Duration::from_secs(11 * 60)).await,
        Some(sorted([(old, 2), (young, 4), (direct, 1)]))
    );
    // As long as rows are surely kept, and what is added to the age counts.
    assert!(changed(&fixture, Duration::from_secs(59 * 60)).await.is_some());
    assert_eq!(changed(&fixture, Duration::from_secs(60 * 60 - 30)).await, None);
    assert_eq!(changed(&fixture, Duration::MAX / 1_000_000).await, None);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_to_tell_is_said_so() {
    let (fixture, replica) = Fixture::start().await;
    let mut connection = connect(&fixture.postgres).await;
    let rows = |from: u32, to: u32| {
        format!(
            "INSERT INTO messaging.feed (created_at, batch_id, conversation_ids, first_seqs, last_seqs, live_done, event_done) \
             SELECT now(), gen_random_uuid(), array_agg(md5(n::text)::uuid), array_agg(1), array_agg(9007199254740991), true, true \
             FROM generate_series({from}, {to}) n GROUP BY n / 500"
        )
    };
    connection.batch_execute(&rows(1, 20_000)).await.unwrap();
    let heads = changed(&fixture, Duration::ZERO).await.unwrap();
    assert_eq!(heads.len(), 20_000);
    let json = serde_json::to_vec(&ChangedSinceResponse::Heads(
        heads.iter().map(|(id, seq)| Head { conversation_id: *id, last_seq: *seq }).collect(),
    ));
    assert!(json.unwrap().len() < 2 << 20);
    connection.batch_execute(&rows(20_001, 20_001)).await.unwrap();
    assert_eq!(changed(&fixture, Duration::ZERO).await, None);
    replica.stop().await;
}

/// A row gets its time before its transaction commits: whoever asked in between must be told when it asks again.
#[tokio::test(flavor = "multi_thread")]
async fn what_commits_late_is_told_to_those_who_asked_before() {
    let (fixture, replica) = Fixture::start().await;
    let (other, late, beside) =
        (fixture.group(&[1]).await.id, fixture.group(&[1, 2]).await.id, fixture.group(&[1]).await.id);
    let mut connection = connect(&fixture.postgres).await;
    connection
        .batch_execute("UPDATE messaging.feed SET created_at = created_at - interval '10 minutes'")
        .await
        .unwrap();
    // Mentions are written after the feed row got its time.
    let mut holder = connect(&fixture.postgres).await;
    holder.batch_execute("BEGIN; LOCK TABLE messaging.mentions IN EXCLUSIVE MODE").await.unwrap();
    let json = format!(r#"{{"content":{{"scheme":"x","ciphertext":"aGk="}},"mentions":["{}"]}}"#, user(2));
    let asking = async {
        let waits = async || match count(&mut connection, "SELECT count(*) FROM pg_locks WHERE NOT granted").await {
            0 => Err("nobody waits"),
            _ => Ok(()),
        };
        wait_for("the append to wait", waits).await.unwrap();
        fixture.send(into(other, 1, sealed("a"))).await;
        assert_eq!(changed(&fixture, Duration::ZERO).await, Some(sorted([(other, 2)])));
        holder.batch_execute("COMMIT").await.unwrap();
    };
    // Two conversations, so that no lock is given up after a moment.
    let batch = vec![into(late, 1, new_message(&json)), into(beside, 1, sealed("a"))];
    let (results, ()) = tokio::join!(fixture.append(batch), asking);
    assert_eq!(stored(&results[0]).seq, 2);
    assert_eq!(changed(&fixture, Duration::ZERO).await, Some(sorted([(other, 2), (late, 2), (beside, 2)])));
    replica.stop().await;
}

/// Three partitions in the past: done with, not done with, and done with but still to be kept; rows in the default one.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_with_is_dropped() {
    let (fixture, replica) = Fixture::start().await;
    replica.stop().await;
    let mut connection = connect(&fixture.postgres).await;
    connection.batch_execute(PAST).await.unwrap();
    let partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'messaging.feed'::regclass";
    let before = count(&mut connection, partitions).await;
    // While somebody reads it, dropping gives up, so that nobody queues behind it.
    let mut holder = connect(&fixture.postgres).await;
    holder.batch_execute("BEGIN; SELECT count(*) FROM messaging.feed").await.unwrap();
    let error = connection.batch_execute("SELECT messaging.drop_feed_partition('1 hour')").await.unwrap_err();
    assert!(error.to_string().contains("lock timeout"), "{error}");
    assert_eq!(count(&mut connection, partitions).await, before);
    holder.batch_execute("COMMIT").await.unwrap();

    let replica = fixture.replica().await;
    let trimmed = async || {
        let left = count(&mut connection, "SELECT count(*) FROM messaging.feed_default").await;
        let old = count(&mut connection, partitions).await;
        if (left, old) == (2, before - 1) { Ok(()) } else { Err(format!("{left} rows, {old} of {before} partitions")) }
    };
    wait_for("the feed to be tidied", trimmed).await.unwrap();
    for (name, is_there) in [("done", 0), ("open", 1), ("young", 1)] {
        let query = format!("SELECT count(*) FROM pg_class WHERE relname = 'feed_test_{name}'");
        assert_eq!(count(&mut connection, &query).await, is_there, "{name}");
    }
    let group = fixture.group(&[1]).await.id;
    fixture.send(into(group, 1, sealed("a"))).await;
    replica.stop().await;
}

const PAST: &str = "
    CREATE FUNCTION public.add(name text, starts timestamptz, ends timestamptz, is_done boolean) RETURNS void
    LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE format('CREATE TABLE messaging.%I PARTITION OF messaging.feed FOR VALUES FROM (%L) TO (%L)',
            'feed_test_' || name, starts, ends);
        INSERT INTO messaging.feed (created_at, batch_id, conversation_ids, first_seqs, last_seqs, live_done, event_done, next_try_at)
        SELECT starts + interval '1 second', gen_random_uuid(), ARRAY[gen_random_uuid()], ARRAY[1], ARRAY[1],
               is_done OR n <> 7, true, now() + interval '1 hour'
        FROM generate_series(1, 10) n;
    END $$;
    SELECT public.add('done', now() - interval '5 hours', now() - interval '4 hours', true),
           public.add('open', now() - interval '4 hours', now() - interval '3 hours', false),
           public.add('young', now() - interval '62 minutes', now() - interval '59 minutes', true);
    INSERT INTO messaging.feed (created_at, batch_id, conversation_ids, first_seqs, last_seqs, live_done, event_done, next_try_at)
    SELECT at, gen_random_uuid(), ARRAY[gen_random_uuid()], ARRAY[1], ARRAY[1], is_done, is_done, now() + interval '1 hour'
    FROM (SELECT now() - interval '10 hours', true FROM generate_series(1, 2500)
          UNION ALL VALUES (now() - interval '10 hours', false), (now() - interval '58 minutes', true)) r (at, is_done)
";
