//! What is said to the person at the terminal.

use std::io::Write;

/// Says something.
pub(crate) fn say(text: &str) {
    // A terminal that is gone needs no message.
    writeln!(std::io::stdout(), "{text}").unwrap_or_default();
}

/// Says how far it is, apart from the report.
pub(crate) fn progress(text: &str) {
    writeln!(std::io::stderr(), "{text}").unwrap_or_default();
}

/// Says what went wrong.
pub(crate) fn complain(text: &str) {
    writeln!(std::io::stderr(), "entrenous-loadgen: {text}").unwrap_or_default();
}
