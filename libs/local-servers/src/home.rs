//! The folder of one server: locked while it runs, readable by its owner alone.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{Read, Seek, SeekFrom},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::ServerError;

/// How much of a log is shown when a start fails.
const LAST_WORDS_BYTES: u64 = 2_000;

/// A log that is longer than this at a start is set aside, in place of the one set aside before.
const LOG_BYTES_MAX: u64 = 16 << 20;

/// A server's folder, held by this process.
#[derive(Debug)]
pub(crate) struct Home {
    directory: PathBuf,
    log: PathBuf,
    log_start: u64,
    /// The kernel gives it back when the process ends, however it ends.
    _lock: File,
}

impl Home {
    /// Makes the folder if need be, and takes its lock.
    pub(crate) fn open(directory: &Path, log_name: &str) -> Result<Self, ServerError> {
        create_private(directory)?;
        let directory = directory.canonicalize().map_err(ServerError::file("find", directory))?;
        let lock = lock(&directory)?;
        let log = directory.join(log_name);
        if length(&log) > LOG_BYTES_MAX {
            fs::rename(&log, log.with_extension("log.old")).map_err(ServerError::file("rename", &log))?;
        }
        Ok(Self { log_start: length(&log), directory, log, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// The end of what was logged since this start.
    pub(crate) fn last_words(&self) -> String {
        let from = self.log_start.max(length(&self.log).saturating_sub(LAST_WORDS_BYTES));
        let mut text = Vec::new();
        let read = File::open(&self.log).and_then(|mut file| {
            file.seek(SeekFrom::Start(from))?;
            file.read_to_end(&mut text)
        });
        match read {
            Ok(_) => String::from_utf8_lossy(&text).trim().to_owned(),
            Err(error) => format!("(no log: {error})"),
        }
    }

    /// Forgets earlier lines, so that a second attempt is not judged by the first one's words.
    pub(crate) fn start_new_attempt(&mut self) {
        self.log_start = length(&self.log);
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn lock(directory: &Path) -> Result<File, ServerError> {
    let path = directory.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(ServerError::file("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ServerError::HomeBusy { home: directory.to_owned() }),
        Err(TryLockError::Error(error)) => Err(ServerError::file("lock", &path)(error)),
    }
}

/// Makes a folder that its owner alone can enter; one that is there already is left as it is.
pub(crate) fn create_private(directory: &Path) -> Result<(), ServerError> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(ServerError::file("make", directory))
}

/// Writes a file that its owner alone can read; all of it or nothing.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), ServerError> {
    use std::io::Write;
    let draft = path.with_extension("draft");
    let written = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.and_then(|()| fs::rename(&draft, path)).map_err(ServerError::file("write", path))
}
