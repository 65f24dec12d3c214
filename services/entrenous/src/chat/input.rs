//! What the person types.

use std::{
    io::{BufRead, IsTerminal, Write},
    process::{Command, Stdio},
};

use anyhow::Context;
use entrenous_config::Secret;
use tokio::sync::mpsc;

/// Lines that wait to be taken; then reading waits too.
const LINES_MAX: usize = 64;

/// Lines of the standard input; ends with it.
///
/// Reading a terminal cannot be interrupted, so it has a thread of its own, which ends with the process.
pub(super) fn lines() -> anyhow::Result<mpsc::Receiver<String>> {
    let (sender, receiver) = mpsc::channel(LINES_MAX);
    std::thread::Builder::new().name("input".to_owned()).spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    })?;
    Ok(receiver)
}

/// Whether a person sits at the terminal: then what was typed stands there already.
pub(super) fn is_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Asks for a password without showing it.
pub(super) fn ask_password(user: &str) -> anyhow::Result<Secret> {
    anyhow::ensure!(
        std::io::stdin().is_terminal(),
        "there is no terminal to ask for the password: set ENTRENOUS_PASSWORD or give --password"
    );
    let mut out = std::io::stderr();
    write!(out, "Password of {user}: ")?;
    out.flush()?;
    let is_hidden = set_echo(false);
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    if is_hidden {
        set_echo(true);
        writeln!(out)?;
    }
    read.context("cannot read the password")?;
    Ok(Secret::new(line.trim_end_matches(['\r', '\n'])))
}

/// Whether the terminal obeyed.
fn set_echo(is_shown: bool) -> bool {
    let mode = if is_shown { "echo" } else { "-echo" };
    Command::new("stty").arg(mode).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
