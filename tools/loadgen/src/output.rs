//! What is said to the person at the terminal.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a bar of time moves.
const TICK: Duration = Duration::from_millis(200);
const STEPS: &str = "{wide_bar} {pos}/{len}";
const SECONDS: &str = "{wide_bar} {pos}/{len} s";

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

/// How far something is: a line, and below it a bar where there is a terminal.
#[derive(Debug)]
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// Of so many steps.
    pub(crate) fn of(text: &str, steps: usize) -> Self {
        Self::start(text, u64::try_from(steps).unwrap_or(u64::MAX), STEPS)
    }

    fn start(text: &str, length: u64, template: &'static str) -> Self {
        progress(text);
        // Draws to stderr, and nothing where that is no terminal.
        let bar = ProgressBar::new(length);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// One step is done.
    pub(crate) fn step(&self) {
        self.0.inc(1);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Waits until then, and shows how long it will take.
pub(crate) async fn wait_until(text: &str, then: Instant) {
    let began = Instant::now();
    let seconds = then.saturating_duration_since(began).as_millis().div_ceil(1_000);
    let bar = Bar::start(&format!("{text} for {seconds} s"), u64::try_from(seconds).unwrap_or(u64::MAX), SECONDS);
    while Instant::now() < then {
        bar.0.set_position(began.elapsed().as_secs());
        let next = then.min(Instant::now() + TICK);
        tokio::time::sleep_until(next.into()).await;
    }
}
