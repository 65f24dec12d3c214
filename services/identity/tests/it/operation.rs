//! Migrations, health, stops and outages.

use std::time::Duration;

use entrenous_db::{migrate, redo_all};
use entrenous_identity::MIGRATIONS;
use entrenous_protocol::{Code, rpc::identity::*};
use entrenous_test_support::{TestPostgres, wait_for};

use crate::fixture::{Fixture, code, login_request, wrong_login};

#[tokio::test(flavor = "multi_thread")]
async fn migrations_go_both_ways() {
    let postgres = TestPostgres::start().await.unwrap();
    assert!(!migrate(&postgres.url(), MIGRATIONS).await.unwrap().is_empty());
    redo_all(&postgres.url(), MIGRATIONS).await.unwrap();
    assert!(migrate(&postgres.url(), MIGRATIONS).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_edits_the_audit_log() {
    let fixture = Fixture::start().await;
    fixture.user("alice").await;
    for statement in
        ["UPDATE identity.audit SET action = 'nothing'", "DELETE FROM identity.audit", "TRUNCATE identity.audit"]
    {
        let error = fixture.execute(statement).await.unwrap_err();
        assert!(error.to_string().contains("can only be appended to"), "{statement}: {error}");
    }
    // Not even the end of the account.
    fixture.execute("DELETE FROM identity.users").await.unwrap();
    assert_eq!(fixture.count("SELECT count(*) FROM identity.audit").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stops_in_order_and_another_replica_goes_on() {
    let mut fixture = Fixture::with(2, &[]).await;
    let (_, tokens) = fixture.user("alice").await;
    fixture.replicas.remove(0).stop().await;
    assert_eq!(code(fixture.refresh(&tokens.refresh_token).await), Ok(()));
    fixture.replicas.remove(0).stop().await;
    assert_eq!(code(fixture.login(login_request("alice")).await), Err(Code::Unavailable));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_it_is_unavailable_and_comes_back() {
    let mut fixture = Fixture::start().await;
    let (_, tokens) = fixture.user("alice").await;
    fixture.postgres.kill().await;
    let failure = fixture.refresh(&tokens.refresh_token).await.map(drop).unwrap_err();
    assert_eq!(failure.code, Code::Unavailable);
    assert!(failure.retry_after_ms.is_some());
    let readiness = fixture.replicas[0].readiness().clone();
    wait_for("not ready", async || if readiness.is_ready() { Err("ready") } else { Ok(()) }).await.unwrap();
    fixture.postgres.restart().await.unwrap();
    fixture.replicas[0].ready().await;
    let refresh =
        async || fixture.refresh(&tokens.refresh_token).await.map(drop).map_err(|failure| failure.to_string());
    wait_for("a refresh", refresh).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_of_passwords_is_unavailable() {
    let changes =
        [("IDENTITY_HASHES_MAX", "1"), ("IDENTITY_HASH_QUEUE_MAX", "0"), ("IDENTITY_HASH_MEMORY_KIB", "65536")];
    let fixture = Fixture::with(1, &changes).await;
    let names: Vec<String> = (0..12).map(|number| format!("nobody-{number}")).collect();
    let tries = names.iter().map(|name| fixture.login(wrong_login(name)));
    let results: Vec<_> = futures::future::join_all(tries).await.into_iter().map(code).collect();
    assert!(results.contains(&Err(Code::Unauthenticated)), "{results:?}");
    assert!(results.contains(&Err(Code::Unavailable)), "{results:?}");
    // Those that were not looked at do not count.
    let wrong = results.iter().filter(|result| **result == Err(Code::Unauthenticated)).count();
    let counted = fixture.count("SELECT count(*) FROM identity.login_failures").await;
    assert_eq!(counted, i64::try_from(wrong).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_nobody_waits_for_adds_no_device() {
    let changes = [("IDENTITY_HASHES_MAX", "1"), ("IDENTITY_HASH_MEMORY_KIB", "65536")];
    let fixture = Fixture::with(1, &changes).await;
    fixture.register("alice").await;
    let wait = Duration::from_millis(1);
    let request = login_request("alice");
    let result = fixture.bus.call::<Login>(&request, wait).await;
    assert_eq!(code(result), Err(Code::Unavailable));
    // The next one is looked at after it: one password at a time.
    let tokens = fixture.login(request).await.unwrap().tokens;
    let devices = fixture.call::<ListDevices>(ListDevicesRequest { user_id: tokens.user.id }).await.unwrap();
    assert_eq!(devices.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_rows_are_deleted() {
    let fixture = Fixture::start().await;
    fixture.user("alice").await;
    assert_eq!(code(fixture.login(wrong_login("alice")).await), Err(Code::Unauthenticated));
    fixture.clock.advance(31 * 24 * 3_600);
    let sql = "SELECT (SELECT count(*) FROM identity.login_failures) + (SELECT count(*) FROM identity.refresh_tokens) AS count";
    let look = async || match fixture.count(sql).await {
        0 => Ok(()),
        count => Err(format!("{count} rows")),
    };
    wait_for("old rows to go", look).await.unwrap();
}
