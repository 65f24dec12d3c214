//! What is said to the person at the terminal. Logs go elsewhere.

use std::io::Write;

/// Says something.
pub(crate) fn say(text: &str) {
    // A terminal that is gone needs no message.
    writeln!(std::io::stdout(), "{text}").unwrap_or_default();
}

/// Says what went wrong.
pub(crate) fn complain(text: &str) {
    writeln!(std::io::stderr(), "entrenous: {text}").unwrap_or_default();
}
