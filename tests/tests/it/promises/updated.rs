//! A rolling update: each store and gateway is replaced by a new one, one after the other, again and again. Clients see
//! nothing of it but 1012, and before it when to come back.

use std::io::Write as _;

use entrenous_chaos::{Crowd, Talk};
use entrenous_checker::What;
use entrenous_system_tests::{Cluster, Node};
use entrenous_test_support::Proxy;

use super::finish;

/// How often everything is replaced.
const ROUNDS: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_update_loses_nothing_and_only_sends_clients_elsewhere() {
    let cluster = Cluster::start().await.unwrap();
    let mut stores = Vec::new();
    let mut gateways = Vec::new();
    let mut lines = Vec::new();
    for _ in 0..2 {
        stores.push(cluster.store(&[]).await.unwrap());
        let gateway = cluster.gateway(&[]).await.unwrap();
        lines.push(Proxy::start(gateway.addr()).await.unwrap());
        gateways.push(gateway);
    }
    let mut talk = Talk::begin(lines, rand::random(), Crowd::Steady).await.unwrap();
    for _ in 0..ROUNDS {
        for store in &mut stores {
            replace(store, cluster.store(&[]).await.unwrap()).await;
        }
        for (line, gateway) in talk.world().lines.iter().zip(&mut gateways) {
            let new = cluster.gateway(&[]).await.unwrap();
            // As a load balancer does: new connections go to the new one.
            line.lead_to(new.addr());
            replace(gateway, new).await;
        }
    }
    let outcome = finish(&mut talk, 100, 1).await;
    let mut ends = 0;
    for event in &talk.history().events {
        if let What::Disconnected { code, .. } = event.what {
            assert_eq!(code, Some(1012), "{outcome}");
            ends += 1;
        }
    }
    assert_eq!(ends, talk.world().announced(), "each was told before when to come back");
    assert!(ends >= ROUNDS, "{ends} connections were moved");
    drop(writeln!(std::io::stdout(), "{ends} connections moved\n{outcome}"));
}

/// The new one serves already; the old one stops in order.
async fn replace(old: &mut Node, new: Node) {
    std::mem::replace(old, new).stop().await.unwrap();
}
