//! What gateways are told, whatever dies.

use std::time::Duration;

use entrenous_protocol::status::PresenceStatus;
use futures::StreamExt;

use crate::fixture::{Fixture, moment, offline, online, shows};

const USERS: std::ops::Range<u128> = 100..140;

fn connections() -> Vec<(u128, u128)> {
    USERS.map(|number| (number, number)).collect()
}

fn users() -> Vec<u128> {
    USERS.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_told_of_those_whom_it_watches_now_and_when_they_change() {
    let fixture = Fixture::start().await;
    let replica = fixture.start_replica(moment(10), 300).await;
    replica.becomes_ready(true).await;
    let (mut here, mut there) = (fixture.reporter(1), fixture.reporter(2));
    let mut told = there.hear().await;
    here.full(&[(7, 1)]).await;
    there.list(&[], &[], &[7, 8]).await;
    told.status(&online(7)).await;
    here.delta(&[(8, 2)], &[(7, 1)]).await;
    told.status(&online(8)).await;
    told.status(&offline(7, Some(moment(10)))).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_begins_alone_asks_for_everything_and_grants_the_rest_of_the_grace() {
    let fixture = Fixture::start().await;
    let mut lists = fixture.lists().await;
    let replica = fixture.start_replica(moment(10), 2_000).await;
    assert_eq!(lists.next().await.unwrap().gateway_id, None);
    replica.becomes_ready(true).await;
    let mut reporter = fixture.reporter(1);
    let mut told = reporter.hear().await;
    // A gateway whose list it has not heard.
    reporter.delta(&[(7, 1)], &[]).await;
    assert!(lists.next().await.unwrap().gateway_id.is_some());
    reporter.list(&[(7, 1)], &[(8, 500), (9, 5_000)], &[7, 8, 9]).await;
    told.status(&online(8)).await;
    assert_eq!(fixture.statuses(&[9]).await.unwrap(), [offline(9, None)]);
    told.status(&offline(8, Some((chrono::DateTime::from_timestamp_millis(9_500).unwrap()).into()))).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_replica_is_killed_the_others_tell_of_its_users() {
    let fixture = Fixture::start().await;
    let first = fixture.start_replica(moment(10), 300).await;
    let second = fixture.start_replica(moment(10), 300).await;
    first.becomes_ready(true).await;
    second.becomes_ready(true).await;
    let mut reporter = fixture.reporter(1);
    let mut told = reporter.hear().await;
    reporter.list(&connections(), &[], &users()).await;
    let mut tellers = std::collections::HashSet::new();
    for number in USERS {
        // They come in any order: each user's own stream is looked at.
        let mut of_user = reporter.hear().await;
        reporter.watch(&[number]).await;
        tellers.insert(of_user.status(&online(number)).await);
    }
    assert_eq!(tellers.len(), 2, "both tell, each of its share");
    first.kill();
    reporter.delta(&[], &connections()).await;
    let mut offline_told = std::collections::HashSet::new();
    while offline_told.len() < users().len() {
        let report = told.next().await;
        for status in report.statuses.into_iter().filter(|status| status.status == PresenceStatus::Offline) {
            offline_told.insert(status.user_id);
        }
    }
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_gateway_and_a_replica_die_at_once_the_gateways_users_leave_after_lease_and_grace() {
    let mut fixture = Fixture::start().await;
    fixture.lease_ms = 6_000;
    let first = fixture.start_replica(moment(10), 300).await;
    let second = fixture.start_replica(moment(10), 300).await;
    first.becomes_ready(true).await;
    second.becomes_ready(true).await;
    let (mut dying, mut watching) = (fixture.reporter(1), fixture.reporter(2));
    let mut told = watching.hear().await;
    dying.full(&connections()).await;
    watching.list(&[(7, 7)], &[], &users()).await;
    for number in USERS {
        fixture.status_becomes(online(number)).await;
    }
    first.kill();
    drop(dying);
    let mut offline_told = std::collections::HashSet::new();
    let all_leave = async {
        while offline_told.len() < users().len() {
            let report = told.next().await;
            for status in report.statuses.into_iter().filter(|status| status.status == PresenceStatus::Offline) {
                offline_told.insert(status.user_id);
            }
        }
    };
    let keep_alive = async {
        // The other gateway goes on reporting.
        let mut reports = tokio::time::interval(Duration::from_secs(1));
        loop {
            reports.tick().await;
            watching.delta(&[], &[]).await;
        }
    };
    tokio::select! {
        () = all_leave => {}
        () = keep_alive => {}
    }
    assert_eq!(fixture.statuses(&[7]).await.unwrap(), [shows(7, PresenceStatus::Online)]);
    second.stop().await;
}
