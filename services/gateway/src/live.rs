//! The live plane as this gateway hears it: every message goes to the workers, and what was lost is caught up with.

mod continuity;
#[cfg(test)]
mod tests;

use std::{pin::pin, sync::Arc, time::Duration};

use entrenous_bus::{BEAT_INTERVAL, LiveEvent, LiveProbe, LiveSubscription};
use entrenous_protocol::{
    live::{LiveKind, LiveMessage},
    rpc::store::{ChangedSince, ChangedSinceRequest, ChangedSinceResponse},
};
use futures::future::{BoxFuture, FutureExt, OptionFuture};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};

use crate::{
    state::Gateway,
    worker::{CatchUp, WorkerEvent},
};
use continuity::{Action, Bounds, Continuity};

/// How often it is looked whether something is missing.
const TICK: Duration = Duration::from_millis(250);

/// Listens until the connection is closed for good.
pub(crate) async fn run(gateway: Arc<Gateway>, live: LiveSubscription) {
    let bounds = Bounds {
        degraded_after: Duration::from_millis(gateway.config.degraded_after_ms),
        cut_off_after: Duration::from_millis(gateway.config.cut_off_after_ms),
    };
    let listener = Listener { continuity: Continuity::new(bounds, Instant::now()), gateway, catching_up: None };
    listener.run(live).await;
}

struct Listener {
    gateway: Arc<Gateway>,
    continuity: Continuity,
    catching_up: Option<BoxFuture<'static, bool>>,
}

impl Listener {
    async fn run(mut self, mut live: LiveSubscription) {
        let probe = live.probe();
        let mut probing = pin!(probe_later(probe.clone()));
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = live.next() => match event {
                    Some(event) => self.on_event(event).await,
                    None => return,
                },
                is_there = &mut probing => {
                    if is_there {
                        self.continuity.on_heard(Instant::now());
                    }
                    probing.set(probe_later(probe.clone()));
                }
                Some(is_done) = OptionFuture::from(self.catching_up.as_mut()) => {
                    self.catching_up = None;
                    self.continuity.on_caught_up(is_done, Instant::now());
                }
                _ = ticks.tick() => {}
            }
            self.gateway.set_hears_nats(self.continuity.is_heard(Instant::now()));
            while let Some(action) = self.continuity.next(Instant::now()) {
                self.act(action).await;
            }
        }
    }

    async fn on_event(&mut self, event: LiveEvent) {
        let now = Instant::now();
        match event {
            LiveEvent::Interrupted => self.continuity.on_interrupted(now),
            LiveEvent::Messages(mut messages) => {
                for message in &messages {
                    self.continuity.on_message(message, now);
                }
                messages.retain(|message| message.preamble.kind != LiveKind::Beat);
                if !messages.is_empty() {
                    self.gateway.tell_workers(WorkerEvent::Live(Arc::<[LiveMessage]>::from(messages))).await;
                }
            }
        }
    }

    async fn act(&mut self, action: Action) {
        let gateway = &self.gateway;
        match action {
            Action::CatchUp(since) => {
                metrics::counter!("chat_live_catch_ups_total").increment(1);
                self.catching_up = Some(catch_up(Arc::clone(gateway), since).boxed());
            }
            Action::Degrade => {
                tracing::warn!("live messages may be missing");
                gateway.set_degraded(true);
                gateway.tell_workers(WorkerEvent::Degraded(true)).await;
            }
            Action::Restore => {
                tracing::info!("no live message is missing any more");
                gateway.set_degraded(false);
                gateway.tell_workers(WorkerEvent::Degraded(false)).await;
            }
            Action::CutOff => {
                tracing::error!("NATS is silent: clients are sent elsewhere");
                let spread = Duration::from_millis(gateway.config.drain_spread_ms);
                gateway.tell_workers(WorkerEvent::Drain(spread)).await;
            }
        }
    }
}

/// After a moment, whether NATS answers on the connection that the live messages come on.
async fn probe_later(probe: LiveProbe) -> bool {
    tokio::time::sleep(BEAT_INTERVAL).await;
    probe.probe().await.is_ok()
}

/// Finds out what was missed, and has the workers read it. Gives whether everything is there.
async fn catch_up(gateway: Arc<Gateway>, since: Instant) -> bool {
    let age_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
    let changed = match gateway.call::<ChangedSince>(&ChangedSinceRequest { age_ms }).await {
        Ok(ChangedSinceResponse::Heads(heads)) => Some(heads.into()),
        Ok(ChangedSinceResponse::Unknown) => None,
        Err(_) => return false,
    };
    gateway.revocations_due.notify_one();
    let (done, mut ended) = mpsc::channel(1);
    gateway.tell_workers(WorkerEvent::CatchUp(CatchUp { changed, done })).await;
    // Every worker drops its sender when it has caught up.
    ended.recv().await.is_none()
}
