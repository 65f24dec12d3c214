//! What handlers take from a request: the caller, the body, ids in the path, the query, the client's address. Everything
//! that is wrong with them is a problem that names the field.

use std::{
    future::{Ready, ready},
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    str::FromStr,
    time::Duration,
};

use actix_web::{
    FromRequest, HttpMessage, HttpRequest,
    dev::Payload,
    http::header::{self, HeaderMap},
    web,
};
use bytes::BytesMut;
use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, TimeDelta, Utc};
use entrenous_auth::Claims;
use entrenous_model::Timestamp;
use entrenous_protocol::{
    Code, Failure,
    frame::describe,
    message::{has_nul, too_large},
};
use futures::{StreamExt, future::LocalBoxFuture};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use super::problem::Problem;
use crate::state::Gateway;

/// Every body may have this many bytes, however small messages are configured.
const BODY_BYTES_MIN: usize = 96 * 1024;
/// What is read and thrown away beyond the limit, so that a client that is still sending gets its answer.
const DISCARDED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a body may take to arrive.
const BODY_WAIT_MAX: Duration = Duration::from_secs(30);
const NUL: &str = "must not contain NUL";
/// The field that an error is about when it is about all of them.
const WHOLE: &str = "body";

/// Who calls, by the access token in `Authorization: Bearer …`.
#[derive(Debug, Clone)]
pub(crate) struct Caller(pub(crate) Claims);

impl FromRequest for Caller {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let gateway = gateway_of(request);
        let token = bearer_token(request.headers()).map(str::to_owned);
        Box::pin(async move {
            let token = token.ok_or_else(|| Failure::new(Code::Unauthenticated, "a Bearer token is needed"))?;
            Ok(Self(gateway?.authenticate(&token).await?))
        })
    }
}

/// The token of `Authorization: Bearer …`; the scheme is compared without case. Source: RFC 9110 11.1, RFC 6750 2.1.
pub(crate) fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn gateway_of(request: &HttpRequest) -> Result<web::Data<Gateway>, Failure> {
    request.app_data::<web::Data<Gateway>>().cloned().ok_or_else(Failure::internal)
}

/// A JSON body.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned + 'static> FromRequest for JsonBody<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let limit = gateway_of(request).map(|gateway| gateway.limits.frame_bytes.max(BODY_BYTES_MIN));
        let checked = limit.and_then(|limit| check_head(request, limit).map(|()| limit));
        let payload = payload.take();
        Box::pin(async move {
            let limit = checked?;
            let read = tokio::time::timeout(BODY_WAIT_MAX, read_body(payload, limit));
            let body = read.await.map_err(|_| malformed("the body did not arrive in time"))??;
            Ok(Self(parse_body(&body)?))
        })
    }
}

fn malformed(detail: impl Into<String>) -> Failure {
    Failure::new(Code::Malformed, detail)
}

fn check_head(request: &HttpRequest, limit: usize) -> Result<(), Failure> {
    let is_json = match request.mime_type() {
        Ok(Some(mime)) => {
            mime.type_() == "application"
                && (mime.subtype() == "json" || mime.suffix().is_some_and(|suffix| suffix == "json"))
        }
        Ok(None) | Err(_) => false,
    };
    if !is_json {
        return Err(Failure::new(Code::UnsupportedType, "the body must be application/json"));
    }
    let encoding = request.headers().get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Failure::new(Code::UnsupportedType, "the body must not be compressed"));
    }
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: usize| length > limit.saturating_add(DISCARDED_BYTES_MAX)) {
        return Err(too_large("body_bytes", limit));
    }
    Ok(())
}

async fn read_body(mut payload: Payload, limit: usize) -> Result<BytesMut, Failure> {
    let mut body = BytesMut::new();
    let mut received = 0_usize;
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| malformed("the body broke off"))?;
        received = received.saturating_add(chunk.len());
        if received <= limit {
            body.extend_from_slice(&chunk);
        } else if received > limit.saturating_add(DISCARDED_BYTES_MAX) {
            break;
        }
    }
    if received > limit { Err(too_large("body_bytes", limit)) } else { Ok(body) }
}

