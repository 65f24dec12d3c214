//! From a gateway's report to an answer. What takes time (leases, graces) is tested on the state machine alone.

use entrenous_protocol::{Code, rpc::presence::STATUSES_MAX};
use entrenous_test_support::wait_for;

use crate::fixture::{Fixture, moment, offline, online};

#[tokio::test(flavor = "multi_thread")]
async fn users_are_online_in_the_order_of_the_request() {
    let fixture = Fixture::start().await;
    let replica = fixture.replica(moment(10)).await;
    let mut reporter = fixture.reporter(1);
    reporter.full(&[(7, 1), (8, 2)]).await;
    fixture.status_becomes(online(8)).await;
    let statuses = fixture.statuses(&[9, 8, 7, 8]).await.unwrap();
    assert_eq!(statuses, [offline(9, None), online(8), online(7), online(8)]);

    reporter.lose_one();
    reporter.delta(&[(9, 3)], &[]).await;
    fixture.status_becomes(online(9)).await;
    assert_eq!(fixture.statuses(&[7]).await.unwrap(), [online(7)]);
    // In the grace after the last connection.
    reporter.full(&[(8, 2), (10, 4)]).await;
    fixture.status_becomes(online(10)).await;
    assert_eq!(fixture.statuses(&[7]).await.unwrap(), [online(7)]);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_hears_every_gateway() {
    let fixture = Fixture::start().await;
    let replicas = [fixture.replica(moment(10)).await, fixture.replica(moment(10)).await];
    fixture.reporter(1).full(&[(7, 1)]).await;
    fixture.reporter(2).full(&[(8, 2)]).await;
    let [one, other] = replicas;
    fixture.status_becomes(online(8)).await;
    one.stop().await;
    assert_eq!(fixture.statuses(&[7, 8]).await.unwrap(), [online(7), online(8)]);
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn last_seen_outlives_the_process_and_never_goes_back() {
    let fixture = Fixture::start().await;
    for (now, expected) in [(10, 10), (30, 30), (20, 30)] {
        let replica = fixture.replica(moment(now)).await;
        fixture.reporter(1).full(&[(7, 1)]).await;
        fixture.status_becomes(online(7)).await;
        // At the stop, what waits is written.
        replica.stop().await;
        let replica = fixture.replica(moment(now)).await;
        fixture.status_becomes(offline(7, Some(moment(expected)))).await;
        replica.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_bounded() {
    let fixture = Fixture::start().await;
    let replica = fixture.replica(moment(10)).await;
    let users: Vec<u128> = (0..=STATUSES_MAX).map(|number| u128::try_from(number).unwrap()).collect();
    assert_eq!(fixture.statuses(&users).await.unwrap_err().code, Code::Invalid);
    assert_eq!(fixture.statuses(&users[1..]).await.unwrap().len(), STATUSES_MAX);
    assert_eq!(fixture.statuses(&[]).await.unwrap(), []);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_it_still_knows_who_is_online() {
    let mut fixture = Fixture::start().await;
    let replica = fixture.replica(moment(10)).await;
    fixture.reporter(1).full(&[(7, 1)]).await;
    fixture.status_becomes(online(7)).await;
    fixture.postgres.kill().await;
    replica.becomes_ready(false).await;
    assert_eq!(fixture.statuses(&[7]).await.unwrap(), [online(7)]);
    assert_eq!(fixture.statuses(&[8]).await.unwrap_err().code, Code::Unavailable);
    fixture.reporter(2).full(&[(9, 2)]).await;
    fixture.postgres.restart().await.unwrap();
    replica.becomes_ready(true).await;
    // Connections of before the restart may be tried first.
    wait_for("an answer", async || fixture.statuses(&[8]).await.map(drop)).await.unwrap();
    fixture.status_becomes(online(9)).await;
    replica.stop().await;
    let replica = fixture.replica(moment(10)).await;
    // It was written in the end: user 9 came while the database was away.
    fixture.status_becomes(offline(9, Some(moment(10)))).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_nats_was_away_it_hears_again() {
    let mut fixture = Fixture::start().await;
    let replica = fixture.replica(moment(10)).await;
    let mut reporter = fixture.reporter(1);
    reporter.full(&[(7, 1)]).await;
    fixture.status_becomes(online(7)).await;
    fixture.nats.kill().await;
    replica.becomes_ready(false).await;
    fixture.nats.restart().await.unwrap();
    replica.becomes_ready(true).await;
    fixture.status_becomes(online(7)).await;
    reporter.full(&[(7, 1), (8, 2)]).await;
    fixture.status_becomes(online(8)).await;
    replica.stop().await;
}
