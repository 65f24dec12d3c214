//! The gateway as a process of its own.

use std::process::ExitCode;

use entrenous_gateway::Config;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let config: Config = match entrenous_config::load() {
        Ok(config) => config,
        Err(error) => return error.exit(),
    };
    if let Err(error) = config.validate() {
        return error.exit();
    }
    let process = config.process.clone();
    entrenous_runtime::run_process("gateway", &process, |shutdown| entrenous_gateway::run(config, shutdown))
}
