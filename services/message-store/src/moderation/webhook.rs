//! An outside service that judges clear text: one signed request a text.

use std::{
    collections::VecDeque,
    fmt,
    fmt::Write as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ahash::AHashMap;
use aws_lc_rs::{digest, hmac};
use entrenous_config::ConfigError;
use entrenous_model::{Clock, ConversationId, EntryId, SystemClock, UserId};
use entrenous_protocol::RawValue;
use entrenous_runtime::Tasks;
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use reqwest::{Client, StatusCode, redirect};
use serde::{Deserialize, Serialize};
use tokio::{sync::Semaphore, time::Instant};
use url::Url;

use super::{ModerationConfig, OnSilence};

/// Bytes of the secret, at least.
const SECRET_BYTES_MIN: usize = 32;
/// Requests under way at once; what waits for its turn does so within its own time.
const AT_ONCE: usize = 64;
/// Bytes of an answer, at most: a text in its place, and room.
const ANSWER_BYTES_MAX: usize = 5 * 1024 * 1024;
/// For how long an answer is remembered: while its message is offered again, because it was not waited for.
const REMEMBERED: Duration = Duration::from_secs(15);
/// Answers remembered, at most; above, the oldest is forgotten, and asked for anew at need.
const REMEMBERED_MAX: usize = 4_096;
/// Characters of a reason that the sender is told.
const REASON_CHARS_MAX: usize = 200;
const SIGNATURE: &str = "entrenous-signature";

/// What the service is asked.
#[derive(Serialize)]
pub(crate) struct Question<'a> {
    pub(crate) conversation_id: ConversationId,
    pub(crate) sender_id: UserId,
    /// Of the message, or of the edit.
    pub(crate) id: EntryId,
    pub(crate) content: &'a RawValue,
}

/// What it says.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allow,
    /// With a reason.
    Refuse(String),
    /// Another text in its place.
    Replace(String),
    /// Nothing, in time or that can be understood, and that means no.
    Silent,
}

/// A verdict on its way.
pub(crate) type Asking = Shared<BoxFuture<'static, Verdict>>;

#[derive(Deserialize)]
struct Answer {
    action: Action,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Allow,
    Refuse,
    Replace,
}

pub(super) struct Webhook {
    caller: Arc<Caller>,
    tasks: Tasks,
    asked: Mutex<Asked>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Webhook")
    }
}

type Key = [u8; 32];

#[derive(Default)]
struct Asked {
    by_key: AHashMap<Key, Asking>,
    /// In the order in which they were asked.
    order: VecDeque<(Instant, Key)>,
}

struct Caller {
    client: Client,
    url: Url,
    key: hmac::Key,
    timeout: Duration,
    on_silence: OnSilence,
    slots: Semaphore,
    /// It did not answer last: told once, not for each text.
    is_silent: AtomicBool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("the service cannot be asked: {0}")]
    Http(#[from] reqwest::Error),
    #[error("the service answers {0}")]
    Status(StatusCode),
    #[error("the answer is larger than {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the answer is none that is known")]
    Answer,
    #[error("the service is too slow")]
    Late,
}

/// Nobody is asked.
pub(super) fn allowed() -> Asking {
    futures::future::ready(Verdict::Allow).boxed().shared()
}

