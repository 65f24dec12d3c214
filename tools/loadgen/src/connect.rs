//! Connections that open, are authenticated, and end, again and again: how many a second, and how long each takes.
//!
//! Closed loop: so many are on their way at once, and each is another user's than the one before.

use std::{sync::Arc, time::Duration};

use serde::Serialize;

use crate::{
    Target,
    calls::Callers,
    people::{self, Sync},
    report::Report,
};

/// How many, how long.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub(crate) struct Parameters {
    /// Users who take turns.
    #[arg(long, default_value_t = 1_000)]
    users: usize,
    /// Connections that are on their way at once.
    #[arg(long, default_value_t = 64)]
    at_once: usize,
    /// Each syncs before it counts.
    #[arg(long)]
    synced: bool,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 15)]
    duration: u64,
}

/// Runs the scenario.
pub(crate) async fn run(target: Target<'_>, parameters: &Parameters) -> anyhow::Result<Report> {
    let Parameters { users, at_once, synced, duration } = *parameters;
    anyhow::ensure!(at_once > 0 && users >= at_once, "there must be as many users as connections on their way");
    let people = people::make(target.servers, users).await?;
    let sync = if synced { Sync::Now } else { Sync::None };
    let mut callers = Callers::begin(target, Duration::from_secs(duration))?;
    for some in people.chunks(users / at_once).take(at_once) {
        let mut turns = some.iter().map(|person| Arc::new(person.clone())).collect::<Vec<_>>().into_iter().cycle();
        callers.spawn(move || {
            let person = turns.next();
            async move {
                let Some(person) = person else { anyhow::bail!("nobody") };
                person.connect(sync).await
            }
        });
    }
    callers.report(target, (parameters, "a connection")).await
}
