//! A run in parts: what was used in each, and what bystanders saw.

use std::time::{Duration, Instant};

use crate::{
    Target,
    measure::Samples,
    processes::{Snapshot, of_generator},
    queries::{self, Queries},
    report::{Phase, Servers},
};

/// What the servers and this generator had used at a moment.
pub(crate) struct Reading {
    at: Instant,
    servers: Snapshot,
    generator_cpu: Duration,
    queries: Queries,
}

impl Reading {
    pub(crate) async fn take(target: Target<'_>) -> anyhow::Result<Self> {
        let (at, servers, generator_cpu) = (Instant::now(), Snapshot::take(target.processes)?, of_generator());
        Ok(Self { at, servers, generator_cpu, queries: queries::read(target.processes).await? })
    }

    pub(crate) fn phase(&self, name: &str, to: &Self, samples: &Samples) -> anyhow::Result<Phase> {
        Ok(Phase {
            name: name.to_owned(),
            seconds: (to.at - self.at).as_secs_f64(),
            received: samples.between(self.at, to.at)?,
            processes: to.servers.since(&self.servers),
            generator_cpu_seconds: to.generator_cpu.saturating_sub(self.generator_cpu).as_secs_f64(),
            queries: queries::since(&to.queries, &self.queries),
        })
    }

    /// What the servers and this generator used from here to there.
    pub(crate) fn servers(&self, to: &Self) -> Servers {
        Servers {
            used: to.servers.since(&self.servers),
            generator_cpu: to.generator_cpu.saturating_sub(self.generator_cpu),
        }
    }
}
