//! What a run showed: as JSON, and for people.

mod table;
mod text;

use std::{path::Path, time::Duration};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    latencies::Latencies,
    measure::{Errors, Measured},
    processes::Used,
    queries::Queries,
};
pub(crate) use table::table;

/// What the servers used while it was measured.
#[derive(Debug, Clone, Default)]
pub(crate) struct Servers {
    pub(crate) used: Vec<Used>,
    pub(crate) generator_cpu: Duration,
}

impl Servers {
    /// Seconds of processor time of all servers; none where nobody knows.
    fn cpu_seconds(&self) -> Option<f64> {
        (!self.used.is_empty()).then(|| self.used.iter().map(|used| used.cpu_seconds).sum())
    }
}

/// What a run showed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    /// What the run is called in tables and plots.
    pub(crate) name: String,
    parameters: Value,
    figures: Vec<Figure>,
    pub(crate) latencies: Vec<Series>,
    phases: Vec<Phase>,
    /// What went wrong, how often.
    errors: Errors,
    processes: Vec<Used>,
    /// Seconds of processor time of all servers.
    servers_cpu_seconds: f64,
    /// Seconds of processor time of the generator.
    generator_cpu_seconds: f64,
}

/// One number.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Figure {
    name: String,
    value: f64,
}

/// Latencies of one kind.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Series {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) latencies: Latencies,
}

/// A part of the run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Phase {
    pub(crate) name: String,
    pub(crate) seconds: f64,
    /// Of the bystanders, from due to received.
    pub(crate) received: Latencies,
    pub(crate) processes: Vec<Used>,
    pub(crate) generator_cpu_seconds: f64,
    /// Database operations by service and operation.
    pub(crate) queries: Queries,
}

impl Report {
    /// A report of nothing but what the servers used.
    pub(crate) fn new(parameters: &impl Serialize, servers: Servers) -> anyhow::Result<Self> {
        Ok(Self {
            name: String::new(),
            parameters: serde_json::to_value(parameters)?,
            figures: Vec::new(),
            latencies: Vec::new(),
            phases: Vec::new(),
            errors: Errors::new(),
            servers_cpu_seconds: servers.cpu_seconds().unwrap_or_default(),
            processes: servers.used,
            generator_cpu_seconds: servers.generator_cpu.as_secs_f64(),
        })
    }

