//! Secrets of this machine, made once.

use std::collections::BTreeMap;

use anyhow::Context;
use base64::{Engine, prelude::BASE64_STANDARD};
use entrenous_local_servers::permissions::Service;

const KEY_BYTES: usize = 32;

/// Secrets by name; one that is missing is made when it is asked for.
#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct Secrets(BTreeMap<String, String>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{} secrets]", self.0.len())
    }
}

impl Secrets {
    /// 32 random bytes in base64.
    pub(crate) fn key(&mut self, name: &str) -> anyhow::Result<String> {
        self.get_or_make(name, || Ok(BASE64_STANDARD.encode(random::<KEY_BYTES>()?)))
    }

    /// A password of letters and digits, fit for addresses and configuration files.
    pub(crate) fn password(&mut self, name: &str) -> anyhow::Result<String> {
        self.get_or_make(name, || {
            // A letter first: nobody takes it for a number.
            Ok(format!("p{:032x}", u128::from_be_bytes(random()?)))
        })
    }

    /// The password of a service on NATS.
    pub(crate) fn nats_password(&mut self, service: Service) -> anyhow::Result<String> {
        self.password(&service.password_variable())
    }

    fn get_or_make(&mut self, name: &str, make: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<String> {
        if let Some(secret) = self.0.get(name) {
            return Ok(secret.clone());
        }
        let secret = make()?;
        self.0.insert(name.to_owned(), secret.clone());
        Ok(secret)
    }
}

fn random<const BYTES: usize>() -> anyhow::Result<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    aws_lc_rs::rand::fill(&mut bytes).ok().context("the system gives no randomness")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_made_once() {
        let mut secrets = Secrets::default();
        let key = secrets.key("KEY").unwrap();
        assert_eq!(secrets.key("KEY").unwrap(), key);
        assert_ne!(secrets.key("OTHER").unwrap(), key);
        assert_eq!(BASE64_STANDARD.decode(&key).unwrap().len(), 32);
        assert!(!format!("{secrets:?}").contains(&key));
    }

    #[test]
    fn passwords_need_no_quoting() {
        let password = Secrets::default().password("DATABASE").unwrap();
        assert!(password.starts_with('p') && password.chars().all(|c| c.is_ascii_alphanumeric()), "{password}");
        assert_eq!(password.len(), 33);
    }
}
