//! The folder with everything that outlives a run: data, secrets, ports.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context;
use entrenous_local_servers::ports;

use super::secrets::Secrets;

const PORTS_FILE: &str = "ports.json";
/// Where the secrets are kept, by the names of their settings.
pub(crate) const SECRETS_FILE: &str = "secrets.json";

/// Stands in the lock file of a run that has been told to stop.
const STOPPING: &str = "stopping";

/// How long such a run may take to go.
const STOPPING_LIMIT: Duration = Duration::from_secs(60);

/// Between two looks whether it has gone.
const STOPPING_POLL: Duration = Duration::from_millis(50);

/// The folder, held by this process.
#[derive(Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
    ports: BTreeMap<String, u16>,
    handed_out: BTreeSet<u16>,
    secrets: Secrets,
    lock: File,
}

impl DataFolder {
    /// Makes the folder if need be, and keeps others out of it. One that is stopping is waited for.
    pub(crate) async fn open(path: &Path) -> anyhow::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot make the data folder {}", path.display()))?;
        let path = path.canonicalize()?;
        let lock = lock(&path).await?;
        let secrets = read(&path.join(SECRETS_FILE))?;
        anyhow::ensure!(
            secrets.is_some() || !path.join("postgresql/data").exists(),
            "{} has data, but its {SECRETS_FILE} is gone: put it back, or move the folder away to start anew",
            path.display()
        );
        let ports = read(&path.join(PORTS_FILE))?.unwrap_or_default();
        Ok(Self { ports, secrets: secrets.unwrap_or_default(), handed_out: BTreeSet::new(), path, lock })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Tells the next run that this one is about to go.
    pub(crate) fn note_stopping(&mut self) {
        if let Err(error) = write_holder(&mut self.lock, STOPPING) {
            tracing::warn!(%error, "the next run will not know that this one stops");
        }
    }

    /// A port for this name: the one of the last run if it is still free.
    pub(crate) fn port(&mut self, name: &str) -> anyhow::Result<u16> {
        let remembered = self.ports.get(name).copied().filter(|port| !self.handed_out.contains(port));
        let mut port = ports::prefer(remembered)?;
        while !self.handed_out.insert(port) {
            port = ports::pick()?;
        }
        self.ports.insert(name.to_owned(), port);
        Ok(port)
    }

    /// The secrets; new ones are kept by [`DataFolder::save`].
    pub(crate) fn secrets(&mut self) -> &mut Secrets {
        &mut self.secrets
    }

    /// Writes ports and secrets down.
    pub(crate) fn save(&self) -> anyhow::Result<()> {
        write_private(&self.path.join(SECRETS_FILE), &serde_json::to_vec_pretty(&self.secrets)?)?;
        write_private(&self.path.join(PORTS_FILE), &serde_json::to_vec_pretty(&self.ports)?)
    }
}

async fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join("lock");
    let open = || OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let mut file = open().with_context(|| format!("cannot write in {}", folder.display()))?;
    let deadline = Instant::now() + STOPPING_LIMIT;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the data folder"),
            Err(TryLockError::WouldBlock) => {}
        }
        let holder = fs::read_to_string(&path).unwrap_or_default();
        anyhow::ensure!(
            holder.contains(STOPPING) && Instant::now() < deadline,
            "{} is in use by another 'entrenous dev' (process {}): stop that one, or choose another folder with ENTRENOUS_DATA",
            folder.display(),
            holder.trim()
        );
        tokio::time::sleep(STOPPING_POLL).await;
    }
    write_holder(&mut file, "")?;
    Ok(file)
}

fn write_holder(file: &mut File, state: &str) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{} {state}", std::process::id())
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    match fs::read(path) {
        Ok(text) => {
            let value = serde_json::from_slice(&text);
            Ok(Some(value.with_context(|| format!("{} is damaged", path.display()))?))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes a file that its owner alone can read; all of it or nothing, also when the machine goes down.
pub(super) fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let draft = path.with_extension("draft");
    let written =
        OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&draft).and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        });
    written.and_then(|()| fs::rename(&draft, path)).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn ports_and_secrets_are_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut data = DataFolder::open(folder.path()).await.unwrap();
        let port = data.port("nats-server").unwrap();
        assert_ne!(data.port("postgresql").unwrap(), port);
        let secret = data.secrets().key("ENTRY_DIGEST_KEY").unwrap();
        data.save().unwrap();
        drop(data);

        let mut data = DataFolder::open(folder.path()).await.unwrap();
        assert_eq!(data.port("nats-server").unwrap(), port);
        assert_eq!(data.secrets().key("ENTRY_DIGEST_KEY").unwrap(), secret);
        let mode = fs::metadata(data.path().join(SECRETS_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_port_taken_meanwhile_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let mut data = DataFolder::open(folder.path()).await.unwrap();
        let port = data.port("nats-server").unwrap();
        data.save().unwrap();
        drop(data);
        let _listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        let mut data = DataFolder::open(folder.path()).await.unwrap();
        assert_ne!(data.port("nats-server").unwrap(), port);
    }

    #[tokio::test]
    async fn a_second_run_is_told_about_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let _data = DataFolder::open(folder.path()).await.unwrap();
        let error = DataFolder::open(folder.path()).await.unwrap_err().to_string();
        assert!(error.contains("in use") && error.contains(&std::process::id().to_string()), "{error}");
    }

    #[tokio::test]
    async fn data_without_their_secrets_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("postgresql/data")).unwrap();
        let error = DataFolder::open(folder.path()).await.unwrap_err().to_string();
        assert!(error.contains(SECRETS_FILE), "{error}");
    }

    #[tokio::test]
    async fn a_run_that_stops_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let mut data = DataFolder::open(folder.path()).await.unwrap();
        data.note_stopping();
        let (next, ()) = tokio::join!(DataFolder::open(folder.path()), async { drop(data) });
        next.unwrap();
    }
}
