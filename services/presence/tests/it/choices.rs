//! What users choose to show.

use entrenous_protocol::{
    Code,
    status::{ChosenStatus, PresenceStatus},
};

use crate::fixture::{Fixture, moment, offline, online, shows};

#[tokio::test(flavor = "multi_thread")]
async fn a_choice_stays_and_every_replica_knows_it() {
    let fixture = Fixture::start().await;
    let replicas = [fixture.replica(moment(10)).await, fixture.replica(moment(10)).await];
    let mut reporter = fixture.reporter(1);
    let mut told = reporter.hear().await;
    reporter.list(&[(7, 1)], &[], &[7]).await;
    told.status(&online(7)).await;
    let own = fixture.choose(7, ChosenStatus::Away).await;
    assert_eq!((own.status, own.chosen), (shows(7, PresenceStatus::Away), ChosenStatus::Away));
    told.status(&shows(7, PresenceStatus::Away)).await;
    let [one, other] = replicas;
    one.stop().await;
    fixture.status_becomes(shows(7, PresenceStatus::Away)).await;
    other.stop().await;
    // Also one that has never heard of it.
    let later = fixture.replica(moment(10)).await;
    reporter.list(&[(7, 2)], &[], &[]).await;
    fixture.status_becomes(shows(7, PresenceStatus::Away)).await;
    later.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_invisible_looks_like_somebody_who_left_when_they_chose_so() {
    let fixture = Fixture::start().await;
    let replica = fixture.replica(moment(10)).await;
    assert_eq!(fixture.choose(8, ChosenStatus::Invisible).await.status, offline(8, None), "before they ever came");
    let mut reporter = fixture.reporter(1);
    let mut told = reporter.hear().await;
    reporter.list(&[(7, 1), (8, 2)], &[], &[7, 8]).await;
    told.status(&online(7)).await;
    let own = fixture.choose(7, ChosenStatus::Invisible).await;
    assert_eq!((own.status, own.chosen), (offline(7, Some(moment(10))), ChosenStatus::Invisible));
    told.status(&offline(7, Some(moment(10)))).await;
    assert_eq!(fixture.statuses(&[7, 8]).await.unwrap(), [offline(7, Some(moment(10))), offline(8, None)]);
    fixture.choose(7, ChosenStatus::Busy).await;
    told.status(&shows(7, PresenceStatus::Busy)).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nobody_can_say_who_is_invisible_newcomers_look_offline() {
    let mut fixture = Fixture::start().await;
    let replica = fixture.replica(moment(10)).await;
    fixture.choose(8, ChosenStatus::Invisible).await;
    let mut reporter = fixture.reporter(1);
    reporter.full(&[(7, 1)]).await;
    fixture.status_becomes(online(7)).await;
    fixture.postgres.kill().await;
    replica.becomes_ready(false).await;
    reporter.delta(&[(8, 2), (9, 3)], &[]).await;
    let mut told = reporter.hear().await;
    reporter.watch(&[7, 8, 9]).await;
    assert_eq!(fixture.statuses(&[8, 9]).await.unwrap_err().code, Code::Unavailable);
    fixture.postgres.restart().await.unwrap();
    told.status(&online(9)).await;
    fixture.status_becomes(offline(8, None)).await;
    replica.stop().await;
}
