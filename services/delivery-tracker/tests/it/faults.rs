//! What holds when something is away.

use entrenous_protocol::Code;
use entrenous_test_support::wait_for;

use crate::fixture::{Fixture, cursor, device, moved};

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_it_is_not_ready_and_says_so() {
    let mut fixture = Fixture::start().await;
    let replica = fixture.replica().await;
    fixture.advance(vec![moved(1, 1, 5)]).await.unwrap();

    fixture.postgres.kill().await;
    assert_eq!(fixture.advance(vec![moved(1, 1, 6)]).await.unwrap_err().code, Code::Unavailable);
    replica.becomes_ready(false).await;

    fixture.postgres.restart().await.unwrap();
    replica.becomes_ready(true).await;
    // Connections of before the restart may be tried first: the caller tries again.
    wait_for("the repeat", async || fixture.advance(vec![moved(1, 1, 6)]).await).await.unwrap();
    assert_eq!(fixture.cursors(device(1)).await.unwrap(), [cursor(1, 6)]);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_nats_was_away_it_answers_again() {
    let mut fixture = Fixture::start().await;
    let replica = fixture.replica().await;
    fixture.nats.kill().await;
    replica.becomes_ready(false).await;
    fixture.nats.restart().await.unwrap();
    replica.becomes_ready(true).await;
    wait_for("an answer", async || fixture.advance(vec![moved(1, 1, 5)]).await).await.unwrap();
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_leaves_takes_no_request_with_it() {
    let fixture = Fixture::start().await;
    let (leaving, staying) = (fixture.replica().await, fixture.replica().await);
    let sending = async {
        for seq in 1..=300 {
            fixture.advance(vec![moved(1, 1, seq)]).await.unwrap();
        }
    };
    tokio::join!(sending, leaving.stop());
    assert_eq!(fixture.cursors(device(1)).await.unwrap(), [cursor(1, 300)]);
    staying.stop().await;
    assert_eq!(fixture.cursors(device(1)).await.unwrap_err().code, Code::Unavailable);
}
