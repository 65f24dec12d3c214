//! Processes that an earlier run left behind: found in `/proc` and told from strangers before anything is sent to them.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::Path,
    time::{Duration, Instant},
};

use crate::process::{Signal, send};

/// How often it is looked whether they have gone.
const POLL: Duration = Duration::from_millis(20);

/// The processes that have `directory` as their working directory, as every process of a PostgreSQL cluster has.
///
/// None where there is no `/proc`.
pub fn working_in(directory: &Path) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|path| path == directory))
        .filter(|pid| is_running(*pid))
        .collect()
}

/// Whether the process runs and was started with this path among its arguments.
pub(crate) fn was_started_with(pid: u32, path: &Path) -> bool {
    let Ok(arguments) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    arguments.split(|byte| *byte == 0).any(|argument| OsStr::from_bytes(argument) == path) && is_running(pid)
}

/// How long a leftover has after each signal.
const STEPS: [(Signal, Duration); 2] =
    [(Signal::Terminate, Duration::from_secs(2)), (Signal::Kill, Duration::from_secs(5))];

/// Ends a process of an earlier run, if the process of that number still has `argument` among its arguments: then it is
/// no stranger with the same number. Tells whether there is none now.
pub async fn stop_leftover(pid: u32, argument: &Path) -> bool {
    stop(|| Some(pid).filter(|pid| was_started_with(*pid, argument)).into_iter().collect(), &STEPS).await
}

/// Whether the process is there and no zombie, which nobody can end any more.
fn is_running(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Asks the processes that `find` names to stop with each signal in turn, until there are none; tells whether there are none.
pub(crate) async fn stop(find: impl Fn() -> Vec<u32>, steps: &[(Signal, Duration)]) -> bool {
    for (signal, patience) in steps {
        let pids = find();
        if pids.is_empty() {
            return true;
        }
        tracing::info!(?pids, ?signal, "stopping what an earlier run left behind");
        for pid in pids {
            send(pid, *signal);
        }
        wait_until_gone(&find, *patience).await;
    }
    find().is_empty()
}

/// Waits until `find` names nobody, no longer than that.
pub(crate) async fn wait_until_gone(find: impl Fn() -> Vec<u32>, patience: Duration) {
    let deadline = Instant::now() + patience;
    while !find().is_empty() && Instant::now() < deadline {
        tokio::time::sleep(POLL).await;
    }
}