impl Webhook {
    /// None where no service is set.
    pub(super) fn new(config: &ModerationConfig, tasks: &Tasks) -> Result<Option<Self>, ConfigError> {
        let Some(url) = config.moderation_webhook_url.clone() else {
            return Ok(None);
        };
        let wrong = |name, problem: String| ConfigError::Value { name, problem };
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("MODERATION_WEBHOOK_URL", "must begin with https:// or http://".to_owned()));
        }
        let secret = config.moderation_webhook_secret.as_ref().map(|secret| secret.expose().as_bytes());
        let Some(secret) = secret.filter(|secret| secret.len() >= SECRET_BYTES_MIN) else {
            let problem = format!("must be at least {SECRET_BYTES_MIN} bytes");
            return Err(wrong("MODERATION_WEBHOOK_SECRET", problem));
        };
        let client = Client::builder().redirect(redirect::Policy::none()).build();
        let client = client.map_err(|error| wrong("MODERATION_WEBHOOK_URL", format!("cannot be called: {error}")))?;
        let caller = Caller {
            client,
            url,
            key: hmac::Key::new(hmac::HMAC_SHA256, secret),
            timeout: Duration::from_millis(u64::from(config.moderation_webhook_timeout_ms)),
            on_silence: config.moderation_webhook_silence,
            slots: Semaphore::new(AT_ONCE),
            is_silent: AtomicBool::new(false),
        };
        Ok(Some(Self { caller: Arc::new(caller), tasks: tasks.clone(), asked: Mutex::default() }))
    }

    pub(super) fn ask(&self, question: &Question<'_>) -> Asking {
        let Ok(body) = serde_json::to_vec(question) else {
            return futures::future::ready(self.caller.silence()).boxed().shared();
        };
        let mut key = Key::default();
        key.copy_from_slice(digest::digest(&digest::SHA256, &body).as_ref());
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.forget_old();
        // Silence is no answer: whoever comes again asks again.
        if let Some(known) = asked.by_key.get(&key).filter(|known| known.peek() != Some(&Verdict::Silent)) {
            return known.clone();
        }
        let caller = Arc::clone(&self.caller);
        let task = self.tasks.spawn(async move { caller.verdict(body).await });
        let caller = Arc::clone(&self.caller);
        let asking = async move { task.await.unwrap_or_else(|_| caller.silence()) }.boxed().shared();
        asked.remember(key, asking.clone());
        asking
    }
}

impl Asked {
    fn forget_old(&mut self) {
        while let Some((at, key)) = self.order.front() {
            if at.elapsed() < REMEMBERED && self.order.len() < REMEMBERED_MAX {
                return;
            }
            self.by_key.remove(key);
            self.order.pop_front();
        }
    }

    fn remember(&mut self, key: Key, asking: Asking) {
        self.by_key.insert(key, asking);
        self.order.push_back((Instant::now(), key));
    }
}

impl Caller {
    async fn verdict(&self, body: Vec<u8>) -> Verdict {
        let answer = tokio::time::timeout(self.timeout, self.call(body)).await;
        match answer.unwrap_or(Err(CallError::Late)) {
            Ok(verdict) => {
                if self.is_silent.swap(false, Ordering::Relaxed) {
                    tracing::info!("the service that judges clear text answers again");
                }
                verdict
            }
            Err(error) => {
                if !self.is_silent.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "the service that judges clear text does not answer");
                }
                self.silence()
            }
        }
    }

    fn silence(&self) -> Verdict {
        match self.on_silence {
            OnSilence::Allow => Verdict::Allow,
            OnSilence::Refuse => Verdict::Silent,
        }
    }

    async fn call(&self, body: Vec<u8>) -> Result<Verdict, CallError> {
        let _slot = self.slots.acquire().await.map_err(|_| CallError::Late)?;
        let signature = signature(&self.key, SystemClock.now().unix_seconds(), &body);
        let request = self.client.post(self.url.clone()).header("content-type", "application/json");
        let request = request.header(SIGNATURE, signature).body(body);
        let mut response = request.send().await.map_err(reqwest::Error::without_url)?;
        if response.status() != StatusCode::OK {
            return Err(CallError::Status(response.status()));
        }
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
            if answer.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(CallError::TooLarge);
            }
            answer.extend_from_slice(&chunk);
        }
        verdict_of(&answer).ok_or(CallError::Answer)
    }
}

/// `t=<Unix seconds>,v1=<hex of HMAC-SHA256 over "<t>.<body>">`.
fn signature(key: &hmac::Key, seconds: i64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(format!("{seconds}.").as_bytes());
    context.update(body);
    let mut text = format!("t={seconds},v1=");
    for byte in context.sign().as_ref() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn verdict_of(answer: &[u8]) -> Option<Verdict> {
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    match answer.action {
        Action::Allow => Some(Verdict::Allow),
        Action::Refuse => {
            let reason = answer.reason.unwrap_or_else(|| "is not allowed here".to_owned());
            Some(Verdict::Refuse(reason.chars().filter(|shown| !shown.is_control()).take(REASON_CHARS_MAX).collect()))
        }
        Action::Replace => answer.text.map(Verdict::Replace),
    }
}
