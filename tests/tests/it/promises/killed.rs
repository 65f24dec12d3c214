//! Every service, PostgreSQL and nats-server are killed and paused, streams wiped, connections broken and frozen.

use std::io::Write as _;

use entrenous_system_tests::{Shape, System};
use entrenous_test_support::Proxy;
use tokio::time::{Duration, Instant};

use super::{Talk, nemesis, world::Phase};

/// How long people talk while it happens.
const TALK_FOR: Duration = Duration::from_secs(45);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promises_hold_while_everything_is_harmed() {
    let system = System::start(&Shape::split()).await.unwrap();
    let mut lines = Vec::new();
    for gateway in system.gateways() {
        lines.push(Proxy::start(gateway.socket_addrs(|| None).unwrap()[0]).await.unwrap());
    }
    let talk = Talk::begin(lines).await;
    let faults = nemesis::run(&talk.world, &system, talk.rng(), Instant::now() + TALK_FOR).await.unwrap();
    talk.world.enter(Phase::Finishing);
    system.wait_whole(&nemesis::ALL).await.unwrap();
    let report = talk.finish(300, 5).await;
    // Shown where the test runner shows what passing tests say.
    drop(writeln!(std::io::stdout(), "faults {faults:?}\n{report}"));
    assert!(faults.values().sum::<usize>() >= 6 && report.counts.repeated > 0, "{faults:?}\n{report}");
    system.stop().await;
}
