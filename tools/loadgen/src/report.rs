//! What a run showed, as JSON and for people.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;
use serde_json::Value;

use crate::{
    measure::{Latencies, Measured},
    processes::Used,
    queries::Queries,
};

/// What the servers used while it was measured.
#[derive(Debug, Clone, Default)]
pub(crate) struct Servers {
    pub(crate) used: Vec<Used>,
    pub(crate) generator_cpu: Duration,
}

/// What a run showed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    parameters: Value,
    #[serde(flatten)]
    shown: Shown,
    processes: Vec<Used>,
    /// Seconds of processor time of all servers.
    servers_cpu_seconds: f64,
    /// Seconds of processor time of the generator.
    generator_cpu_seconds: f64,
}

#[derive(Debug, Clone, Serialize)]
#[serde(tag = "scenario", rename_all = "snake_case")]
enum Shown {
    Messages {
        /// Messages that were due, warm-up included; none where the loop is closed.
        due: Option<u64>,
        /// Of each message; it counts as received when the last has it.
        receivers: usize,
        #[serde(flatten)]
        measured: Measured,
        /// Seconds of processor time of all servers, for 1,000 acknowledged messages.
        servers_cpu_seconds_per_1000: Option<f64>,
        /// Microseconds of processor time of all servers, for one message to one receiver.
        servers_cpu_us_per_delivery: Option<f64>,
    },
    Connections {
        connections: u64,
        opened_per_second: f64,
        /// Of gateways (or of the one process), for each connection.
        gateway_bytes_per_connection: Option<i64>,
    },
    Reconnect(Reconnect),
    Presence(PresenceStorm),
    Calls {
        #[serde(flatten)]
        calls: Calls,
        /// Milliseconds of processor time of all servers, for each call.
        servers_cpu_ms_per_call: Option<f64>,
    },
}

/// Calls of one kind, a page each.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Calls {
    /// Of each page.
    pub(crate) page: Latencies,
    /// From the first page to the last.
    pub(crate) list: Latencies,
    pub(crate) per_second: f64,
}

/// How many connections came back after all of them broke.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Reconnect {
    pub(crate) clients: usize,
    /// Clients that were not synced again in time.
    pub(crate) missing: usize,
    /// Attempts to connect after the break.
    pub(crate) attempts: u64,
    /// Milliseconds from the break until so many were synced again.
    pub(crate) first_ms: Option<u64>,
    pub(crate) median_ms: Option<u64>,
    pub(crate) last_ms: Option<u64>,
    /// Entries told twice or left out, as the clients saw it.
    pub(crate) violations: u64,
    pub(crate) digest_mismatches: u64,
    pub(crate) phases: Vec<Phase>,
    /// Database operations for each connection, by service: those since the break, without what the time before it lets
    /// expect of the bystanders.
    pub(crate) queries_per_connection: BTreeMap<String, f64>,
    /// The bystanders' trouble.
    pub(crate) errors: BTreeMap<String, u64>,
}

/// What watchers were told while all whom they watch left and came back.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PresenceStorm {
    /// Of watcher and watched user.
    pub(crate) pairs: usize,
    pub(crate) told: Vec<Told>,
    pub(crate) phases: Vec<Phase>,
    /// The bystanders' trouble.
    pub(crate) errors: BTreeMap<String, u64>,
}

/// Frames of presence in one phase.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Told {
    pub(crate) phase: &'static str,
    pub(crate) frames: u64,
}

/// A part of the run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    pub(crate) seconds: f64,
    /// Of the bystanders, from due to received.
    pub(crate) received: Latencies,
    pub(crate) processes: Vec<Used>,
    pub(crate) generator_cpu_seconds: f64,
    /// Database operations by service and operation.
    pub(crate) queries: Queries,
}

impl Report {
    pub(crate) fn messages(
        parameters: Value,
        due: Option<u64>,
        receivers: usize,
        measured: Measured,
        servers: Servers,
    ) -> Self {
        let cpu = cpu_seconds(&servers.used);
        let duration = parameters.get("duration").and_then(Value::as_f64).unwrap_or_default();
        let acked = measured.acked_per_second * duration;
        let per_1000 = (acked > 0.0 && !servers.used.is_empty()).then(|| cpu / acked * 1_000.0);
        let many = u32::try_from(receivers).unwrap_or(u32::MAX);
        let shown = Shown::Messages {
            due,
            receivers,
            measured,
            servers_cpu_seconds_per_1000: per_1000,
            servers_cpu_us_per_delivery: per_1000.map(|seconds| seconds * 1_000.0 / f64::from(many.max(1))),
        };
        Self::new(parameters, shown, servers)
    }

