//! The folder of one server of one test.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::Context;
use tempfile::TempDir;

const PREFIX: &str = "entrenous-test-";

/// Locked while its owner lives.
const OWNER: &str = "owner";

/// A folder that is removed when it is dropped; a folder whose owner was killed is removed by the next one's making.
#[derive(Debug)]
pub(crate) struct RunFolder {
    folder: TempDir,
    _owner: File,
}

impl RunFolder {
    pub(crate) fn make() -> anyhow::Result<Self> {
        let parent = std::env::temp_dir();
        sweep(&parent);
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent).context("cannot make a folder")?;
        // Locked before it gets its name: nobody finds it unlocked.
        let draft = folder.path().join("owner.draft");
        let owner = File::create(&draft)?;
        owner.lock()?;
        fs::rename(draft, folder.path().join(OWNER))?;
        Ok(Self { folder, _owner: owner })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes the folders of owners that were killed. What cannot be removed belongs to somebody else.
fn sweep(parent: &Path) {
    for folder in candidates(parent) {
        let is_abandoned = File::open(folder.join(OWNER)).is_ok_and(|owner| owner.try_lock().is_ok());
        if is_abandoned && let Err(error) = fs::remove_dir_all(&folder) {
            // Another test may be sweeping the same one.
            debug_assert!(error.kind() != std::io::ErrorKind::InvalidInput, "{error}");
        }
    }
}

fn candidates(parent: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX))
        .map(|entry| entry.path())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_abandoned_folders_are_swept() {
        let parent = tempfile::tempdir().unwrap();
        let (abandoned, alive) = (parent.path().join("entrenous-test-a"), parent.path().join("entrenous-test-b"));
        let foreign = parent.path().join("other");
        for folder in [&abandoned, &alive, &foreign] {
            fs::create_dir(folder).unwrap();
            File::create(folder.join(OWNER)).unwrap();
        }
        let owner = File::open(alive.join(OWNER)).unwrap();
        owner.lock().unwrap();
        sweep(parent.path());
        assert!(!abandoned.exists() && alive.exists() && foreign.exists());
    }
}
