//! The description of the REST API, made from the handlers. Source: OpenAPI 3.1.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use entrenous_protocol::{Code, act::DeleteScope, rest::Problem};
use serde_json::{Value, json};
use utoipa::{
    IntoResponses, Modify, OpenApi,
    openapi::{
        self, Content, Object, PathItem, Ref, RefOr, Response, ResponseBuilder,
        path::Operation,
        schema::{Schema, SchemaType, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::routes::{
    auth, bans, blocks, conversations, devices, follows, invites, joins, log, members, messages, operations, pins,
    reactions, receipts, reference, scheduled, search, statuses, undelivered, unread, users,
};

/// The description, as it is served and as docs/openapi.json keeps it.
pub fn text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let text = Api::openapi().to_pretty_json();
        text.map_or_else(|_| "{}\n".to_owned(), |text| text + "\n")
    });
    &TEXT
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Entrenous",
        description = "REST calls of the Entrenous client protocol. Every error is an RFC 9457 problem whose `code` says what went wrong. Unknown fields are ignored; a method that a path does not have is answered 405 with `Allow`."
    ),
    paths(
        auth::register,
        auth::login,
        auth::refresh,
        auth::logout,
        auth::change_password,
        users::me,
        users::update_me,
        users::profile,
        users::find,
        statuses::get,
        statuses::own,
        statuses::set,
        statuses::following,
        follows::add,
        follows::remove,
        follows::list,
        blocks::add,
        blocks::remove,
        blocks::list,
        devices::list,
        devices::delete,
        conversations::create,
        conversations::list,
        conversations::get,
        conversations::update,
        conversations::delete,
        joins::list,
        joins::join,
        members::list,
        members::add,
        members::update,
        members::remove,
        bans::list,
        bans::add,
        bans::remove,
        invites::list,
        invites::create,
        invites::revoke,
        invites::join,
        messages::send,
        messages::history,
        messages::get,
        messages::edit,
        messages::delete,
        reactions::list,
        reactions::add,
        reactions::remove,
        pins::list,
        pins::add,
        pins::remove,
        scheduled::list,
        scheduled::change,
        scheduled::cancel,
        messages::thread,
        messages::history_with,
        messages::history_of,
        search::search,
        undelivered::list,
        unread::list,
        unread::mark,
        receipts::list,
        log::read,
        operations::limits,
        reference::openapi,
        reference::asyncapi,
        reference::page,
        operations::jwks,
        operations::healthz,
        operations::readyz,
        operations::livez,
    ),
    components(schemas(Problem, DeleteScope)),
    tags(
        (name = "auth", description = "Accounts and logins"),
        (name = "users", description = "Profiles, and whom one follows or has blocked"),
        (name = "presence", description = "Who is there"),
        (name = "devices", description = "One's own devices"),
        (name = "conversations", description = "Conversations as their members see them"),
        (name = "members", description = "Who is in a conversation"),
        (name = "messages", description = "Sending, history and the raw log"),
        (name = "operations", description = "What needs no token"),
    ),
    modifiers(&Bearer, &CommonProblems, &Codes, &Contents)
)]
struct Api;

/// Access tokens.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, api: &mut openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// Problems that every call of a kind may answer, so that handlers name only their own.
struct CommonProblems;

impl Modify for CommonProblems {
    fn modify(&self, api: &mut openapi::OpenApi) {
        for item in api.paths.paths.values_mut() {
            for operation in operations_of(item) {
                add_common(operation);
            }
        }
    }
}

fn operations_of(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete].into_iter().flatten()
}

fn add_common(operation: &mut Operation) {
    let is_about_us = operation.tags.iter().flatten().any(|tag| tag == "operations");
    let mut common: Vec<&[Code]> = vec![&[Code::Malformed], &[Code::MethodNotAllowed]];
    if !is_about_us {
        common.extend([&[Code::RateLimited][..], &[Code::Internal], &[Code::Unavailable]]);
    }
    if operation.security.is_some() {
        common.push(&[Code::Unauthenticated, Code::TokenExpired]);
    }
    if operation.request_body.is_some() {
        common.extend([&[Code::TooLarge][..], &[Code::UnsupportedType]]);
    }
    if operation.request_body.is_some() || operation.parameters.as_ref().is_some_and(|list| !list.is_empty()) {
        common.push(&[Code::Invalid]);
    }
    for codes in common {
        for (status, response) in responses(codes) {
            operation.responses.responses.entry(status).or_insert(response);
        }
    }
}

/// The values of `code`.
struct Codes;

impl Modify for Codes {
    fn modify(&self, api: &mut openapi::OpenApi) {
        let schemas = api.components.as_mut().map(|components| &mut components.schemas);
        let problem = schemas.and_then(|schemas| schemas.get_mut("Problem"));
        if let Some(RefOr::T(Schema::Object(problem))) = problem {
            let codes: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
            let codes = Object::builder().schema_type(SchemaType::new(Type::String)).enum_values(Some(codes)).build();
            problem.properties.insert("code".to_owned(), RefOr::T(Schema::Object(codes)));
        }
    }
}

