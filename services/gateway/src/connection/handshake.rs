//! From an HTTP request to an authenticated connection.

use std::{rc::Rc, time::Duration};

use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, Session};
use entrenous_auth::Claims;
use entrenous_model::EntryId;
use entrenous_protocol::{
    CloseCode, Code, Failure,
    frame::{self, ClientFrame},
};
use futures::StreamExt;

use super::driver;
use crate::{
    http::{origin::is_origin_allowed, problem::Problem},
    state::Gateway,
    worker::Worker,
};

/// The subprotocol. Source: docs/protocol.md, section 3.
const SUBPROTOCOL: &str = "entrenous.v1";
/// How long a connection may take to authenticate.
const AUTHENTICATE_MAX: Duration = Duration::from_secs(5);

/// `GET /api/v1/ws`. A refused token does not fail the upgrade: browsers could not see why.
pub(crate) async fn upgrade(request: HttpRequest, body: web::Payload) -> Result<HttpResponse, Problem> {
    let worker = request.app_data::<Rc<Worker>>().cloned().ok_or_else(Failure::internal)?;
    let host = request.connection_info().host().to_owned();
    if !is_origin_allowed(&worker.gateway, request.headers().get("Origin"), &host) {
        return Err(Failure::new(Code::Forbidden, "this origin may not connect").into());
    }
    if worker.gateway.is_draining() {
        return Err(Failure::unavailable("the gateway stops").into());
    }
    if !worker.gateway.hears_nats() {
        return Err(Failure::unavailable("the gateway is cut off").into());
    }
    let token = offered_token(&request);
    let (response, session, stream) = actix_ws::handle_with_protocols(&request, body, &[SUBPROTOCOL])
        .map_err(|error| Failure::new(Code::Malformed, format!("not a WebSocket upgrade: {error}")))?;
    let frame_bytes = worker.gateway.limits.frame_bytes;
    let stream = stream.max_frame_size(frame_bytes).aggregate_continuations().max_continuation_size(frame_bytes);
    actix_web::rt::spawn(driver::run(worker, session, stream, token));
    Ok(response)
}

/// A token in `Authorization`, or in a subprotocol `bearer.<token>`.
fn offered_token(request: &HttpRequest) -> Option<String> {
    let headers = request.headers();
    let bearer = headers.get("Authorization").and_then(|value| value.to_str().ok());
    if let Some(value) = bearer
        && let Some((scheme, token)) = value.split_once(' ')
        && scheme.eq_ignore_ascii_case("bearer")
    {
        return Some(token.trim().to_owned());
    }
    headers
        .get_all("Sec-WebSocket-Protocol")
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|protocol| protocol.trim().strip_prefix("bearer."))
        .map(str::to_owned)
}

/// Who is there, and the id of the `authenticate` frame that is to be acknowledged.
pub(crate) async fn authenticate(
    gateway: &Gateway,
    session: &mut Session,
    stream: &mut AggregatedMessageStream,
    token: Option<String>,
) -> Result<(Claims, Option<EntryId>), CloseCode> {
    let (token, id) = match token {
        Some(token) => (token, None),
        None => tokio::time::timeout(AUTHENTICATE_MAX, first_frame(gateway, session, stream))
            .await
            .unwrap_or(Err(CloseCode::NotAuthenticated))?,
    };
    match gateway.authenticate(&token).await {
        Ok(claims) => Ok((claims, id)),
        Err(failure) => Err(close_code_of(&failure)),
    }
}

/// The close code for a token that was refused.
pub(crate) fn close_code_of(failure: &Failure) -> CloseCode {
    match failure.code {
        Code::TokenExpired => CloseCode::TokenExpired,
        Code::Unavailable | Code::Internal => CloseCode::Restart,
        _ => CloseCode::TokenInvalid,
    }
}

async fn first_frame(
    gateway: &Gateway,
    session: &mut Session,
    stream: &mut AggregatedMessageStream,
) -> Result<(String, Option<EntryId>), CloseCode> {
    loop {
        match stream.next().await {
            Some(Ok(AggregatedMessage::Text(text))) => {
                return match frame::parse(&text, &gateway.limits) {
                    Ok((id, ClientFrame::Authenticate { token })) => Ok((token, id)),
                    Ok(_) | Err(_) => Err(CloseCode::NotAuthenticated),
                };
            }
            Some(Ok(AggregatedMessage::Ping(bytes))) => {
                session.pong(&bytes).await.map_err(|_| CloseCode::Normal)?;
            }
            Some(Ok(AggregatedMessage::Pong(_))) => {}
            Some(Ok(AggregatedMessage::Binary(_))) => return Err(CloseCode::Unsupported),
            Some(Ok(AggregatedMessage::Close(_))) | None => return Err(CloseCode::Normal),
            Some(Err(error)) => return Err(driver::close_code_of(&error)),
        }
    }
}
