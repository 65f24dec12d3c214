//! What can go wrong with a server of our own.

use std::{io, path::PathBuf, time::Duration};

/// A server that cannot be started or reached.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// No program of that name.
    #[error("{tool} {minimum} or newer was not found: {advice}")]
    NotFound {
        /// The program.
        tool: &'static str,
        /// The oldest version that will do.
        minimum: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// The program is there, but too old.
    #[error("{tool} at {} is version {found}, {minimum} or newer is needed: {advice}", path.display())]
    TooOld {
        /// The program.
        tool: &'static str,
        /// Where it is.
        path: PathBuf,
        /// Its version.
        found: String,
        /// The oldest version that will do.
        minimum: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// A path was given that holds no such program.
    #[error("{setting} says {}, but there is no working {tool}", path.display())]
    NotThere {
        /// The program.
        tool: &'static str,
        /// The setting.
        setting: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// The data were written by another major version.
    #[error("the data in {} were made by PostgreSQL {made_by}, which was not found: install it, or move the folder away to start anew", path.display())]
    DataVersion {
        /// The data folder.
        path: PathBuf,
        /// The major version that made them.
        made_by: u32,
    },
    /// The data folder cannot be used by this user.
    #[error("{} belongs to another user: run as that user or as root, or move the folder away to start anew", path.display())]
    Owner {
        /// The data folder.
        path: PathBuf,
    },
    /// As root there must be somebody else to run PostgreSQL as.
    #[error("PostgreSQL does not run as root, and there is neither a user 'postgres' nor a user 'nobody'")]
    NoUser,
    /// Somebody runs a server in this home.
    #[error("{} is in use by another process", home.display())]
    HomeBusy {
        /// The home.
        home: PathBuf,
    },
    /// Somebody listens on the port that was asked for.
    #[error("port {port} is in use by another program")]
    PortBusy {
        /// The port.
        port: u16,
    },
    /// All ports that were tried are taken.
    #[error("no free port was found")]
    NoFreePort,
    /// A file or folder.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A program cannot be started.
    #[error("cannot start {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A preparing step ended with an error.
    #[error("{step} failed: {output}")]
    Step {
        /// The step.
        step: &'static str,
        /// What it printed.
        output: String,
    },
    /// The server ended instead of serving.
    #[error("{server} ended while starting; its last words:\n{log}")]
    Ended {
        /// The server.
        server: &'static str,
        /// The end of its log.
        log: String,
    },
    /// The server took too long.
    #[error("{server} was not ready within {} s; its last words:\n{log}", limit.as_secs())]
    NotReady {
        /// The server.
        server: &'static str,
        /// How long it had.
        limit: Duration,
        /// The end of its log.
        log: String,
    },
}

impl ServerError {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}
