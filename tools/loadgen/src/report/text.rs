//! A report on a terminal.

use std::fmt;

use super::{Phase, Report, digits, to_ms};
use crate::{latencies::Latencies, processes::Used};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.name, self.parameters)?;
        for figure in &self.figures {
            writeln!(f, "{:>12} {}", digits(figure.value), figure.name)?;
        }
        for (error, count) in &self.errors {
            writeln!(f, "{count:>12} times: {error}")?;
        }
        if !self.latencies.is_empty() {
            let name = "milliseconds";
            writeln!(f, "{name:<34} {:>9} {:>9} {:>9} {:>9} {:>9}", "p50", "p99", "p99.9", "max", "count")?;
        }
        for series in &self.latencies {
            write_latencies(f, &series.name, &series.latencies)?;
        }
        if !self.phases.is_empty() {
            write_phases(f, &self.phases)?;
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

fn write_latencies(f: &mut fmt::Formatter<'_>, name: &str, latencies: &Latencies) -> fmt::Result {
    let Latencies { count, p50_us, p99_us, p999_us, max_us, .. } = *latencies;
    let [p50, p99, p999, max] = [p50_us, p99_us, p999_us, max_us].map(to_ms);
    writeln!(f, "{name:<34} {p50:>9.2} {p99:>9.2} {p999:>9.2} {max:>9.2} {count:>9}")
}

fn write_phases(f: &mut fmt::Formatter<'_>, phases: &[Phase]) -> fmt::Result {
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
    writeln!(f, "\nIn all:")
}