    pub(crate) fn connections(parameters: Value, connections: u64, opened_per_second: f64, servers: Servers) -> Self {
        let is_gateway = |used: &&Used| used.name.starts_with("gateway") || used.name == "entrenous";
        let grown_kib: i64 = servers.used.iter().filter(is_gateway).map(|used| used.memory_grown_kib).sum();
        let gateway_bytes_per_connection =
            (connections > 0 && !servers.used.is_empty()).then(|| grown_kib * 1_024 / connections.cast_signed());
        Self::new(
            parameters,
            Shown::Connections { connections, opened_per_second, gateway_bytes_per_connection },
            servers,
        )
    }

    pub(crate) fn reconnect(parameters: Value, reconnect: Reconnect, servers: Servers) -> Self {
        Self::new(parameters, Shown::Reconnect(reconnect), servers)
    }

    pub(crate) fn presence(parameters: Value, storm: PresenceStorm, servers: Servers) -> Self {
        Self::new(parameters, Shown::Presence(storm), servers)
    }

    pub(crate) fn calls(parameters: Value, calls: Calls, servers: Servers) -> Self {
        let count = u32::try_from(calls.page.count).unwrap_or(u32::MAX);
        let servers_cpu_ms_per_call =
            (count > 0 && !servers.used.is_empty()).then(|| cpu_seconds(&servers.used) * 1_000.0 / f64::from(count));
        Self::new(parameters, Shown::Calls { calls, servers_cpu_ms_per_call }, servers)
    }

    fn new(parameters: Value, shown: Shown, servers: Servers) -> Self {
        Self {
            parameters,
            shown,
            servers_cpu_seconds: cpu_seconds(&servers.used),
            processes: servers.used,
            generator_cpu_seconds: servers.generator_cpu.as_secs_f64(),
        }
    }
}

fn cpu_seconds(used: &[Used]) -> f64 {
    used.iter().map(|used| used.cpu_seconds).sum()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.parameters)?;
        match &self.shown {
            Shown::Messages { due, receivers, measured, servers_cpu_seconds_per_1000, servers_cpu_us_per_delivery } => {
                let received = if *receivers > 1 { "send to the last" } else { "send to received" };
                write_messages(f, *due, received, measured, *servers_cpu_seconds_per_1000)?;
                if let Some(cpu) = servers_cpu_us_per_delivery.filter(|_| *receivers > 1) {
                    writeln!(f, "{cpu:.2} µs of processor time for each delivery")?;
                }
            }
            Shown::Connections { connections, opened_per_second, gateway_bytes_per_connection } => {
                writeln!(f, "{connections} connections, {opened_per_second:.0} opened a second")?;
                if let Some(bytes) = gateway_bytes_per_connection {
                    writeln!(f, "{bytes} bytes of the gateways for each")?;
                }
            }
            Shown::Reconnect(reconnect) => write_reconnect(f, reconnect)?,
            Shown::Presence(storm) => write_presence(f, storm)?,
            Shown::Calls { calls, servers_cpu_ms_per_call } => {
                writeln!(f, "{:.1} calls a second", calls.per_second)?;
                write_heading(f, "milliseconds")?;
                write_latencies(f, "a page", &calls.page)?;
                write_latencies(f, "the whole list", &calls.list)?;
                if let Some(cpu) = servers_cpu_ms_per_call {
                    writeln!(f, "{cpu:.3} ms of processor time for each call")?;
                }
            }
        }
        writeln!(f, "{:<22} {:>9} {:>12} {:>12}", "process", "cpu s", "memory KiB", "grown KiB")?;
        for used in &self.processes {
            let note = if used.was_restarted { "  (restarted)" } else { "" };
            let Used { name, cpu_seconds, memory_kib, memory_grown_kib, .. } = used;
            writeln!(f, "{name:<22} {cpu_seconds:>9.2} {memory_kib:>12} {memory_grown_kib:>12}{note}")?;
        }
        writeln!(f, "{:<22} {:>9.2}", "all servers", self.servers_cpu_seconds)?;
        write!(f, "{:<22} {:>9.2}", "this generator", self.generator_cpu_seconds)
    }
}

