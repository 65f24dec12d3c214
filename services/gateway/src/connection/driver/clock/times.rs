//! What is due on a connection, and when. Time is given by the caller; nothing here waits.

use std::time::Duration;

use entrenous_protocol::CloseCode;
use tokio::time::Instant;

/// How long before its end a token is said to end.
const EXPIRY_NOTICE: Duration = Duration::from_secs(60);

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// A sign of life.
    Heartbeat,
    /// The token ends in this time.
    Expiring(Duration),
    /// The connection ends.
    End(CloseCode),
}

#[derive(Debug)]
pub(super) struct Times {
    heartbeat_interval: Duration,
    heartbeat_at: Instant,
    heard_at: Instant,
    expires_at: Instant,
    /// When the end of the token is told; none once it was.
    notice_at: Option<Instant>,
}

impl Times {
    pub(super) fn new(now: Instant, heartbeat_interval: Duration, token_left: Duration) -> Self {
        let heartbeat_at = now + heartbeat_interval;
        let mut times = Self { heartbeat_interval, heartbeat_at, heard_at: now, expires_at: now, notice_at: None };
        times.renew(now, token_left);
        times
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// Another token.
    pub(super) fn renew(&mut self, now: Instant, left: Duration) {
        self.expires_at = now + left;
        self.notice_at = Some(now + left.saturating_sub(EXPIRY_NOTICE));
    }

    /// Nothing is due before.
    pub(super) fn next(&self) -> Instant {
        let end = self.silent_at().min(self.expires_at);
        self.heartbeat_at.min(end).min(self.notice_at.unwrap_or(end))
    }

    /// What is due, one after another.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Due> {
        if now >= self.expires_at {
            return Some(Due::End(CloseCode::TokenExpired));
        }
        if now >= self.silent_at() {
            // Nobody is there to read a close frame.
            return Some(Due::End(CloseCode::Normal));
        }
        if self.notice_at.is_some_and(|at| now >= at) {
            self.notice_at = None;
            return Some(Due::Expiring(self.expires_at.duration_since(now)));
        }
        if now >= self.heartbeat_at {
            self.heartbeat_at = now + self.heartbeat_interval;
            return Some(Due::Heartbeat);
        }
        None
    }

    fn silent_at(&self) -> Instant {
        self.heard_at + self.heartbeat_interval * 2
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Wait { seconds: u64 },
        Hear,
        Renew { seconds: u64 },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..50_u64).prop_map(|seconds| Step::Wait { seconds }),
            3 => Just(Step::Hear),
            1 => (0..400_u64).prop_map(|seconds| Step::Renew { seconds }),
        ];
        prop::collection::vec(step, 0..60)
    }

    /// What was done, and when.
    struct Watch {
        times: Times,
        now: Instant,
        done: Vec<(Instant, Due)>,
    }

    impl Watch {
        /// As the driver does: sleeps until something is due, and does all that is.
        fn wait_until(&mut self, until: Instant) -> bool {
            while self.times.next() <= until {
                self.now = self.now.max(self.times.next());
                if self.do_due() {
                    return true;
                }
                assert!(self.times.next() > self.now, "it would spin");
            }
            self.now = until;
            false
        }

        fn do_due(&mut self) -> bool {
            while let Some(due) = self.times.take_due(self.now) {
                self.done.push((self.now, due));
                if matches!(due, Due::End(_)) {
                    return true;
                }
            }
            false
        }
    }

    proptest! {
        #[test]
        fn heartbeats_are_regular_and_every_end_has_its_reason(token in 0..400_u64, steps in steps()) {
            let start = Instant::now();
            let token = Duration::from_secs(token);
            let mut watch = Watch { times: Times::new(start, INTERVAL, token), now: start, done: Vec::new() };
            let (mut heard_at, mut expires_at, mut tokens) = (start, start + token, 1);
            let mut has_ended = watch.do_due();
            for step in steps {
                if has_ended {
                    break;
                }
                let now = watch.now;
                has_ended = match step {
                    Step::Wait { seconds } => watch.wait_until(now + Duration::from_secs(seconds)),
                    Step::Hear => {
                        heard_at = now;
                        watch.times.heard(now);
                        false
                    }
                    Step::Renew { seconds } => {
                        expires_at = now + Duration::from_secs(seconds);
                        tokens += 1;
                        watch.times.renew(now, Duration::from_secs(seconds));
                        watch.do_due()
                    }
                };
            }
            let beats: Vec<_> = watch.done.iter().filter(|(_, due)| *due == Due::Heartbeat).map(|(at, _)| *at).collect();
            for (index, at) in beats.iter().enumerate() {
                prop_assert_eq!(*at, start + INTERVAL * u32::try_from(index + 1).unwrap());
            }
            let notices: Vec<_> = watch.done.iter().filter(|(_, due)| matches!(due, Due::Expiring(_))).collect();
            prop_assert!(notices.len() <= tokens, "once a token");
            prop_assert!(notices.iter().all(|(_, due)| matches!(due, Due::Expiring(left) if *left <= EXPIRY_NOTICE)));
            if has_ended {
                match watch.done.last() {
                    Some((at, Due::End(CloseCode::TokenExpired))) => prop_assert_eq!(*at, expires_at),
                    Some((at, Due::End(CloseCode::Normal))) => prop_assert_eq!(*at, heard_at + INTERVAL * 2),
                    other => prop_assert!(false, "{:?}", other),
                }
            } else {
                prop_assert!(watch.now < expires_at.min(heard_at + INTERVAL * 2));
            }
        }
    }

    #[test]
    fn the_end_of_a_token_is_told_once_a_minute_ahead() {
        let start = Instant::now();
        let mut times = Times::new(start, INTERVAL * 100, Duration::from_secs(900));
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!((times.next(), times.take_due(at(839))), (at(840), None));
        assert_eq!(times.take_due(at(840)), Some(Due::Expiring(Duration::from_secs(60))));
        assert_eq!((times.take_due(at(840)), times.next()), (None, at(900)));
        times.renew(at(850), Duration::from_secs(30));
        assert_eq!(times.take_due(at(850)), Some(Due::Expiring(Duration::from_secs(30))), "a short one at once");
        assert_eq!(times.take_due(at(879)), None);
        assert_eq!(times.take_due(at(880)), Some(Due::End(CloseCode::TokenExpired)));
    }
}
