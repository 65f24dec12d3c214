//! Where the programs are.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use crate::ServerError;

const POSTGRES_MAJOR_MIN: u32 = 15;
const NATS_MIN: (u32, u32) = (2, 10);
const POSTGRES_ADVICE: &str = "run scripts/setup, or set ENTRENOUS_POSTGRES_BIN to the folder with initdb and postgres";
const NATS_ADVICE: &str = "run scripts/setup, or set NATS_SERVER to the path of nats-server";

/// Folders that hold one PostgreSQL per version: Debian's and Homebrew's.
const POSTGRES_FOLDERS: [&str; 3] = ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"];

/// Settings that say where to look first. Then come `PATH`, the system's folders, and the project's tool cache.
#[derive(Debug, Clone, Default)]
pub struct Tools {
    /// Folder with `initdb` and `postgres` (`ENTRENOUS_POSTGRES_BIN`).
    pub postgres_bin: Option<PathBuf>,
    /// Path of nats-server (`NATS_SERVER`).
    pub nats_server: Option<PathBuf>,
    /// The project's tool cache (`ENTRENOUS_TOOLS`), filled by `scripts/setup`.
    pub cache: Option<PathBuf>,
}

/// The programs of one PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PostgresTools {
    pub(crate) initdb: PathBuf,
    pub(crate) postgres: PathBuf,
    pub(crate) major: u32,
}

impl Tools {
    /// The settings of this machine. They belong to tools, not to services: there is no flag for them.
    pub fn from_environment() -> Self {
        let setting = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let caches = || {
            let caches = setting("XDG_CACHE_HOME").or_else(|| Some(setting("HOME")?.join(".cache")));
            Some(caches?.join("entrenous/tools"))
        };
        Self {
            postgres_bin: setting("ENTRENOUS_POSTGRES_BIN"),
            nats_server: setting("NATS_SERVER"),
            cache: setting("ENTRENOUS_TOOLS").or_else(caches),
        }
    }

    /// A PostgreSQL that is new enough, and of this major version if data ask for it.
    pub(crate) fn postgres(&self, major: Option<u32>) -> Result<PostgresTools, ServerError> {
        let tool = "PostgreSQL";
        let minimum = "15";
        if let Some(bin) = &self.postgres_bin {
            let there = || ServerError::NotThere { tool, setting: "ENTRENOUS_POSTGRES_BIN", path: bin.clone() };
            return is_new_enough(postgres_at(bin).ok_or_else(there)?);
        }
        let found: Vec<_> = self.postgres_folders().iter().filter_map(|bin| postgres_at(bin)).collect();
        let fits =
            |tools: &&PostgresTools| major.map_or(tools.major >= POSTGRES_MAJOR_MIN, |major| tools.major == major);
        match (found.iter().find(fits), found.first()) {
            (Some(tools), _) => Ok(tools.clone()),
            (None, Some(other)) => is_new_enough(other.clone()),
            (None, None) => Err(ServerError::NotFound { tool, minimum, advice: POSTGRES_ADVICE }),
        }
    }

    fn postgres_folders(&self) -> Vec<PathBuf> {
        let mut folders: Vec<_> =
            in_path("postgres").and_then(|path| Some(path.parent()?.to_owned())).into_iter().collect();
        folders.extend(POSTGRES_FOLDERS.iter().flat_map(|folder| versions_in(Path::new(folder))));
        folders.extend(self.cache.iter().map(|cache| cache.join("postgresql/bin")));
        folders
    }

    /// A nats-server that is new enough.
    pub(crate) fn nats_server(&self) -> Result<PathBuf, ServerError> {
        let tool = "nats-server";
        let minimum = "2.10";
        if let Some(path) = &self.nats_server {
            let there = || ServerError::NotThere { tool, setting: "NATS_SERVER", path: path.clone() };
            let version = nats_version(path).ok_or_else(there)?;
            return if version.0 >= NATS_MIN { Ok(path.clone()) } else { Err(too_old_nats(path.clone(), version.1)) };
        }
        let cached = self.cache.as_ref().map(|cache| cache.join("bin/nats-server"));
        let found: Vec<_> =
            in_path(tool).into_iter().chain(cached).filter_map(|path| Some((nats_version(&path)?, path))).collect();
        match (found.iter().find(|(version, _)| version.0 >= NATS_MIN), found.first()) {
            (Some((_, path)), _) => Ok(path.clone()),
            (None, Some((version, path))) => Err(too_old_nats(path.clone(), version.1.clone())),
            (None, None) => Err(ServerError::NotFound { tool, minimum, advice: NATS_ADVICE }),
        }
    }
}

