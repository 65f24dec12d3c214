//! What a run showed, as JSON and for people.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use entrenous_checker::{
    Availability, Check, Event, History, OperationNumber, Plan, Report, What, availability, check,
};
use serde::Serialize;

use crate::nemesis::Faults;

/// What a run showed.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// What everything that was left to chance followed from.
    pub seed: u64,
    /// How long people talked while harm was done.
    pub seconds: u64,
    /// Why it ended early or not in time, if it did.
    pub failure: Option<String>,
    /// What clients did, and how often.
    pub operations: BTreeMap<String, usize>,
    /// What was done to the servers, and how often.
    pub faults: Faults,
    /// What does not hold, by its name.
    pub broken: BTreeMap<&'static str, usize>,
    /// How long clients waited.
    pub availability: Availability,
    /// What was checked, and what does not hold.
    pub report: Report,
}

impl Outcome {
    /// Checks a history.
    pub fn of(history: &History) -> Self {
        let report = check(history);
        let mut broken: BTreeMap<_, _> = Check::ALL.map(|check| (name(check), 0)).into();
        for violation in &report.violations {
            *broken.entry(name(violation.check)).or_default() += 1;
        }
        Self {
            seed: 0,
            seconds: 0,
            failure: None,
            operations: operations(&history.events),
            faults: Faults::new(),
            broken,
            availability: availability(history),
            report,
        }
    }

    /// Whether it ended, and every promise held.
    pub fn is_ok(&self) -> bool {
        self.failure.is_none() && self.report.is_ok()
    }
}

/// What it is called when a check fails.
fn name(check: Check) -> &'static str {
    match check {
        Check::Acknowledged => "lost",
        Check::NoIdTwice => "doubled",
        Check::SenderOrder => "reordered by sender",
        Check::RealTimeOrder => "reordered in time",
        Check::OneLog => "logs that differ",
        Check::LiveStream => "holes or repeats",
        Check::Visibility => "leaked",
        Check::RefusedNotStored => "refused and stored",
        Check::Unread => "unread drift",
        Check::Members => "members and rights that are not the log's",
        Check::Changes => "changes that do not hold",
        Check::Planned => "scheduled messages that went wrong",
        Check::Answers => "answers out of the protocol",
    }
}

fn operations(events: &[Event]) -> BTreeMap<String, usize> {
    let mut operations = BTreeMap::new();
    let mut asked = HashMap::new();
    for event in events {
        if let Some((number, name)) = request(&event.what) {
            asked.insert(number, name);
        } else if let Some(operation) = answer(&event.what, &mut asked).or_else(|| operation(&event.what)) {
            *operations.entry(operation).or_default() += 1;
        }
    }
    operations
}

/// What is counted once it was answered.
fn request(what: &What) -> Option<(OperationNumber, String)> {
    Some(match what {
        What::Changing { operation, action, .. } => (*operation, action.clone()),
        What::Planning { operation, plan, .. } => {
            let name = match plan {
                Plan::Send { .. } => "schedule",
                Plan::Change { .. } => "change a scheduled message",
                Plan::Cancel => "delete a scheduled message",
            };
            (*operation, name.to_owned())
        }
        What::Peeking { operation, .. } => (*operation, "look at a log".to_owned()),
        _ => return None,
    })
}

fn answer(what: &What, asked: &mut HashMap<OperationNumber, String>) -> Option<String> {
    let (operation, outcome) = match what {
        What::Done { operation, seq: Some(_) }
            if asked.get(operation).is_some_and(|name| name.contains("schedule")) =>
        {
            (operation, Some("sent"))
        }
        What::Done { operation, .. } | What::Peeked { operation, .. } => (operation, None),
        What::Refused { operation, code } => (operation, Some(code.as_str())),
        What::Indeterminate { operation, .. } => (operation, Some("unknown")),
        _ => return None,
    };
    let name = asked.remove(operation)?;
    Some(outcome.map_or_else(|| name.clone(), |outcome| format!("{name} ({outcome})")))
}

fn operation(what: &What) -> Option<String> {
    Some(match what {
        What::Sending { connection: Some(_), .. } => "send by WebSocket".to_owned(),
        What::Sending { connection: None, .. } => "send by REST".to_owned(),
        What::Reading { .. } => "read receipt".to_owned(),
        What::Connected { .. } => "connect".to_owned(),
        What::SyncBegan { .. } => "sync".to_owned(),
        What::Disconnected { code: Some(code), .. } => format!("connection ended with {code}"),
        What::Disconnected { code: None, .. } => "connection ended without a code".to_owned(),
        What::Tried { action, outcome, .. } if action == "delivery receipt" || outcome == "done" => action.clone(),
        What::Tried { action, outcome, .. } => format!("{action} ({outcome})"),
        _ => return None,
    })
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {} s", self.seed, self.seconds)?;
        list(f, "operations", self.operations.iter().map(|(name, count)| (name.as_str(), *count)))?;
        list(f, "faults", self.faults.iter().map(|(name, count)| (name.as_str(), *count)))?;
        list(f, "promises broken", self.broken.iter().map(|(name, count)| (*name, *count)))?;
        let seen = self.availability;
        let share = |count: usize| permille(count, seen.messages);
        writeln!(f, "\navailability, from when somebody wanted to say something, connected or not")?;
        writeln!(f, "  {} within 1 s, {} within 10 s", share(seen.within_1_s), share(seen.within_10_s))?;
        writeln!(f, "  half within {} ms, the longest wait {} ms", seen.median_ms, seen.longest_wait_ms)?;
        writeln!(f, "  longest time without any ack {} ms\n", seen.longest_silence_ms)?;
        write!(f, "{}", self.report)?;
        match &self.failure {
            Some(failure) => writeln!(f, "\nFAILED: {failure}"),
            None if self.report.is_ok() => writeln!(f, "\nevery promise held"),
            None => writeln!(f, "\nBROKEN: {} violations", self.report.violations.len()),
        }
    }
}

fn list<'a>(f: &mut fmt::Formatter<'_>, title: &str, lines: impl Iterator<Item = (&'a str, usize)>) -> fmt::Result {
    writeln!(f, "\n{title}")?;
    for (name, count) in lines {
        writeln!(f, "  {count:>6}  {name}")?;
    }
    Ok(())
}

/// As a share in percent, cut after the first decimal place: what is not all is never shown as 100 %.
fn permille(part: usize, whole: usize) -> String {
    let permille = (part * 1_000).checked_div(whole).unwrap_or(1_000);
    format!("{}.{} %", permille / 10, permille % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_tells_what_broke() {
        let mut history = History::default();
        let what = What::Unexpected { summary: "a frame of type nonsense".to_owned() };
        history.events.push(Event { at_us: 1, what });
        let outcome = Outcome::of(&history);
        let text = outcome.to_string();
        assert!(!outcome.is_ok());
        assert!(text.contains("1  answers out of the protocol") && text.contains("0  lost"), "{text}");
        assert!(text.contains("a frame of type nonsense") && text.contains("BROKEN: 1"), "{text}");
        assert_eq!(serde_json::to_value(&outcome).unwrap()["broken"]["lost"], 0);
    }

    #[test]
    fn almost_all_is_not_all() {
        assert_eq!([permille(9_999, 10_000), permille(3, 3), permille(0, 0)], ["99.9 %", "100.0 %", "100.0 %"]);
    }
}
