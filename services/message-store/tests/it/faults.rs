//! What holds when something is away.

use diesel_async::SimpleAsyncConnection;
use entrenous_model::IdGenerator;
use entrenous_protocol::{
    Code,
    rpc::store::{Append, AppendRequest, AppendResult, ReadMemberships, ReadMembershipsRequest, SyncingDevice},
};
use entrenous_test_support::wait_for;

use crate::fixture::{ANSWER_MAX, Fixture, connect, ids, into, refused, sealed, seqs, stored, to, user};

#[tokio::test(flavor = "multi_thread")]
async fn without_identity_only_what_needs_it_waits() {
    let fixture = Fixture::without_identity().await;
    let replica = fixture.replica().await;
    let group = fixture.group(&[1]).await.id;
    let results = fixture.append(vec![to(2, 1, sealed("a")), into(group, 1, sealed("b"))]).await;
    assert_eq!(refused(&results[0]), Code::Unavailable);
    assert_eq!(stored(&results[1]).seq, 2);
    fixture.serve_identity().await;
    assert_eq!(fixture.send(to(2, 1, sealed("a"))).await.seq, 1);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_sends_end_in_unavailable_and_may_be_repeated() {
    let (mut fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let message = into(group, 1, sealed("a"));
    fixture.postgres.stop().await;
    assert_eq!(refused(&fixture.append_one(message.clone()).await), Code::Unavailable);
    replica.becomes_ready(false).await;
    fixture.postgres.restart().await.unwrap();
    replica.becomes_ready(true).await;
    let again = async || match fixture.append_one(message.clone()).await {
        AppendResult::Stored(stored) => Ok(stored),
        other => Err(format!("{other:?}")),
    };
    let stored = wait_for("the repeat", again).await.unwrap();
    assert_eq!((stored.seq, seqs(&fixture.log(Some(1), group).await)), (2, vec![1, 2]));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_wait_leave_connections_to_sends() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    // Memberships look for mentions, and messages without any do not.
    let mut blocker = connect(&fixture.postgres).await;
    blocker.batch_execute("BEGIN; LOCK TABLE messaging.mentions IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let waiting = |device| {
        let request = ReadMembershipsRequest {
            devices: vec![SyncingDevice { user_id: user(1), device_id: device, has_cursors: false }],
        };
        let gateway = fixture.gateway.clone();
        tokio::spawn(async move { gateway.call::<ReadMemberships>(&request, ANSWER_MAX).await })
    };
    let reads: Vec<_> = (0..64).map(|_| waiting(IdGenerator.next())).collect();
    for expected in 2..30 {
        assert_eq!(fixture.send(into(group, 1, sealed("a"))).await.seq, expected);
    }
    blocker.batch_execute("ROLLBACK").await.unwrap();
    for read in reads {
        // Those that found no connection in time are told so.
        let _ = read.await.unwrap();
    }
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gives_up_learns_the_outcome_by_asking_again() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let slow = "CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS \
                'BEGIN PERFORM pg_sleep(0.2); RETURN NEW; END'; \
                CREATE TRIGGER slow BEFORE INSERT ON messaging.log FOR EACH ROW EXECUTE FUNCTION public.slow()";
    connect(&fixture.postgres).await.batch_execute(slow).await.unwrap();
    let request = AppendRequest { messages: vec![into(group, 1, sealed("a"))], not_after: None };
    let early = fixture.gateway.call_once::<Append>(&request, std::time::Duration::from_millis(80)).await;
    assert_eq!(early.unwrap_err().code, Code::Unavailable);
    // Not committed, since everyone had given up when it was done: the repeat is the first.
    let result = loop {
        match fixture.append_one(request.messages[0].clone()).await {
            AppendResult::Busy => {}
            result => break result,
        }
    };
    assert_eq!((stored(&result).seq, stored(&result).is_repeat), (2, false));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_leaves_takes_no_message_with_it() {
    let (fixture, leaving) = Fixture::start().await;
    let staying = fixture.replica().await;
    let group = fixture.group(&[1, 2]).await.id;
    let sending = async {
        let mut sent = Vec::new();
        for _ in 0..200 {
            let message = into(group, 1, sealed("a"));
            sent.push(message.message.id);
            fixture.send(message).await;
        }
        sent
    };
    let (sent, ()) = tokio::join!(sending, leaving.stop());
    assert_eq!(ids(&fixture.log(Some(1), group).await)[1..], sent);
    staying.stop().await;
}