/// Reads a body: syntax first, then NUL, then the fields. What is JSON and cannot be taken all the same (too deep, a
/// number out of range, another type) is not valid, never malformed.
fn parse_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    let text = std::str::from_utf8(body).map_err(|_| malformed("the body is not UTF-8"))?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| malformed(format!("the body is not JSON: {error}")))?;
    if !text.trim_ascii_start().starts_with('{') {
        return Err(Failure::invalid(WHOLE, "must be an object"));
    }
    if has_nul(text) {
        let body: Value = serde_json::from_str(text).map_err(|error| Failure::invalid(WHOLE, describe(&error)))?;
        return Err(Failure::invalid(&nul_path(&body).unwrap_or_default(), NUL));
    }
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(text)).map_err(|error| of_field(&error))
}

fn of_field(error: &serde_path_to_error::Error<serde_json::Error>) -> Failure {
    let (path, message) = (error.path().to_string(), describe(error.inner()));
    let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split_once('`'));
    match missing {
        Some((name, _)) if path == "." => Failure::invalid(name, "is required"),
        Some((name, _)) => Failure::invalid(&format!("{path}.{name}"), "is required"),
        None if path == "." => Failure::invalid(WHOLE, message),
        None => Failure::invalid(&path, message),
    }
}

/// Where the first text with NUL stands.
fn nul_path(value: &Value) -> Option<String> {
    let below = |step: String, value: &Value| {
        let rest = nul_path(value)?;
        Some(if rest.is_empty() || rest.starts_with('[') { step + &rest } else { format!("{step}.{rest}") })
    };
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(items) => items.iter().enumerate().find_map(|(index, item)| below(format!("[{index}]"), item)),
        Value::Object(members) => members.iter().find_map(|(name, member)| {
            if name.contains('\0') { Some(name.replace('\0', "\u{fffd}")) } else { below(name.clone(), member) }
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// An id in the path.
///
/// # Errors
/// `invalid_request` naming it, when it is no UUID.
pub(crate) fn path_id<T: FromStr>(request: &HttpRequest, name: &str) -> Result<T, Failure> {
    request.match_info().query(name).parse().map_err(|_| Failure::invalid(name, "must be a UUID"))
}

/// A text in the path. actix leaves what stands for `/` and `%` encoded.
///
/// # Errors
/// `invalid_request` naming it, when it is no UTF-8.
pub(crate) fn path_text(request: &HttpRequest, name: &str) -> Result<String, Failure> {
    let text = percent_encoding::percent_decode_str(request.match_info().query(name));
    let text = text.decode_utf8().map_err(|_| Failure::invalid(name, "must be UTF-8"))?;
    Ok(text.into_owned())
}

/// The query, by name.
#[derive(Debug, Clone)]
pub(crate) struct Query(Vec<(String, String)>);

impl FromRequest for Query {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(Ok(Self::parse(request.query_string())))
    }
}

impl Query {
    fn parse(text: &str) -> Self {
        Self(url::form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// A value, where it is given.
    ///
    /// # Errors
    /// `invalid_request` naming it, when it is given twice or contains NUL.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Failure> {
        let mut values = self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(Failure::invalid(name, "must be given once")),
            (Some(value), None) if value.contains('\0') => Err(Failure::invalid(name, NUL)),
            (value, None) => Ok(value),
        }
    }

    /// A whole number in a range, where it is given.
    ///
    /// # Errors
    /// `invalid_request` naming it, when it is no such number.
    pub(crate) fn number(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, Failure> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        let number = text.parse().ok().filter(|number| range.contains(number));
        let wanted = || format!("must be a whole number from {} to {}", range.start(), range.end());
        number.map(Some).ok_or_else(|| Failure::invalid(name, wanted()))
    }

    /// How many items a page may have.
    ///
    /// # Errors
    /// As [`Query::number`].
    pub(crate) fn limit(&self, default: u32, max: u32) -> Result<u32, Failure> {
        let limit = self.number("limit", 1..=u64::from(max))?;
        Ok(limit.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(default))
    }

    /// An id, where it is given.
    ///
    /// # Errors
    /// `invalid_request` naming it, when it is none.
    pub(crate) fn id<T: FromStr>(&self, name: &str) -> Result<Option<T>, Failure> {
        let parsed = self.text(name)?.map(str::parse).transpose();
        parsed.map_err(|_| Failure::invalid(name, "must be a UUID"))
    }

    /// A moment, where it is given: RFC 3339, or a date alone.
    ///
    /// # Errors
    /// `invalid_request` naming it, when it is neither.
    pub(crate) fn moment(&self, name: &str, of_date: OfDate) -> Result<Option<Timestamp>, Failure> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        let moment = parse_moment(text, of_date).filter(|moment| (0..10_000).contains(&moment.year()));
        let moment = moment.ok_or_else(|| Failure::invalid(name, "must be a time or date of RFC 3339"))?;
        Ok(Some(moment.into()))
    }

    /// A position in a log.
    ///
    /// # Errors
    /// As [`Query::number`].
    pub(crate) fn seq(&self, name: &str) -> Result<Option<u64>, Failure> {
        self.number(name, 0..=SEQ_MAX)
    }
}

/// What a date without a time stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum OfDate {
    /// Its first millisecond in UTC.
    Begin,
    /// Its last one.
    End,
}

