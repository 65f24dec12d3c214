//! What needs no token: limits, keys, health.

use actix_web::{
    HttpResponse,
    web::{Data, ServiceConfig},
};
use entrenous_protocol::{
    Code, Failure, Limits,
    rpc::{Done, identity},
};
use serde_json::json;

use super::Answer;
use crate::{
    http::resource::at,
    openapi::{NotFound, Unavailable},
    state::Gateway,
};

/// How long the keys of access tokens may be kept. A new key is published well before it signs.
const JWKS_CACHE_CONTROL: (&str, &str) = ("cache-control", "public, max-age=60");

pub(super) fn configure(config: &mut ServiceConfig) {
    at("/api/v1/limits").get(limits).register(config);
    at("/.well-known/jwks.json").get(jwks).register(config);
    at("/healthz").get(healthz).register(config);
    at("/readyz").get(readyz).register(config);
    at("/livez").get(livez).register(config);
}

/// The limits in force.
#[utoipa::path(
    get, path = "/api/v1/limits", tag = "operations", operation_id = "get_limits",
    responses((status = 200, description = "The limits", body = Limits))
)]
pub(crate) async fn limits(gateway: Data<Gateway>) -> HttpResponse {
    HttpResponse::Ok().json(&gateway.limits)
}

/// Public keys of access tokens (RFC 7517).
#[utoipa::path(
    get, path = "/.well-known/jwks.json", tag = "operations", operation_id = "get_jwks",
    responses((status = 200, description = "A JWK set", body = Object), NotFound, Unavailable)
)]
pub(crate) async fn jwks(gateway: Data<Gateway>) -> Answer {
    if gateway.tokens.are_outside() {
        return Err(
            Failure::new(Code::NotFound, "the keys are at the outside issuer whose tokens this server takes").into()
        );
    }
    let keys = gateway.call::<identity::Jwks>(&Done {}).await?;
    Ok(HttpResponse::Ok().insert_header(JWKS_CACHE_CONTROL).json(keys))
}

/// Whether the gateway can do its work; the same as `/readyz`.
#[utoipa::path(
    get, path = "/healthz", tag = "operations", operation_id = "get_health",
    responses(
        (status = 200, description = "It can", body = Object),
        (status = 503, description = "It cannot, and which part is missing", body = Object)
    )
)]
pub(crate) async fn healthz(gateway: Data<Gateway>) -> HttpResponse {
    gateway.readiness.response()
}

/// Whether the gateway can do its work.
#[utoipa::path(
    get, path = "/readyz", tag = "operations", operation_id = "get_readiness",
    responses(
        (status = 200, description = "It can", body = Object),
        (status = 503, description = "It cannot, and which part is missing", body = Object)
    )
)]
pub(crate) async fn readyz(gateway: Data<Gateway>) -> HttpResponse {
    gateway.readiness.response()
}

/// Whether the process is there.
#[utoipa::path(
    get, path = "/livez", tag = "operations", operation_id = "get_liveness",
    responses((status = 200, description = "It is", body = Object))
)]
pub(crate) async fn livez() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "alive"}))
}
