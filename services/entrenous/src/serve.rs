//! One service, in a process of its own or as a task in this one: both build its settings from the same names.

use std::process::ExitCode;

use anyhow::Context;
use entrenous_local_servers::permissions::Service;
use entrenous_runtime::{ProcessConfig, Shutdown};

/// Which service.
#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// gateway, identity, message-store, delivery-tracker or presence.
    #[arg(value_parser = parse_service)]
    service: Service,
    /// The folder of the `entrenous dev` that started it: only there to be recognised by it.
    #[arg(long, hide = true)]
    started_by: Option<std::path::PathBuf>,
}

fn parse_service(name: &str) -> Result<Service, String> {
    let names = || Service::ALL.map(Service::name).join(", ");
    Service::ALL.into_iter().find(|service| service.name() == name).ok_or_else(|| format!("one of {}", names()))
}

/// Settings by name.
pub(crate) type Pairs = Vec<(String, String)>;

/// Runs a service in this process until the stop. What the pairs do not say comes from the environment.
///
/// # Errors
/// Wrong settings, or the service's own failure.
pub(crate) async fn run(service: Service, pairs: &Pairs, shutdown: Shutdown) -> anyhow::Result<()> {
    match service {
        Service::Gateway => entrenous_gateway::run(settings(pairs)?, shutdown).await,
        Service::Identity => entrenous_identity::run(settings(pairs)?, shutdown).await,
        Service::MessageStore => Box::pin(entrenous_message_store::run(settings(pairs)?, shutdown)).await,
        Service::DeliveryTracker => entrenous_delivery_tracker::run(settings(pairs)?, shutdown).await,
        Service::Presence => entrenous_presence::run(settings(pairs)?, shutdown).await,
    }
}

fn settings<T: clap::Parser>(pairs: &Pairs) -> anyhow::Result<T> {
    entrenous_config::from_pairs(pairs).context("wrong settings")
}

/// The whole life of a process with one service.
pub(crate) fn run_process(arguments: &ServeArgs) -> ExitCode {
    let service = arguments.service;
    let process = match process_settings() {
        Ok(process) => process,
        Err(error) => return error.exit(),
    };
    entrenous_runtime::run_process(service.name(), &process, |shutdown| run_owned(service, shutdown))
}

async fn run_owned(service: Service, shutdown: Shutdown) -> anyhow::Result<()> {
    Box::pin(run(service, &Pairs::new(), shutdown)).await
}

/// What every service's settings have in common; the rest is read when the service starts.
#[derive(clap::Parser)]
struct Common {
    #[command(flatten)]
    process: ProcessConfig,
}

fn process_settings() -> Result<ProcessConfig, entrenous_config::ConfigError> {
    Ok(entrenous_config::from_pairs::<Common>(&[])?.process)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_known_by_their_names() {
        assert_eq!(parse_service("message-store"), Ok(Service::MessageStore));
        assert!(parse_service("postgres").unwrap_err().contains("delivery-tracker"));
    }
}
