//! Reads a JSON Web Key Set from its issuer. Source: RFC 7517.

use std::time::Duration;

use entrenous_config::ConfigError;
use reqwest::{Client, StatusCode, redirect};
use serde_json::Value;
use url::{Host, Url};

/// How long the issuer may take, from the connection to the last byte.
const FETCH_MAX: Duration = Duration::from_secs(5);
/// Bytes of a set, at most.
const SET_BYTES_MAX: usize = 256 * 1024;

/// Where keys are read from.
#[derive(Debug)]
pub(super) struct Jwks {
    client: Client,
    url: Url,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// The issuer is away, too slow, or speaks no HTTP.
    #[error("the issuer cannot be asked: {0}")]
    Http(#[from] reqwest::Error),
    /// Not 200. Redirects are not followed: the address is trusted, not whoever it points to.
    #[error("the issuer answers {0}")]
    Status(StatusCode),
    /// Nobody has so many keys.
    #[error("the answer is larger than {SET_BYTES_MAX} bytes")]
    TooLarge,
    /// Not JSON.
    #[error("the answer is not JSON")]
    Json,
}

impl Jwks {
    /// # Errors
    /// When this machine has no certificates to trust.
    pub(super) fn new(url: Url) -> Result<Self, ConfigError> {
        let client = Client::builder().timeout(FETCH_MAX).redirect(redirect::Policy::none()).build();
        let client = client.map_err(|error| ConfigError::Value {
            name: "TOKEN_JWKS_URL",
            problem: format!("cannot be read on this machine: {error}"),
        })?;
        Ok(Self { client, url })
    }

    /// The set as it stands now.
    pub(super) async fn fetch(&self) -> Result<Value, FetchError> {
        let request = self.client.get(self.url.clone()).header("accept", "application/jwk-set+json, application/json");
        let mut response = request.send().await.map_err(reqwest::Error::without_url)?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
            if body.len() + chunk.len() > SET_BYTES_MAX {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).map_err(|_error| FetchError::Json)
    }
}

/// What is wrong with an address of keys. Whoever changes them on the way signs in as anybody: HTTPS, or this machine.
pub(crate) fn check_url(url: &Url) -> Result<(), &'static str> {
    let is_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not have a user or password: keys are public");
    }
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_here => Ok(()),
        _ => Err("must begin with https:// (http:// is for this machine alone)"),
    }
}
