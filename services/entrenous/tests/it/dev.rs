//! `entrenous dev`.

use entrenous_local_servers::Signal;
use entrenous_test_support::wait_for;

use crate::run::{List, Place, is_alive, kill, wait_ready};

fn names(list: &List) -> Vec<&str> {
    list.keys().map(String::as_str).collect()
}

async fn wait_all_gone(list: &List) -> anyhow::Result<()> {
    wait_for("the end of all processes", async || {
        let alive: Vec<_> = list.iter().filter(|(_, (pid, _))| is_alive(*pid)).collect();
        if alive.is_empty() { Ok(()) } else { Err(format!("{alive:?}")) }
    })
    .await
}

#[tokio::test]
async fn one_process_serves_stops_and_finds_its_data_again() -> anyhow::Result<()> {
    let place = Place::new()?;
    let dev = place.start_ready(&[]).await?;
    let list = place.processes()?;
    assert_eq!(names(&list), ["entrenous", "nats-server", "postgresql"]);
    assert_eq!(list.get("entrenous"), Some(&(dev.process.pid(), place.port)));
    wait_ready(place.port).await?;

    // A second one on the same folder is told so, and does no harm.
    let second = place.start(&["--gateways", "1"])?;
    wait_for("the refusal", async || second.process.exit_status().ok_or("running")).await?;
    assert!(place.said().contains("is in use by another 'entrenous dev'"), "{}", place.said());
    wait_ready(place.port).await?;

    dev.stop().await?;
    wait_all_gone(&list).await?;
    assert!(place.processes()?.is_empty());

    let dev = place.start_ready(&[]).await?;
    let again = place.processes()?;
    for server in ["nats-server", "postgresql"] {
        assert_eq!(list[server].1, again[server].1, "{server} keeps its port");
    }
    dev.stop().await
}

#[tokio::test]
async fn split_processes_are_restarted_when_they_are_killed() -> anyhow::Result<()> {
    let place = Place::new()?;
    let dev = place.start_ready(&["--split", "--gateways", "2", "--replicas", "2"]).await?;
    let list = place.processes()?;
    let services = ["delivery-tracker", "gateway", "identity", "message-store", "presence"];
    let mut expected: Vec<String> =
        services.iter().flat_map(|name| [format!("{name}-1"), format!("{name}-2")]).collect();
    expected.extend(["nats-server".to_owned(), "postgresql".to_owned()]);
    expected.sort();
    assert_eq!(names(&list), expected);
    assert_eq!((list["gateway-1"].1, list["gateway-2"].1), (place.port, place.port + 1));

    for victim in ["message-store-2", "gateway-1", "postgresql", "nats-server", "identity-1"] {
        let (pid, port) = place.processes()?[victim];
        kill(pid).await?;
        let successor = place.successor(victim, pid).await?;
        assert!(is_alive(successor) && !is_alive(pid), "{victim}");
        assert_eq!(place.processes()?[victim].1, port, "{victim} keeps its port");
    }
    for (name, (_, port)) in place.processes()? {
        if !["nats-server", "postgresql"].contains(&name.as_str()) {
            wait_ready(port).await?;
        }
    }
    dev.stop().await?;
    wait_all_gone(&place.processes()?).await
}

#[tokio::test]
async fn a_killed_run_leaves_nothing_in_the_way_of_the_next() -> anyhow::Result<()> {
    let place = Place::new()?;
    let dev = place.start_ready(&["--split"]).await?;
    let list = place.processes()?;
    dev.process.kill().await;
    // At once, while the old servers are still stopping.
    let dev = place.start_ready(&["--split"]).await?;
    for (name, (pid, _)) in list {
        assert!(!is_alive(pid), "{name}");
    }
    dev.stop().await
}

#[tokio::test]
async fn a_second_run_waits_for_the_first_to_stop() -> anyhow::Result<()> {
    let place = Place::new()?;
    let first = place.start_ready(&[]).await?;
    first.process.signal(Signal::Terminate);
    wait_for(
        "the word that it stops",
        async || {
            if place.said().contains("Stopping") { Ok(()) } else { Err(place.said()) }
        },
    )
    .await?;
    let second = place.start_ready(&[]).await?;
    assert!(first.process.exit_status().is_some());
    second.stop().await
}

#[tokio::test]
async fn a_busy_port_is_named() -> anyhow::Result<()> {
    let place = Place::new()?;
    let _listener = std::net::TcpListener::bind(("127.0.0.1", place.port))?;
    let dev = place.start(&[])?;
    wait_for("the refusal", async || dev.process.exit_status().ok_or("running")).await?;
    let said = place.said();
    assert!(said.contains(&format!("port {} is in use by another program", place.port)), "{said}");
    assert!(!dev.process.exit_status().is_some_and(|status| status.success()));
    Ok(())
}

#[tokio::test]
async fn a_stop_while_starting_leaves_nothing() -> anyhow::Result<()> {
    let place = Place::new()?;
    let dev = place.start(&[])?;
    let list = wait_for("a server", async || match place.processes() {
        Ok(list) if !list.is_empty() => Ok(list),
        other => Err(format!("{other:?}")),
    })
    .await?;
    dev.stop().await?;
    wait_all_gone(&list).await?;
    assert!(place.processes()?.is_empty());
    Ok(())
}
