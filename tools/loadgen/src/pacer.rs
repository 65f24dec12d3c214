//! Says when messages are due.

use std::{
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::mpsc::UnboundedSender;

/// Starts a thread that tells the senders in turn when a message is due, so many times a second, until the end.
///
/// It is a thread of its own because the timers of tokio know whole milliseconds only, and what is measured is about
/// one of them.
pub(crate) fn start(
    senders: Vec<UnboundedSender<Instant>>,
    rate: f64,
    (begin, end): (Instant, Instant),
) -> std::io::Result<JoinHandle<u64>> {
    std::thread::Builder::new().name("pacer".to_owned()).spawn(move || pace(&senders, rate, (begin, end)))
}

fn pace(senders: &[UnboundedSender<Instant>], rate: f64, (begin, end): (Instant, Instant)) -> u64 {
    let mut number = 0_u64;
    for sender in senders.iter().cycle() {
        let due = begin + due_after(number, rate);
        if due >= end {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // A sender that is gone has said why.
        if sender.send(due).is_ok() {
            number += 1;
        } else if senders.iter().all(UnboundedSender::is_closed) {
            break;
        } else {
            number += 1;
        }
    }
    number
}

#[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "exact up to 2^53 messages")]
fn due_after(number: u64, rate: f64) -> Duration {
    Duration::from_secs_f64(number as f64 / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_is_due_all_the_same() {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let begin = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        let count = start(vec![sender], 1_000.0, (begin, begin + Duration::from_millis(500))).unwrap().join().unwrap();
        let dues: Vec<_> = std::iter::from_fn(|| receiver.try_recv().ok()).collect();
        assert_eq!((count, dues.len()), (500, 500));
        assert_eq!(dues[499] - begin, Duration::from_millis(499));
    }
}