/// `content` is ciphertext or clear text, never both.
struct Contents;

impl Modify for Contents {
    fn modify(&self, api: &mut openapi::OpenApi) {
        let optional = |more: Value| {
            let mut schema = json!({"type": ["string", "null"]});
            if let (Some(schema), Value::Object(more)) = (schema.as_object_mut(), more) {
                schema.extend(more);
            }
            schema
        };
        let base64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$";
        let contents = json!({"oneOf": [
            {
                "type": "object", "title": "Ciphertext", "required": ["scheme", "ciphertext"],
                "properties": {
                    "scheme": {"type": "string", "minLength": 1, "maxLength": 64},
                    "ciphertext": {"type": "string", "minLength": 4, "pattern": base64},
                    "nonce": optional(json!({"maxLength": 256, "pattern": base64})),
                    "session_id": optional(json!({"maxLength": 256})),
                    "epoch": {"type": ["integer", "null"], "format": "int64", "minimum": 0},
                }
            },
            {
                "type": "object", "title": "Clear text", "required": ["text"],
                "properties": {
                    "text": {"type": "string", "minLength": 1},
                    "format": optional(json!({"enum": ["plain", "markdown", null]})),
                }
            }
        ]});
        let schemas = api.components.as_mut().map(|components| &mut components.schemas);
        if let (Some(schemas), Ok(contents)) = (schemas, serde_json::from_value::<Schema>(contents)) {
            schemas.insert("ContentFields".to_owned(), RefOr::T(contents));
        }
    }
}

/// Problems of these codes, which share a status.
fn responses(codes: &[Code]) -> BTreeMap<String, RefOr<Response>> {
    let names: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    let response =
        ResponseBuilder::new().description(names.join(", ")).content("application/problem+json", content).build();
    codes.first().map(|code| (code.status().to_string(), RefOr::T(response))).into_iter().collect()
}

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident: $($code:ident),*;)*) => {$(
        $(#[$doc])*
        pub(crate) enum $name {}

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                responses(&[$(Code::$code),*])
            }
        }
    )*};
}

problems! {
    /// Credentials that are not good.
    Unauthenticated: Unauthenticated;
    /// A refresh token that is not good.
    RefreshRefused: Unauthenticated, RefreshTokenReused;
    /// Not allowed to this caller.
    Forbidden: Forbidden;
    /// Does not exist for this caller.
    NotFound: NotFound;
    /// Clashes with what is there.
    Conflict: Conflict;
    /// The id was used for another message.
    IdConflict: IdConflict;
    /// Over a limit.
    TooLarge: TooLarge;
    /// Too often.
    RateLimited: RateLimited;
    /// A part is away.
    Unavailable: Unavailable;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_of_3_1_and_complete() {
        let api: Value = serde_json::from_str(text()).unwrap();
        assert_eq!(api["openapi"], "3.1.0");
        let send = &api["paths"]["/api/v1/conversations/{id}/messages"]["post"];
        for status in ["201", "400", "401", "403", "404", "409", "413", "415", "422", "500", "503"] {
            assert!(send["responses"][status].is_object(), "{status}");
        }
        let contents = api["components"]["schemas"]["ContentFields"]["oneOf"].as_array().unwrap();
        assert_eq!(contents.iter().map(|one| &one["title"]).collect::<Vec<_>>(), ["Ciphertext", "Clear text"]);
        let codes = api["components"]["schemas"]["Problem"]["properties"]["code"]["enum"].as_array().unwrap();
        assert!(Code::ALL.iter().all(|code| codes.contains(&code.as_str().into())));
    }

    #[test]
    fn every_call_tells_what_every_call_may_answer() {
        let api: Value = serde_json::from_str(text()).unwrap();
        let paths = api["paths"].as_object().unwrap().values();
        for call in paths.flat_map(|calls| calls.as_object().unwrap().values()) {
            let tells = |status: &str| call["responses"][status].is_object();
            assert!(["400", "405"].into_iter().all(tells), "{}", call["operationId"]);
            let is_about_us = call["tags"] == json!(["operations"]);
            assert!(is_about_us || ["429", "500", "503"].into_iter().all(tells), "{}", call["operationId"]);
            assert!(call.get("security").is_none() || tells("401"), "{}", call["operationId"]);
            assert!(call.get("requestBody").is_none() || ["413", "415", "422"].into_iter().all(tells));
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn check(value: &Value, api: &Value) {
            if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
                assert!(api.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
            }
            match value {
                Value::Array(items) => items.iter().for_each(|item| check(item, api)),
                Value::Object(members) => members.values().for_each(|member| check(member, api)),
                _ => {}
            }
        }
        let api: Value = serde_json::from_str(text()).unwrap();
        check(&api, &api);
    }

    /// `UPDATE_GENERATED=1` writes the file anew.
    #[test]
    fn generated_description_is_up_to_date() {
        let path = "../../docs/openapi.json";
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            std::fs::write(path, text()).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == text(), "docs/openapi.json is not up to date: run this test with UPDATE_GENERATED=1");
    }
}