fn parse_moment(text: &str, of_date: OfDate) -> Option<DateTime<Utc>> {
    if let Ok(date) = text.parse::<NaiveDate>() {
        let begin = date.and_time(NaiveTime::MIN).and_utc();
        return match of_date {
            OfDate::Begin => Some(begin),
            OfDate::End => begin.checked_add_signed(TimeDelta::days(1) - TimeDelta::milliseconds(1)),
        };
    }
    // In a query that nobody encoded, the plus of an offset is a blank.
    let moment = DateTime::parse_from_rfc3339(&text.replace(' ', "+")).ok()?;
    Some(moment.with_timezone(&Utc))
}

/// A seq is a PostgreSQL `bigint`.
const SEQ_MAX: u64 = u64::MAX >> 1;

/// The address that counts against the limit on failed logins.
///
/// Each trusted proxy adds the address that it saw to `X-Forwarded-For`, so what the outermost one saw is that many
/// places from the end; everything before it is what the client claims.
pub(crate) fn client_address(request: &HttpRequest, trusted_proxies: usize) -> String {
    let peer = request.peer_addr().map(|address| address.ip());
    let address = match trusted_proxies {
        0 => peer,
        hops => forwarded_address(request.headers(), hops).or(peer),
    };
    address.map_or_else(|| "unknown".to_owned(), |address| address.to_canonical().to_string())
}

