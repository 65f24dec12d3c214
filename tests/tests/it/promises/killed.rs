//! Every service, PostgreSQL and nats-server are killed and paused, streams wiped, connections broken and frozen.

use std::io::Write as _;

use entrenous_chaos::{Crowd, Phase, Talk, nemesis};
use entrenous_system_tests::{Shape, System};
use entrenous_test_support::Proxy;
use tokio::time::{Duration, Instant};

use super::finish;

/// How long people talk while it happens.
const TALK_FOR: Duration = Duration::from_secs(45);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promises_hold_while_everything_is_harmed() {
    let system = System::start(&Shape::split()).await.unwrap();
    let names: Vec<String> = system.processes().unwrap().into_keys().collect();
    assert_eq!(names.len(), 12, "two of each service, PostgreSQL and nats-server: {names:?}");
    let mut lines = Vec::new();
    for gateway in system.gateways() {
        lines.push(Proxy::start(gateway.socket_addrs(|| None).unwrap()[0]).await.unwrap());
    }
    let seed = rand::random();
    let mut talk = Talk::begin(lines, seed, Crowd::Restless).await.unwrap();
    let faults = nemesis::run(talk.world(), &system, seed, Instant::now() + TALK_FOR).await.unwrap();
    talk.world().enter(Phase::Finishing);
    system.wait_whole(&names).await.unwrap();
    let outcome = finish(&mut talk, 300, 5).await;
    // Shown where the test runner shows what passing tests say.
    drop(writeln!(std::io::stdout(), "seed {seed}, faults {faults:?}\n{outcome}"));
    let repeated = outcome.report.counts.repeated;
    assert!(faults.values().sum::<usize>() >= 6 && repeated > 0, "{faults:?}\n{outcome}");
    system.stop().await;
}
