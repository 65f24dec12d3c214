//! Messages that are sent later: people schedule them, change them, and delete some.

use std::time::Duration;

use entrenous_checker::{Plan, What};
use entrenous_client::{
    Api,
    api::{empty, json},
};
use entrenous_model::{Clock, SystemClock, Timestamp};
use entrenous_protocol::Code;
use rand::{Rng, rngs::StdRng};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    between,
    caller::Caller,
    world::{Kept, Phase, World, soon},
};

/// Schedules, changes and deletes messages now and then.
pub(super) async fn plan(mut caller: Caller) {
    while caller.world.is_in(Phase::Talking) {
        tokio::time::sleep(between(&mut caller.rng, 400..2_500)).await;
        match caller.rng.random_range(0..10) {
            0..5 => schedule(&mut caller).await,
            5..8 => change(&mut caller).await,
            _ => delete(&mut caller).await,
        }
    }
}

async fn schedule(caller: &mut Caller) {
    let user = caller.user;
    let Some(conversation) = caller.world.any_room(user, &mut caller.rng) else { return };
    let (message, send_at) = (World::any_later(&mut caller.rng), soon(&mut caller.rng));
    let (id, mut body) = (message.id, json!(message));
    body["send_at"] = json!(send_at);
    let path = format!("conversations/{conversation}/messages");
    let plan = Plan::Send { send_at, version: 0 };
    let attempt = |operation| What::Planning { operation, user, conversation, id, plan };
    let (path, body) = (&path, &body);
    let call = move |api: Api| async move { json::<Value>(api.request(Method::POST, path).json(body)).await };
    let answer = caller.insist(attempt, call, seq).await;
    caller.expect("schedule", &answer, &[Code::NotFound, Code::Forbidden, Code::TooLarge]);
    if answer.is_ok_and(|answer| seq(&answer).is_none()) {
        caller.world.keep(user, conversation, id);
    }
}

/// The place of a message that was sent; none of one that waits.
fn seq(answer: &Value) -> Option<u64> {
    answer["seq"].as_u64()
}

/// Another version of a message, another time, or both.
async fn change(caller: &mut Caller) {
    let user = caller.user;
    let Some(mut kept) = caller.world.take_kept(user, &mut caller.rng) else { return };
    let Kept { conversation, id, .. } = kept;
    let send_at = caller.rng.random_bool(0.6).then(|| another_time(&mut caller.rng));
    let version = (send_at.is_none() || caller.rng.random_bool(0.5)).then_some(kept.version + 1);
    kept.version += 1;
    let mut body = json!({});
    if let Some(send_at) = send_at {
        body["send_at"] = json!(send_at);
    }
    if let Some(version) = version {
        let text = "z".repeat(caller.rng.random_range(1..200));
        body["content"] = json!({"text": text});
        body["metadata"] = json!({"version": version});
    }
    let plan = Plan::Change { send_at, version };
    let attempt = |operation| What::Planning { operation, user, conversation, id, plan };
    let path = format!("scheduled/{id}");
    let (path, body) = (&path, &body);
    let call = move |api: Api| async move { json::<Value>(api.request(Method::PATCH, path).json(body)).await };
    let answer = caller.insist(attempt, call, seq).await;
    // Sent meanwhile; or its author may not write there any more.
    caller.expect("change a scheduled message", &answer, &[Code::NotFound, Code::Forbidden]);
    match answer {
        Ok(answer) if seq(&answer).is_some() => {}
        Err(error) if error.is(Code::NotFound) && caller.rng.random_bool(0.7) => {}
        _ => caller.world.put_back(user, kept),
    }
}

/// Soon, or at once.
fn another_time(rng: &mut StdRng) -> Timestamp {
    if rng.random_bool(0.3) { SystemClock.now() - Duration::from_secs(1) } else { soon(rng) }
}

async fn delete(caller: &mut Caller) {
    let user = caller.user;
    let Some(Kept { conversation, id, .. }) = caller.world.take_kept(user, &mut caller.rng) else { return };
    let attempt = |operation| What::Planning { operation, user, conversation, id, plan: Plan::Cancel };
    let path = format!("scheduled/{id}");
    let path = path.as_str();
    let call = move |api: Api| async move { empty(api.request(Method::DELETE, path)).await };
    let answer = caller.insist(attempt, call, |()| None).await;
    caller.expect("delete a scheduled message", &answer, &[Code::NotFound]);
}
