//! A run of `entrenous dev`.

use std::{collections::BTreeMap, ffi::OsString, path::Path};

use entrenous_local_servers::{Output, Process, ProcessSpec, Signal, ports};
use entrenous_test_support::wait_for;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_entrenous");

/// A data folder, and ports for gateways.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) port: u16,
}

/// A running `entrenous dev`.
pub(crate) struct Dev {
    pub(crate) process: Process,
}

/// Name to number and port.
pub(crate) type List = BTreeMap<String, (u32, u16)>;

impl Place {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let mut port = ports::pick()?;
        // Room for a second gateway.
        while !ports::is_free(port + 1) {
            port = ports::pick()?;
        }
        Ok(Self { folder: tempfile::tempdir()?, port })
    }

    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> std::path::PathBuf {
        self.folder.path().join("log")
    }

    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Starts it and does not wait.
    pub(crate) fn start(&self, arguments: &[&str]) -> anyhow::Result<Dev> {
        let mut all: Vec<OsString> = vec!["dev".into(), "--data".into(), self.data().into()];
        all.extend(["--port".into(), self.port.to_string().into()]);
        all.extend(arguments.iter().map(Into::into));
        let mut spec = ProcessSpec::new(PROGRAM, all);
        spec.output = Output::Append(self.log());
        Ok(Dev { process: Process::spawn(spec)? })
    }

    /// Starts it and waits until it says that it is ready.
    pub(crate) async fn start_ready(&self, arguments: &[&str]) -> anyhow::Result<Dev> {
        let said_before = self.said().len();
        let dev = self.start(arguments)?;
        let ready = wait_for("readiness", async || {
            let said = self.said().split_off(said_before);
            let is_over = said.contains("is ready") || dev.process.exit_status().is_some();
            if is_over { Ok(said) } else { Err(said) }
        });
        let said = ready.await?;
        anyhow::ensure!(said.contains("is ready"), "{said}");
        Ok(dev)
    }

    /// What `processes.json` says.
    pub(crate) fn processes(&self) -> anyhow::Result<List> {
        let list: Value = serde_json::from_slice(&std::fs::read(self.data().join("processes.json"))?)?;
        let entries = list["processes"].as_array().cloned().unwrap_or_default();
        Ok(entries.iter().filter_map(parse_entry).collect())
    }

    /// Waits until the process of that name is another one than `before`; gives it.
    pub(crate) async fn successor(&self, name: &str, before: u32) -> anyhow::Result<u32> {
        wait_for(name, async || match self.processes().map(|list| list.get(name).copied()) {
            Ok(Some((pid, _))) if pid != before => Ok(pid),
            other => Err(format!("{other:?}")),
        })
        .await
    }
}

fn parse_entry(entry: &Value) -> Option<(String, (u32, u16))> {
    let number = |name: &str| entry[name].as_u64();
    let (pid, port) = (number("pid")?.try_into().ok()?, number("port")?.try_into().ok()?);
    Some((entry["name"].as_str()?.to_owned(), (pid, port)))
}

impl Dev {
    /// Stops it as Ctrl-C does.
    pub(crate) async fn stop(&self) -> anyhow::Result<()> {
        self.process.signal(Signal::Interrupt);
        wait_for("the stop", async || self.process.exit_status().ok_or("still there")).await?;
        Ok(())
    }
}

/// Whether the process runs.
pub(crate) fn is_alive(pid: u32) -> bool {
    // A zombie has no command line: it has ended.
    std::fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline")).is_ok_and(|line| !line.is_empty())
}

/// SIGKILL.
pub(crate) async fn kill(pid: u32) -> anyhow::Result<()> {
    let killed = tokio::process::Command::new("kill").arg("-9").arg(pid.to_string()).status().await?;
    anyhow::ensure!(killed.success(), "no process {pid}");
    Ok(())
}

/// The first line of the answer to `GET /readyz`.
pub(crate) async fn readiness(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

/// Waits until the port says that it is ready.
pub(crate) async fn wait_ready(port: u16) -> anyhow::Result<()> {
    wait_for("readiness", async || match readiness(port).await {
        Ok(line) if line.contains("200") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await
}
