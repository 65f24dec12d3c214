//! Processor time and memory of the servers, from `/proc`.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// Ticks of the processor times in `/proc`, a second. Source: proc(5), `sysconf(_SC_CLK_TCK)`: 100 on Linux.
const TICKS_PER_SECOND: u32 = 100;
/// PostgreSQL works in child processes.
const WITH_CHILDREN: &str = "postgresql";

/// What the servers had used at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    processes: BTreeMap<String, Usage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Usage {
    pid: u32,
    cpu: Duration,
    memory_kib: u64,
}

/// What one process used between two moments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Used {
    pub(crate) name: String,
    /// Seconds of processor time.
    pub(crate) cpu_seconds: f64,
    /// Memory at the end: resident; of child processes their share.
    pub(crate) memory_kib: u64,
    /// How much more that is than at the beginning.
    pub(crate) memory_grown_kib: i64,
    /// Another process at the end than at the beginning: then the numbers are too small.
    pub(crate) was_restarted: bool,
}

/// A process as the list has it.
#[derive(Debug, Deserialize)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pid: u32,
    /// Of a gateway the public port, of other services that of their metrics.
    pub(crate) port: u16,
}

/// The processes of the list; none where there is no list.
pub(crate) fn read_list(list: Option<&Path>) -> anyhow::Result<Vec<Entry>> {
    #[derive(Deserialize)]
    struct List {
        processes: Vec<Entry>,
    }
    let Some(path) = list else { return Ok(Vec::new()) };
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let list: List = serde_json::from_slice(&text).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(list.processes)
}

impl Snapshot {
    /// Reads what the processes of the list have used; nothing where there is no list.
    pub(crate) fn take(list: Option<&Path>) -> anyhow::Result<Self> {
        let mut processes = BTreeMap::new();
        for Entry { name, pid, .. } in read_list(list)? {
            let usage = Usage::read(pid, name == WITH_CHILDREN).with_context(|| format!("process {pid} ({name})"))?;
            processes.insert(name, usage);
        }
        Ok(Self { processes })
    }

    /// What was used from an earlier moment to this one.
    pub(crate) fn since(&self, earlier: &Self) -> Vec<Used> {
        self.processes.iter().map(|(name, now)| now.since(name, earlier.processes.get(name))).collect()
    }
}

impl Usage {
    fn read(pid: u32, with_children: bool) -> anyhow::Result<Self> {
        let mut usage = Self { pid, cpu: own_cpu(&stat(pid)?)?, memory_kib: memory_kib(pid)? };
        if with_children {
            usage.cpu += ended_children_cpu(&stat(pid)?)?;
            for child in children(pid) {
                // A child may end while we look.
                usage.cpu += stat(child).and_then(|stat| own_cpu(&stat)).unwrap_or_default();
                usage.memory_kib += share_kib(child).unwrap_or_default();
            }
        }
        Ok(usage)
    }

    fn since(&self, name: &str, earlier: Option<&Self>) -> Used {
        let was_restarted = earlier.is_none_or(|earlier| earlier.pid != self.pid);
        let earlier = earlier.filter(|_| !was_restarted);
        let cpu = self.cpu.saturating_sub(earlier.map_or(Duration::ZERO, |earlier| earlier.cpu));
        let before_kib = earlier.map_or(0, |earlier| earlier.memory_kib);
        Used {
            name: name.to_owned(),
            cpu_seconds: cpu.as_secs_f64(),
            memory_kib: self.memory_kib,
            memory_grown_kib: self.memory_kib.cast_signed() - before_kib.cast_signed(),
            was_restarted,
        }
    }
}

/// Processor time of this process.
pub(crate) fn of_generator() -> Duration {
    stat(std::process::id()).and_then(|stat| own_cpu(&stat)).unwrap_or_default()
}

/// The fields of `/proc/<pid>/stat` after the name, which may hold anything; the first is field 3 of proc(5).
fn stat(pid: u32) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = text.rsplit_once(')').context("no stat")?;
    Ok(fields.split_whitespace().map(str::to_owned).collect())
}

/// `utime` and `stime`. Source: proc(5), fields 14 and 15.
fn own_cpu(stat: &[String]) -> anyhow::Result<Duration> {
    ticks(stat, 14)
}

/// `cutime` and `cstime`. Source: proc(5), fields 16 and 17.
fn ended_children_cpu(stat: &[String]) -> anyhow::Result<Duration> {
    ticks(stat, 16)
}

/// Two fields together, by the number of the first in proc(5).
fn ticks(stat: &[String], field: usize) -> anyhow::Result<Duration> {
    let fields = stat.get(field - 3..field - 1).context("no stat")?;
    let mut ticks = 0_u32;
    for field in fields {
        ticks = ticks.saturating_add(field.parse()?);
    }
    Ok(Duration::from_secs(ticks.into()) / TICKS_PER_SECOND)
}

fn memory_kib(pid: u32) -> anyhow::Result<u64> {
    kib_of(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// Memory with what is shared divided among those who share it.
fn share_kib(pid: u32) -> anyhow::Result<u64> {
    kib_of(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

fn kib_of(path: &str, name: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_by_its_list() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("processes.json");
        let list = format!(r#"{{"processes":[{{"name":"gateway-1","pid":{},"port":1}}]}}"#, std::process::id());
        fs::write(&path, list).unwrap();
        let before = Snapshot::take(Some(&path)).unwrap();
        // Works until it shows, however little of the machine it gets; a test that hangs is ended by the runner.
        let used = loop {
            std::hint::black_box((0..1_000_000_u64).fold(0, u64::wrapping_add));
            let used = Snapshot::take(Some(&path)).unwrap().since(&before);
            if used.iter().any(|process| process.cpu_seconds >= 0.05) {
                break used;
            }
        };
        assert_eq!(used.len(), 1);
        assert!(used[0].memory_kib > 100 && !used[0].was_restarted, "{used:?}");
        assert!(Snapshot::take(None).unwrap().since(&before).is_empty());
    }
}
