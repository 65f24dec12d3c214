//! Errors as `application/problem+json`. Source: RFC 9457.

use actix_web::{
    HttpResponse, ResponseError,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
};
use entrenous_protocol::{Code, Failure};

/// Seconds to wait where a service that is away did not say.
const UNAVAILABLE_RETRY_SECONDS: u64 = 1;
/// Seconds to wait where whoever counts attempts did not say.
const RATE_LIMITED_RETRY_SECONDS: u64 = 60;

/// A failure as the answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub(crate) struct Problem(#[from] pub(crate) Failure);

impl Problem {
    /// The problem that goes with a bare status.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        let code = match status {
            StatusCode::UNAUTHORIZED => Code::Unauthenticated,
            StatusCode::FORBIDDEN => Code::Forbidden,
            StatusCode::NOT_FOUND => Code::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
            StatusCode::PAYLOAD_TOO_LARGE => Code::TooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedType,
            StatusCode::UNPROCESSABLE_ENTITY => Code::Invalid,
            StatusCode::TOO_MANY_REQUESTS => Code::RateLimited,
            StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
            other if other.is_client_error() => Code::Malformed,
            _ => Code::Internal,
        };
        Self(Failure::new(code, ""))
    }

    /// Whole seconds until trying again makes sense.
    fn retry_after_seconds(&self) -> Option<u64> {
        let told = self.0.retry_after_ms.map(|milliseconds| milliseconds.div_ceil(1_000));
        match self.0.code {
            Code::Unavailable => Some(told.unwrap_or(UNAVAILABLE_RETRY_SECONDS)),
            Code::RateLimited => Some(told.unwrap_or(RATE_LIMITED_RETRY_SECONDS)),
            _ => told,
        }
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.0.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        // Whatever a service told about a fault of ours, clients are told nothing.
        let body = if self.0.code == Code::Internal { Failure::internal().problem() } else { self.0.problem() };
        let mut response =
            HttpResponse::build(self.status_code()).content_type("application/problem+json").body(body.to_string());
        if self.status_code() == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_seconds() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;
    use serde_json::Value;

    use super::*;

    async fn answer(failure: Failure) -> (StatusCode, Vec<(String, String)>, Value) {
        let response = Problem(failure).error_response();
        let headers = response.headers().iter();
        let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        let status = response.status();
        (status, headers, serde_json::from_slice(&to_bytes(response.into_body()).await.unwrap()).unwrap())
    }

    fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
        headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    #[actix_web::test]
    async fn every_code_is_a_problem_of_its_status() {
        for code in Code::ALL {
            let (status, headers, body) = answer(Failure::new(*code, "why")).await;
            assert_eq!(status.as_u16(), code.status());
            assert_eq!(header(&headers, "content-type"), Some("application/problem+json"));
            assert_eq!(body["status"], code.status());
            assert_eq!(body["code"], code.as_str());
            assert_eq!(body["title"], code.title());
            assert_eq!(header(&headers, "www-authenticate"), (code.status() == 401).then_some("Bearer"), "{code:?}");
            let waits = matches!(code, Code::Unavailable | Code::RateLimited);
            assert_eq!(header(&headers, "retry-after").is_some(), waits, "{code:?}");
        }
    }

    #[actix_web::test]
    async fn waiting_is_told_in_whole_seconds_rounded_up() {
        let failure = Failure::new(Code::RateLimited, "").with_retry_after_ms(1_001);
        assert_eq!(header(&answer(failure).await.1, "retry-after"), Some("2"));
    }

    #[actix_web::test]
    async fn the_cause_of_a_fault_of_ours_is_not_told() {
        let (_, _, body) = answer(Failure::new(Code::Internal, "relation does not exist")).await;
        assert_eq!(body["detail"], "");
    }

    #[actix_web::test]
    async fn fields_are_named() {
        let (status, _, body) = answer(Failure::invalid("device.name", "is required")).await;
        assert_eq!(status, 422);
        assert_eq!(body["errors"][0]["field"], "device.name");
    }
}