fn write_messages(
    f: &mut fmt::Formatter<'_>,
    due: Option<u64>,
    received: &str,
    measured: &Measured,
    cpu_per_1000: Option<f64>,
) -> fmt::Result {
    writeln!(f, "{:.1} messages acknowledged a second", measured.acked_per_second)?;
    if let Some(due) = due {
        writeln!(f, "{due} were due, warm-up included")?;
    }
    write_heading(f, "milliseconds")?;
    write_latencies(f, "send to ack", &measured.ack)?;
    write_latencies(f, received, &measured.received)?;
    for (error, count) in &measured.errors {
        writeln!(f, "{count} times: {error}")?;
    }
    if let Some(cpu) = cpu_per_1000 {
        writeln!(f, "{cpu:.3} s of processor time for 1,000 messages")?;
    }
    Ok(())
}

fn write_reconnect(f: &mut fmt::Formatter<'_>, reconnect: &Reconnect) -> fmt::Result {
    let Reconnect { clients, missing, attempts, violations, digest_mismatches, .. } = reconnect;
    let ms = |time: Option<u64>| time.map_or_else(|| "never".to_owned(), |ms| format!("{ms} ms"));
    let [first, median, last] = [reconnect.first_ms, reconnect.median_ms, reconnect.last_ms].map(ms);
    writeln!(f, "{clients} clients broke off; synced again: first {first}, median {median}, last {last}")?;
    writeln!(
        f,
        "{attempts} attempts, {missing} clients missing, {violations} violations, {digest_mismatches} digests"
    )?;
    write_phases(f, &reconnect.phases)?;
    for (service, count) in &reconnect.queries_per_connection {
        writeln!(f, "{count:.2} database operations of {service} for each connection")?;
    }
    for (error, count) in &reconnect.errors {
        writeln!(f, "{count} times: {error}")?;
    }
    writeln!(f, "In all:")
}

fn write_presence(f: &mut fmt::Formatter<'_>, storm: &PresenceStorm) -> fmt::Result {
    writeln!(f, "{} pairs of watcher and watched user", storm.pairs)?;
    for Told { phase, frames } in &storm.told {
        writeln!(f, "{phase:<22} {frames:>9} statuses told")?;
    }
    write_phases(f, &storm.phases)?;
    for (error, count) in &storm.errors {
        writeln!(f, "{count} times: {error}")?;
    }
    writeln!(f, "In all:")
}

fn write_phases(f: &mut fmt::Formatter<'_>, phases: &[Phase]) -> fmt::Result {
    write_heading(f, "bystanders, ms")?;
    for phase in phases {
        write_latencies(f, phase.name, &phase.received)?;
    }
    write!(f, "{:<22}", "processor s")?;
    for phase in phases {
        write!(f, " {:>16}", format!("{} {:.1} s", phase.name, phase.seconds))?;
    }
    writeln!(f)?;
    let names = phases.first().map_or(&[][..], |phase| &phase.processes);
    for name in names.iter().map(|used| &used.name) {
        write!(f, "{name:<22}")?;
        for phase in phases {
            let used = phase.processes.iter().find(|used| used.name == *name);
            write!(f, " {:>16.2}", used.map_or(0.0, |used| used.cpu_seconds))?;
        }
        writeln!(f)?;
    }
    write!(f, "{:<22}", "this generator")?;
    for phase in phases {
        write!(f, " {:>16.2}", phase.generator_cpu_seconds)?;
    }
    writeln!(f)?;
    Ok(())
}

fn write_heading(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    writeln!(f, "{name:<22} {:>9} {:>9} {:>9} {:>9} {:>9}", "p50", "p99", "p99.9", "max", "count")
}

#[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "two digits are shown")]
fn write_latencies(f: &mut fmt::Formatter<'_>, name: &str, latencies: &Latencies) -> fmt::Result {
    let ms = |us: u64| us as f64 / 1_000.0;
    let Latencies { count, p50_us, p99_us, p999_us, max_us } = *latencies;
    let [p50, p99, p999, max] = [p50_us, p99_us, p999_us, max_us].map(ms);
    writeln!(f, "{name:<22} {p50:>9.2} {p99:>9.2} {p999:>9.2} {max:>9.2} {count:>9}")
}