fn forwarded_address(headers: &HeaderMap, hops: usize) -> Option<IpAddr> {
    let lines: Vec<&str> = headers.get_all(header::X_FORWARDED_FOR).filter_map(|line| line.to_str().ok()).collect();
    let hop = lines.iter().rev().flat_map(|line| line.rsplit(',')).nth(hops.saturating_sub(1))?.trim();
    hop.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use entrenous_protocol::rest::{CreateConversation, Login};

    use super::*;

    fn refused<T: DeserializeOwned>(body: &str) -> (Code, Option<String>) {
        let failure = parse_body::<T>(body.as_bytes()).map(|_| ()).unwrap_err();
        (failure.code, failure.errors.into_iter().next().map(|error| error.field))
    }

    #[test]
    fn what_is_no_json_is_malformed() {
        let deep = format!("{}{}", r#"{"metadata":"#, "[".repeat(100_000));
        for bad in ["", "{", "{'a':1}", r#"{"a":1,}"#, "\u{feff}{}", &deep] {
            assert_eq!(refused::<Login>(bad).0, Code::Malformed, "{}", bad.chars().take(30).collect::<String>());
        }
        assert_eq!(parse_body::<Login>(b"{\"username\":\"\xff\"}").map(|_| ()).unwrap_err().code, Code::Malformed);
    }

    #[test]
    fn depth_and_huge_numbers_are_the_clients_fault() {
        let deep = format!(r#"{{"kind":"group","metadata":{{"a":{}{}}}}}"#, "[".repeat(50_000), "]".repeat(50_000));
        let (code, field) = refused::<CreateConversation>(&deep);
        assert_eq!(code, Code::Invalid);
        assert!(field.unwrap().starts_with("metadata.a[0]"));
        let all_deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
        assert_eq!(refused::<CreateConversation>(&all_deep).0, Code::Invalid);
        let huge = r#"{"kind":"group","metadata":{"a":1e999}}"#;
        assert_eq!(refused::<CreateConversation>(huge), (Code::Invalid, Some("metadata.a".to_owned())));
        assert_eq!(refused::<CreateConversation>(r#"{"kind":1e30}"#).0, Code::Invalid);
    }

    #[test]
    fn what_does_not_validate_is_named() {
        for (body, field) in [
            ("[]", "body"),
            ("null", "body"),
            ("{}", "username"),
            (r#"{"username":3}"#, "username"),
            (r#"{"username":"\ud800"}"#, "username"),
            (r#"{"username":"a","password":"b","device":{}}"#, "device.name"),
            (r#"{"username":"a","password":"b","device":{"name":"c","id":"x"}}"#, "device.id"),
            (r#"{"username":"a\u0000","password":"b","device":{"name":"c"}}"#, "username"),
            (r#"{"username":"a","password":"b","device":{"name":"c","more":["\u0000"]}}"#, "device.more[0]"),
        ] {
            assert_eq!(refused::<Login>(body), (Code::Invalid, Some(field.to_owned())), "{body}");
        }
        let bad_member = r#"{"kind":"group","members":["x"]}"#;
        assert_eq!(refused::<CreateConversation>(bad_member).1.unwrap(), "members[0]");
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let body = br#"{"username":"a","password":"b","device":{"name":"c","x":1},"more":[{}]}"#;
        assert_eq!(parse_body::<Login>(body).unwrap().device.name, "c");
    }

    #[test]
    fn tokens_come_with_any_spelling_of_the_scheme() {
        let token = |value: &str| {
            let request = TestRequest::default().insert_header(("authorization", value)).to_http_request();
            bearer_token(request.headers()).map(str::to_owned)
        };
        assert_eq!(token("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(token("bearer  abc ").as_deref(), Some("abc"));
        for bad in ["Bearer", "Bearer ", "Basic abc", "abc"] {
            assert_eq!(token(bad), None, "{bad}");
        }
    }

    #[test]
    fn numbers_of_the_query_are_checked() {
        let query = Query::parse("limit=50&after=9223372036854775808&before=x&twice=1&twice=1&nul=%00");
        assert_eq!(query.limit(10, 100).unwrap(), 50);
        assert_eq!(query.limit(10, 49).unwrap_err().errors.first().unwrap().field, "limit");
        assert!(query.seq("after").is_err());
        assert!(query.seq("before").is_err());
        assert!(query.text("twice").is_err());
        assert!(query.text("nul").is_err());
        assert_eq!(query.seq("around").unwrap(), None);
        for bad in ["limit=0", "limit=-1", "limit=", "limit=1.5", "limit=99999999999999999999"] {
            assert!(Query::parse(bad).limit(10, 100).is_err(), "{bad}");
        }
    }

    #[test]
    fn moments_are_times_or_dates() {
        let moment = |text: &str, of_date| {
            let query = Query(vec![("from".to_owned(), text.to_owned())]);
            query.moment("from", of_date).map(|moment| moment.unwrap().to_string())
        };
        assert_eq!(moment("2026-11-20", OfDate::Begin).unwrap(), "2026-11-20T00:00:00.000Z");
        assert_eq!(moment("2026-11-20", OfDate::End).unwrap(), "2026-11-20T23:59:59.999Z");
        for same in ["2026-11-20T10:30:00+01:00", "2026-11-20T10:30:00 01:00", "2026-11-20T09:30:00Z"] {
            assert_eq!(moment(same, OfDate::End).unwrap(), "2026-11-20T09:30:00.000Z");
        }
        for bad in ["", "yesterday", "2026-13-01", "2026-11-20T10:30:00", "+262142-12-31", "1795000000"] {
            assert!(moment(bad, OfDate::End).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_what_trusted_proxies_saw_counts() {
        let request = TestRequest::default()
            .peer_addr("10.0.0.1:9".parse().unwrap())
            .append_header(("x-forwarded-for", "6.6.6.6, 1.1.1.1"))
            .append_header(("x-forwarded-for", "[2001:db8::1]:443"))
            .to_http_request();
        assert_eq!(client_address(&request, 0), "10.0.0.1");
        assert_eq!(client_address(&request, 1), "2001:db8::1");
        assert_eq!(client_address(&request, 2), "1.1.1.1");
        assert_eq!(client_address(&request, 9), "10.0.0.1");
    }
}
