//! What every request and answer goes through: CORS, security headers, metrics, and a problem body where there is none.

use std::time::Duration;

use actix_web::{
    Error, HttpResponse, ResponseError,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method, StatusCode,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
    middleware::Next,
    web,
};
use tokio::time::Instant;

use super::{origin::is_listed, problem::Problem};
use crate::state::Gateway;

const ALLOWED_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
const ALLOWED_HEADERS: &str = "Authorization, Content-Type";
const EXPOSED_HEADERS: &str = "Retry-After, WWW-Authenticate, Allow, Location";
/// How long browsers keep the answer to a preflight, in seconds; two hours is the most that Chromium keeps.
const PREFLIGHT_KEPT_SECONDS: &str = "7200";

/// Wraps a resource: answers preflights, adds headers, counts.
///
/// # Errors
/// What the resource could not turn into an answer.
pub(crate) async fn answer<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let started_at = Instant::now();
    let cors = Cors::of(&request);
    let mut response = if is_preflight(&request) {
        request.into_response(HttpResponse::NoContent().finish())
    } else {
        with_problem(next.call(request).await?.map_into_boxed_body())
    };
    cors.write(response.response_mut().headers_mut());
    write_security(response.response_mut().headers_mut());
    record(&response, started_at.elapsed());
    Ok(response)
}

fn is_preflight(request: &ServiceRequest) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ORIGIN)
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// What the answer says about other origins.
#[derive(Debug, PartialEq, Eq)]
struct Cors {
    /// `Access-Control-Allow-Origin`, for an origin that may call.
    allow: Option<HeaderValue>,
    /// The answer is another one for another origin.
    varies: bool,
    is_preflight: bool,
}

impl Cors {
    fn of(request: &ServiceRequest) -> Self {
        let origins = request.app_data::<web::Data<Gateway>>().map(|gateway| gateway.config.gateway_origins.as_slice());
        let origin = request.headers().get(header::ORIGIN);
        Self { is_preflight: is_preflight(request), ..Self::decide(origins.unwrap_or_default(), origin) }
    }

    fn decide(origins: &[String], origin: Option<&HeaderValue>) -> Self {
        let is_open = origins.iter().any(|listed| listed.trim() == "*");
        let allow = origin.filter(|origin| origin.to_str().is_ok_and(|origin| is_listed(origins, origin)));
        let allow = allow.map(|origin| if is_open { HeaderValue::from_static("*") } else { origin.clone() });
        Self { allow, varies: !is_open && !origins.is_empty(), is_preflight: false }
    }

    fn write(self, headers: &mut HeaderMap) {
        if self.varies {
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        let Some(allow) = self.allow else {
            return;
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allow);
        let more: &[(HeaderName, &'static str)] = if self.is_preflight {
            &[
                (header::ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS),
                (header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS),
                (header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_KEPT_SECONDS),
            ]
        } else {
            &[(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS)]
        };
        for (name, value) in more {
            headers.insert(name.clone(), HeaderValue::from_static(value));
        }
    }
}

fn write_security(headers: &mut HeaderMap) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let policy = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    if !headers.contains_key(header::CONTENT_SECURITY_POLICY) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

/// An error that actix made by itself is plain text or empty: puts a problem in its place.
fn with_problem(response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let content_type = response.headers().get(header::CONTENT_TYPE);
    let has_body = content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/"));
    if !is_error || has_body {
        return response;
    }
    response.into_response(Problem::of_status(status).error_response())
}

fn record(response: &ServiceResponse<BoxBody>, duration: Duration) {
    let request = response.request();
    let route = request.match_pattern().unwrap_or_else(|| "none".to_owned());
    let method = method_label(request.method());
    let status = response.status();
    metrics::counter!(
        "chat_http_requests_total", "route" => route.clone(), "method" => method, "status" => status.as_str().to_owned()
    )
    .increment(1);
    metrics::histogram!("chat_http_request_duration_seconds", "route" => route.clone(), "method" => method)
        .record(duration);
    let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
        tracing::error!(route, method, status = status.as_u16(), duration_ms, "a request failed by a fault of ours");
    } else {
        tracing::debug!(route, method, status = status.as_u16(), duration_ms, "request answered");
    }
}

/// Methods are text that clients choose; a label must not be.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(origins: &[&str], origin: &'static str) -> Cors {
        let origins: Vec<String> = origins.iter().map(|origin| (*origin).to_owned()).collect();
        Cors::decide(&origins, Some(&HeaderValue::from_static(origin)))
    }

    #[test]
    fn only_listed_origins_are_told_that_they_may_call() {
        let cors = decide(&["https://chat.example"], "https://chat.example");
        assert_eq!(cors.allow.unwrap(), "https://chat.example");
        assert!(cors.varies);
        assert_eq!(decide(&["https://chat.example"], "https://evil.example").allow, None);
        assert_eq!(decide(&[], "https://chat.example").allow, None);
    }

    #[test]
    fn an_open_gateway_reflects_nobody() {
        let cors = decide(&["*"], "https://chat.example");
        assert_eq!(cors.allow.unwrap(), "*");
        assert!(!cors.varies);
    }
}