    /// The same under this name.
    pub(crate) fn with_name(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// A report of messages of one kind.
    pub(crate) fn messages(parameters: &impl Serialize, measured: &Measured, servers: Servers) -> anyhow::Result<Self> {
        Ok(Self::new(parameters, servers)?.with_messages("", measured).with_cpu_per_message(measured))
    }

    /// A report of calls, each made when the one before was answered.
    pub(crate) fn calls(
        parameters: &impl Serialize,
        call: &str,
        (latencies, per_second): (Latencies, f64),
        servers: Servers,
    ) -> anyhow::Result<Self> {
        let report = Self::new(parameters, servers)?.with_figure(&format!("{call}: a second"), per_second);
        let cpu = report.cpu_for_each(latencies.count, 1_000.0);
        Ok(report
            .with_optional(&format!("{call}: ms of processor time of all servers for each"), cpu)
            .with_latencies(call, latencies))
    }

    /// Adds messages of one kind, under its name where there are several.
    pub(crate) fn with_messages(self, kind: &str, measured: &Measured) -> Self {
        let named = |name: &str| if kind.is_empty() { name.to_owned() } else { format!("{kind}: {name}") };
        let report = self
            .with_figure(&named("acknowledged a second"), measured.acked_per_second)
            .with_figure(&named("were due"), to_f64(measured.due))
            .with_figure(&named("were not acknowledged"), to_f64(measured.unanswered()))
            .with_latencies(&named("send to ack"), measured.ack.clone())
            .with_errors(measured.errors.clone());
        match &measured.received {
            Some(received) => report
                .with_figure(&named("live deliveries a second"), measured.delivered_per_second)
                .with_latencies(&named("send to received by all"), received.clone()),
            None => report,
        }
    }

    /// Adds calls of one kind that were made when they were due.
    pub(crate) fn with_answers(self, kind: &str, measured: &Measured) -> Self {
        self.with_figure(&format!("{kind}: answered a second"), measured.acked_per_second)
            .with_figure(&format!("{kind}: were due"), to_f64(measured.due))
            .with_figure(&format!("{kind}: were not answered"), to_f64(measured.unanswered()))
            .with_latencies(kind, measured.ack.clone())
            .with_errors(measured.errors.clone())
    }

    fn with_cpu_per_message(self, measured: &Measured) -> Self {
        let cpu = self.cpu_for_each(measured.acked_in_time, 1_000.0);
        self.with_optional("s of processor time of all servers for 1,000 messages", cpu)
    }

    /// Adds what one message to one of so many receivers costs.
    pub(crate) fn with_cpu_per_delivery(self, measured: &Measured, receivers: usize) -> Self {
        let deliveries = measured.acked_in_time * u64::try_from(receivers).unwrap_or(u64::MAX);
        let cpu = self.cpu_for_each(deliveries, 1e6);
        self.with_optional("µs of processor time of all servers for each delivery", cpu)
    }

    /// Adds a number.
    pub(crate) fn with_figure(mut self, name: &str, value: f64) -> Self {
        self.figures.push(Figure { name: name.to_owned(), value });
        self
    }

    /// Adds a number where there is one.
    pub(crate) fn with_optional(self, name: &str, value: Option<f64>) -> Self {
        match value {
            Some(value) => self.with_figure(name, value),
            None => self,
        }
    }

    /// Adds latencies.
    pub(crate) fn with_latencies(mut self, name: &str, latencies: Latencies) -> Self {
        self.latencies.push(Series { name: name.to_owned(), latencies });
        self
    }

    /// Adds the parts of the run, and what bystanders felt in each.
    pub(crate) fn with_phases(mut self, phases: Vec<Phase>) -> Self {
        for phase in &phases {
            self.latencies
                .push(Series { name: format!("bystanders, {}", phase.name), latencies: phase.received.clone() });
        }
        self.phases = phases;
        self
    }

    /// Adds what went wrong.
    pub(crate) fn with_errors(mut self, errors: Errors) -> Self {
        for (error, count) in errors {
            *self.errors.entry(error).or_default() += count;
        }
        self
    }

    /// What the gateways' memory has grown by, in bytes for each of so many.
    pub(crate) fn gateway_bytes_for_each(&self, count: usize) -> Option<f64> {
        let is_gateway = |used: &&Used| used.name.starts_with("gateway") || used.name == "entrenous";
        let grown: Vec<_> = self.processes.iter().filter(is_gateway).map(|used| used.memory_grown_kib).collect();
        let bytes = grown.iter().sum::<i64>() * 1_024 / i64::try_from(count).ok().filter(|count| *count > 0)?;
        (!grown.is_empty()).then(|| i64_to_f64(bytes))
    }

    /// Seconds of processor time of all servers for each of so many, times a factor.
    fn cpu_for_each(&self, count: u64, factor: f64) -> Option<f64> {
        (count > 0 && !self.processes.is_empty()).then(|| self.servers_cpu_seconds / to_f64(count) * factor)
    }

    /// Reads one that was written as JSON.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is no report", path.display()))
    }
}

/// A count as a figure.
#[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "exact up to 2^53")]
pub(crate) fn to_f64(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "exact up to 2^53")]
fn i64_to_f64(number: i64) -> f64 {
    number as f64
}

/// Microseconds as milliseconds.
pub(crate) fn to_ms(us: u64) -> f64 {
    to_f64(us) / 1_000.0
}

/// A number with as many digits as it deserves.
fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || size == 0.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests;
