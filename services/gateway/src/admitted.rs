//! Logins of an outside issuer that identity knows, so that not every request asks it.

use std::sync::{PoisonError, RwLock};

use ahash::AHashMap;
use entrenous_auth::Claims;
use entrenous_model::LoginId;
use entrenous_protocol::rest::UserRole;

/// Logins remembered: about 200 bytes each. Above, all are forgotten and asked for anew.
const LOGINS_MAX: usize = 100_000;

/// Logins by id, with what identity was told of them. User and device are part of the id.
#[derive(Debug, Default)]
pub(crate) struct Admitted(RwLock<AHashMap<LoginId, (String, UserRole)>>);

impl Admitted {
    /// Whether identity was told what this token says. Another name or role is news to it.
    pub(crate) fn contains(&self, claims: &Claims) -> bool {
        let logins = self.0.read().unwrap_or_else(PoisonError::into_inner);
        logins.get(&claims.sid).is_some_and(|(username, role)| *username == claims.username && *role == claims.role)
    }

    /// Identity knows this login.
    pub(crate) fn insert(&self, claims: &Claims) {
        let mut logins = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if logins.len() >= LOGINS_MAX {
            logins.clear();
        }
        logins.insert(claims.sid, (claims.username.clone(), claims.role));
    }

    /// These have ended.
    pub(crate) fn forget(&self, ended: &[LoginId]) {
        let mut logins = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for login in ended {
            logins.remove(login);
        }
    }
}
