//! The keys that sign access tokens, opened and at hand.

use std::sync::{Arc, PoisonError, RwLock};

use entrenous_auth::{SignKeyError, Signer};
use entrenous_db::{Database, DbError};
use entrenous_model::Timestamp;
use serde_json::{Value, json};

use crate::{
    domain::{
        rotation::{Rotation, signing_at},
        secrets::{Secrets, SecretsError},
    },
    store::signing_keys::{self, SigningKeyRow},
};

/// The keys cannot be looked after.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyringError {
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] DbError),
    /// A key cannot be sealed, or not be opened: the secret is another one than it was.
    #[error("signing key {key_id} cannot be used")]
    Secrets {
        /// Which.
        key_id: String,
        /// Why.
        source: SecretsError,
    },
    /// A key cannot be made or read.
    #[error(transparent)]
    Key(#[from] SignKeyError),
}

impl KeyringError {
    /// Whether it may pass by itself.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Store(_) => true,
            Self::Secrets { .. } | Self::Key(_) => false,
        }
    }
}

#[derive(Debug, Clone)]
struct Key {
    signer: Arc<Signer>,
    signs_from: Timestamp,
}

/// The keys of this replica. All replicas read the same table.
#[derive(Debug)]
pub(crate) struct Keyring {
    keys: RwLock<Vec<Key>>,
    rotation: Rotation,
}

impl Keyring {
    /// No keys yet.
    pub(crate) fn new(rotation: Rotation) -> Self {
        Self { keys: RwLock::default(), rotation }
    }

    /// The key that signs now; none before the first [`Keyring::maintain`].
    pub(crate) fn signer(&self, now: Timestamp) -> Option<Arc<Signer>> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        signing_at(&keys, |key| key.signs_from, now).map(|key| Arc::clone(&key.signer))
    }

    /// Makes a key if it is time to, deletes what has had its day, and takes up what other replicas have made.
    pub(crate) async fn maintain(
        &self,
        database: &Database,
        secrets: &Secrets,
        now: Timestamp,
    ) -> Result<(), KeyringError> {
        let mut connection = database.get().await?;
        let mut rows = signing_keys::list(&mut connection, now).await.map_err(DbError::from)?;
        if self.rotation.due(signing_keys::newest_created_at(&rows), now).is_some() {
            let key = generate(secrets, now)?;
            let key_id = key.key_id.clone();
            if signing_keys::add_if_due(&mut connection, key, &self.rotation, now).await.map_err(DbError::from)? {
                tracing::info!(key_id, "made a signing key");
            }
            rows = signing_keys::list(&mut connection, now).await.map_err(DbError::from)?;
        }
        signing_keys::delete_expired(&mut connection, now).await.map_err(DbError::from)?;
        drop(connection);
        let keys = rows.iter().map(|row| open(secrets, row)).collect::<Result<Vec<_>, _>>()?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }
}

fn generate(secrets: &Secrets, now: Timestamp) -> Result<SigningKeyRow, KeyringError> {
    let (signer, private_key) = Signer::generate()?;
    let key_id = signer.key_id().to_owned();
    let private_key_sealed = secrets
        .seal(&key_id, &private_key)
        .map_err(|source| KeyringError::Secrets { key_id: key_id.clone(), source })?;
    let public_key = signer.public_key().to_vec();
    let now = now.as_datetime();
    Ok(SigningKeyRow { key_id, public_key, private_key_sealed, created_at: now, signs_from: now })
}

fn open(secrets: &Secrets, row: &SigningKeyRow) -> Result<Key, KeyringError> {
    let private_key = secrets
        .open(&row.key_id, &row.private_key_sealed)
        .map_err(|source| KeyringError::Secrets { key_id: row.key_id.clone(), source })?;
    Ok(Key { signer: Arc::new(Signer::from_pkcs8(&private_key)?), signs_from: row.signs_from.into() })
}

/// The public halves. Source: RFC 7517 5.
pub(crate) fn jwks(rows: &[SigningKeyRow]) -> Value {
    let keys: Vec<Value> = rows.iter().map(|row| Signer::jwk_of(&row.public_key)).collect();
    json!({ "keys": keys })
}
