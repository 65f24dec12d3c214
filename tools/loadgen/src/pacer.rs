//! Says when messages are due.

use std::{
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::mpsc::UnboundedSender;

use crate::measure::Observe;

/// Starts a thread that tells the senders in turn when a message is due, so many times a second, until the end.
///
/// It is a thread of its own because the timers of tokio know whole milliseconds only, and what is measured is about
/// one of them.
pub(crate) fn start(
    senders: Vec<UnboundedSender<Instant>>,
    observer: Arc<dyn Observe>,
    rate: f64,
    (begin, end): (Instant, Instant),
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("pacer".to_owned()).spawn(move || pace(&senders, &*observer, rate, (begin, end)))
}

fn pace(senders: &[UnboundedSender<Instant>], observer: &dyn Observe, rate: f64, (begin, end): (Instant, Instant)) {
    for (number, sender) in (0..).zip(senders.iter().cycle()) {
        let due = begin + due_after(number, rate);
        if due >= end {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        observer.due(due);
        // A sender that is gone has said why.
        if sender.send(due).is_err() && senders.iter().all(UnboundedSender::is_closed) {
            break;
        }
    }
}

#[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "exact up to 2^53 messages")]
fn due_after(number: u64, rate: f64) -> Duration {
    Duration::from_secs_f64(number as f64 / rate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Samples;

    #[test]
    fn what_is_late_is_due_all_the_same() {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let begin = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        let times = (begin, begin + Duration::from_millis(500));
        start(vec![sender], Arc::new(Samples::default()), 1_000.0, times).unwrap().join().unwrap();
        let dues: Vec<_> = std::iter::from_fn(|| receiver.try_recv().ok()).collect();
        assert_eq!(dues.len(), 500);
        assert_eq!(dues[499] - begin, Duration::from_millis(499));
    }
}
