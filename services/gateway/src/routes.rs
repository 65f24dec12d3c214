//! The REST calls of docs/protocol.md: parse, call, map. One file a resource.

pub(crate) mod auth;
pub(crate) mod bans;
pub(crate) mod blocks;
pub(crate) mod conversations;
pub(crate) mod devices;
pub(crate) mod follows;
pub(crate) mod invites;
pub(crate) mod joins;
pub(crate) mod log;
pub(crate) mod members;
pub(crate) mod messages;
pub(crate) mod operations;
pub(crate) mod pins;
pub(crate) mod reactions;
pub(crate) mod receipts;
pub(crate) mod reference;
pub(crate) mod scheduled;
pub(crate) mod search;
pub(crate) mod statuses;
pub(crate) mod undelivered;
pub(crate) mod unread;
pub(crate) mod users;

use actix_web::{
    HttpResponse,
    middleware::from_fn,
    web::{self, ServiceConfig},
};
use entrenous_model::LoginId;
use entrenous_protocol::{Code, Failure};

use crate::{
    http::{answer::answer, problem::Problem},
    state::Gateway,
    worker::WorkerEvent,
};

/// What a handler gives.
type Answer = Result<HttpResponse, Problem>;

/// Adds every REST call, and a problem for every other path. Handlers take `web::Data<Gateway>`.
pub(crate) fn configure(config: &mut ServiceConfig) {
    auth::configure(config);
    statuses::configure(config);
    follows::configure(config);
    blocks::configure(config);
    users::configure(config);
    devices::configure(config);
    conversations::configure(config);
    members::configure(config);
    bans::configure(config);
    invites::configure(config);
    joins::configure(config);
    messages::configure(config);
    reactions::configure(config);
    pins::configure(config);
    scheduled::configure(config);
    search::configure(config);
    unread::configure(config);
    undelivered::configure(config);
    receipts::configure(config);
    log::configure(config);
    operations::configure(config);
    reference::configure(config);
    config.default_service(web::to(unknown_path).wrap(from_fn(answer)));
}

async fn unknown_path() -> Answer {
    Err(Failure::new(Code::NotFound, "there is nothing at this path").into())
}

/// This gateway knows at once that a login has ended; the others are told by identity.
async fn end_login(gateway: &Gateway, login: LoginId) {
    gateway.note_revoked(&[login]);
    gateway.tell_workers(WorkerEvent::LoginsEnded([login].into())).await;
}
