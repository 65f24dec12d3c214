//! `entrenous`: the one binary that people meet.

mod chat;
mod dev;
mod migrate;
mod output;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Self-hosted messaging, encrypted end to end.
#[derive(Debug, Parser)]
#[command(name = "entrenous", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs everything on this machine, PostgreSQL and nats-server included.
    Dev(dev::DevArgs),
    /// Talks from the terminal.
    Chat(Box<chat::ChatArgs>),
    /// Brings the tables of all services up to date.
    Migrate(migrate::MigrateArgs),
    /// Runs one service, configured by its environment.
    Serve(serve::ServeArgs),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(arguments) => serve::run_process(&arguments),
        Command::Dev(arguments) => finish(block_on(dev::run(arguments))),
        Command::Chat(arguments) => finish(block_on(chat::run(*arguments))),
        Command::Migrate(arguments) => finish(block_on(migrate::run(arguments))),
    }
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    // What still blocks, like a read of the terminal, must not keep the process.
    runtime.shutdown_background();
    result
}

fn finish(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