fn is_new_enough(tools: PostgresTools) -> Result<PostgresTools, ServerError> {
    if tools.major >= POSTGRES_MAJOR_MIN {
        return Ok(tools);
    }
    let found = tools.major.to_string();
    Err(ServerError::TooOld { tool: "PostgreSQL", path: tools.postgres, found, minimum: "15", advice: POSTGRES_ADVICE })
}

fn too_old_nats(path: PathBuf, found: String) -> ServerError {
    ServerError::TooOld { tool: "nats-server", path, found, minimum: "2.10", advice: NATS_ADVICE }
}

/// The first program of this name in `PATH`.
pub(crate) fn in_path(name: &str) -> Option<PathBuf> {
    let path: OsString = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// The `bin` folders of the PostgreSQL versions in a folder, newest first.
fn versions_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut versions: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            let version = name.strip_prefix("postgresql@").unwrap_or(&name).parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, bin)| bin).collect()
}

fn postgres_at(bin: &Path) -> Option<PostgresTools> {
    let postgres = bin.join("postgres").canonicalize().ok()?;
    let initdb = postgres.with_file_name("initdb");
    let major = postgres_major(&version_line(&postgres)?)?;
    initdb.is_file().then_some(PostgresTools { initdb, postgres, major })
}

fn version_line(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    String::from_utf8(output.stdout).ok()
}

/// The major version in `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn postgres_major(line: &str) -> Option<u32> {
    let version = line.split_once("(PostgreSQL) ")?.1;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn nats_version(path: &Path) -> Option<((u32, u32), String)> {
    parse_nats_version(&version_line(path)?)
}

/// The version in `nats-server: v2.15.1`.
fn parse_nats_version(line: &str) -> Option<((u32, u32), String)> {
    let version = line.trim().rsplit_once('v')?.1;
    let mut numbers = version.split('.').map(str::parse);
    Some(((numbers.next()?.ok()?, numbers.next()?.ok()?), version.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(postgres_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(postgres_major("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(parse_nats_version("nats-server: v2.9.10\n"), Some(((2, 9), "2.9.10".to_owned())));
        assert_eq!(parse_nats_version("nats-server: v2.15.1-RC.1\n").unwrap().0, (2, 15));
        assert_eq!(parse_nats_version("something else"), None);
    }

    fn fake(folder: &Path, name: &str, line: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, format!("#!/bin/sh\necho '{line}'\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn an_old_server_is_refused_with_advice() {
        let folder = tempfile::tempdir().unwrap();
        let nats_server = fake(folder.path(), "nats-server", "nats-server: v2.9.10");
        fake(folder.path(), "postgres", "postgres (PostgreSQL) 14.3");
        fake(folder.path(), "initdb", "");
        let tools = Tools { nats_server: Some(nats_server), postgres_bin: Some(folder.path().to_owned()), cache: None };
        let error = tools.nats_server().unwrap_err().to_string();
        assert!(
            error.contains("2.9.10") && error.contains("2.10 or newer") && error.contains("NATS_SERVER"),
            "{error}"
        );
        let error = tools.postgres(None).unwrap_err().to_string();
        assert!(error.contains("14") && error.contains("15 or newer"), "{error}");
    }

    #[test]
    fn a_wrong_setting_is_named() {
        let tools = Tools { nats_server: Some("/nowhere/nats-server".into()), ..Tools::default() };
        let error = tools.nats_server().unwrap_err().to_string();
        assert!(error.contains("NATS_SERVER says /nowhere/nats-server"), "{error}");
    }
}
