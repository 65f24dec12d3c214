//! The descriptions of the API, and a page to read them. Everything is inside the program: the page loads nothing from
//! elsewhere, and its policy would not let it.

use actix_web::{
    HttpResponse,
    http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, ContentType},
    web::ServiceConfig,
};

use crate::{http::resource::at, openapi};

/// Made by tools/asyncapi.
const ASYNCAPI: &str = include_str!("../../../../docs/asyncapi.json");
const PAGE: &str = include_str!("../../assets/docs.html");
const STYLE: &str = include_str!("../../assets/docs.css");
const SCRIPT: &str = include_str!("../../assets/docs.js");

/// The page's own script and style, the two documents, and nothing else; no text becomes markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";
/// Of one version of the program, like the page: asked for again, and sent again, each time.
const NO_CACHE: &str = "no-cache";

pub(super) fn configure(config: &mut ServiceConfig) {
    at("/api/v1/openapi.json").get(openapi).register(config);
    at("/api/v1/asyncapi.json").get(asyncapi).register(config);
    at("/api/v1/docs").get(page).register(config);
    at("/api/v1/docs/page.css").get(style).register(config);
    at("/api/v1/docs/page.js").get(script).register(config);
}

/// This description.
#[utoipa::path(
    get, path = "/api/v1/openapi.json", tag = "operations", operation_id = "get_openapi",
    responses((status = 200, description = "OpenAPI 3.1", body = Object))
)]
pub(crate) async fn openapi() -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::json()).body(openapi::text())
}

/// The description of WebSocket frames, and of what travels over NATS.
#[utoipa::path(
    get, path = "/api/v1/asyncapi.json", tag = "operations", operation_id = "get_asyncapi",
    responses((status = 200, description = "AsyncAPI 3.0", body = Object))
)]
pub(crate) async fn asyncapi() -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::json()).body(ASYNCAPI)
}

/// A page to read both descriptions.
#[utoipa::path(
    get, path = "/api/v1/docs", tag = "operations", operation_id = "get_docs",
    responses((status = 200, description = "A page", body = String, content_type = "text/html"))
)]
pub(crate) async fn page() -> HttpResponse {
    asset("text/html; charset=utf-8", PAGE)
}

async fn style() -> HttpResponse {
    asset("text/css; charset=utf-8", STYLE)
}

async fn script() -> HttpResponse {
    asset("text/javascript; charset=utf-8", SCRIPT)
}

fn asset(content_type: &str, body: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(content_type)
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((CACHE_CONTROL, NO_CACHE))
        .body(body)
}
