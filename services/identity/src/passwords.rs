//! Password hashes: argon2id on a bounded number of blocking threads.
//!
//! Parameters: m = 19 MiB, t = 2, p = 1 unless set higher. Source: OWASP Password Storage Cheat Sheet; RFC 9106 4.

use std::{fmt, sync::Arc};

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{self, PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A password was neither hashed nor compared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PasswordError {
    /// As many as allowed are waiting already.
    #[error("too many passwords are waiting")]
    Busy,
    /// The hash cannot be computed or read.
    #[error("password hash failed")]
    Hash(#[source] password_hash::Error),
    /// The thread ended by itself.
    #[error("password hash did not end")]
    Task(#[source] tokio::task::JoinError),
}

/// What a hash costs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HashCost {
    pub(crate) memory_kib: u32,
    pub(crate) iterations: u32,
}

impl HashCost {
    /// The parameters of argon2.
    pub(crate) fn params(self) -> argon2::Result<Params> {
        Params::new(self.memory_kib, self.iterations, 1, None)
    }
}

/// Whether a password was right.
#[derive(Debug)]
pub(crate) enum Verified {
    /// It was; with a new hash where the old one costs less than is asked for now.
    Right { new_hash: Option<String> },
    /// It was not, or there was nothing to compare with.
    Wrong,
}

/// Hashes and compares passwords. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Passwords {
    hasher: Hasher,
    /// Those under way.
    running: Arc<Semaphore>,
    /// Those under way and those that wait.
    admitted: Arc<Semaphore>,
}

#[derive(Clone)]
struct Hasher {
    params: Params,
    /// The hash that an unknown user's password is compared with, so that it takes as long.
    nobody: Arc<str>,
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").field("params", &self.hasher.params).finish_non_exhaustive()
    }
}

impl Passwords {
    /// At most `running_max` are hashed at once and `waiting_max` wait. Takes as long as one hash.
    pub(crate) fn new(cost: HashCost, running_max: usize, waiting_max: usize) -> Result<Self, PasswordError> {
        let params = cost.params().map_err(|error| PasswordError::Hash(error.into()))?;
        let nobody = hash(&params, "nobody has this password").map_err(PasswordError::Hash)?.into();
        Ok(Self {
            hasher: Hasher { params, nobody },
            running: Arc::new(Semaphore::new(running_max)),
            admitted: Arc::new(Semaphore::new(running_max.saturating_add(waiting_max).min(Semaphore::MAX_PERMITS))),
        })
    }

    /// The hash of a new password, in PHC form.
    pub(crate) async fn hash(&self, password: String) -> Result<String, PasswordError> {
        self.run(move |hasher| hash(&hasher.params, &password)).await
    }

    /// Whether a password is the one whose hash is kept. Takes as long where there is none.
    pub(crate) async fn verify(&self, password: String, kept: Option<String>) -> Result<Verified, PasswordError> {
        self.run(move |hasher| hasher.verify(&password, kept.as_deref())).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Hasher) -> password_hash::Result<T> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let permits = self.permits().await?;
        let hasher = self.hasher.clone();
        let task = tokio::task::spawn_blocking(move || {
            let result = work(&hasher);
            // Held by the thread, not by the caller, who may have gone.
            drop(permits);
            result
        });
        task.await.map_err(PasswordError::Task)?.map_err(PasswordError::Hash)
    }

    async fn permits(&self) -> Result<(OwnedSemaphorePermit, OwnedSemaphorePermit), PasswordError> {
        let admitted = Arc::clone(&self.admitted).try_acquire_owned().map_err(|_error| PasswordError::Busy)?;
        let running = Arc::clone(&self.running).acquire_owned().await.map_err(|_error| PasswordError::Busy)?;
        Ok((admitted, running))
    }
}

impl Hasher {
    fn verify(&self, password: &str, kept: Option<&str>) -> password_hash::Result<Verified> {
        let hash_kept = PasswordHash::new(kept.unwrap_or(&self.nobody))?;
        let is_right = match Argon2::default().verify_password(password.as_bytes(), &hash_kept) {
            Ok(()) => kept.is_some(),
            Err(password_hash::Error::PasswordInvalid) => false,
            Err(error) => return Err(error),
        };
        if !is_right {
            return Ok(Verified::Wrong);
        }
        let new_hash = self.is_outdated(&hash_kept).then(|| hash(&self.params, password)).transpose()?;
        Ok(Verified::Right { new_hash })
    }

    fn is_outdated(&self, kept: &PasswordHash) -> bool {
        let costs = |params: &Params| (params.m_cost(), params.t_cost());
        let (memory, iterations) = costs(&self.params);
        Params::try_from(kept).is_ok_and(|params| params.m_cost() < memory || params.t_cost() < iterations)
    }
}

fn hash(params: &Params, password: &str) -> password_hash::Result<String> {
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    let hash: PasswordHash = argon2.hash_password(password.as_bytes())?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: HashCost = HashCost { memory_kib: 64, iterations: 1 };

    fn is_right(verified: &Verified) -> bool {
        matches!(verified, Verified::Right { .. })
    }

    #[tokio::test]
    async fn only_the_right_password_is_right() {
        let passwords = Passwords::new(CHEAP, 1, 1).unwrap();
        let kept = passwords.hash("right".into()).await.unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{kept}");
        assert!(is_right(&passwords.verify("right".into(), Some(kept.clone())).await.unwrap()));
        assert!(!is_right(&passwords.verify("Right".into(), Some(kept)).await.unwrap()));
        assert!(!is_right(&passwords.verify("nobody has this password".into(), None).await.unwrap()));
    }

    #[tokio::test]
    async fn a_cheap_hash_is_renewed_and_a_dear_one_is_not() {
        let cheap = Passwords::new(CHEAP, 1, 1).unwrap();
        let dear = Passwords::new(HashCost { memory_kib: 128, iterations: 2 }, 1, 1).unwrap();
        let new_hash = |verified| match verified {
            Verified::Right { new_hash } => new_hash,
            Verified::Wrong => panic!("it was right"),
        };
        let kept = cheap.hash("right".into()).await.unwrap();
        let renewed = new_hash(dear.verify("right".into(), Some(kept)).await.unwrap()).unwrap();
        assert!(renewed.contains("m=128,t=2"), "{renewed}");
        assert_eq!(new_hash(dear.verify("right".into(), Some(renewed.clone())).await.unwrap()), None);
        assert_eq!(new_hash(cheap.verify("right".into(), Some(renewed)).await.unwrap()), None);
    }

    #[tokio::test]
    async fn a_full_queue_is_busy() {
        let passwords = Passwords::new(CHEAP, 1, 1).unwrap();
        let running = passwords.permits().await.unwrap();
        let waiting = tokio::spawn({
            let passwords = passwords.clone();
            async move { passwords.hash("one".into()).await }
        });
        while passwords.admitted.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(passwords.hash("two".into()).await, Err(PasswordError::Busy)));
        drop(running);
        assert!(waiting.await.unwrap().is_ok());
    }

    #[test]
    fn the_defaults_are_at_least_those_of_owasp() {
        let params = HashCost { memory_kib: 19_456, iterations: 2 }.params().unwrap();
        assert_eq!((params.m_cost(), params.t_cost(), params.p_cost()), (19 * 1_024, 2, 1));
    }
}
