//! Who runs PostgreSQL: it refuses to run as root.

use std::{
    fs,
    os::unix::fs::{MetadataExt, chown},
    path::Path,
    process::Command,
};

use crate::ServerError;

/// Users that PostgreSQL runs as when we are root, the first that exists.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// Another user than the present one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Who is to run the server over this data folder: none stands for the present user.
pub(crate) fn server_user(data: &Path) -> Result<Option<User>, ServerError> {
    let present = rustix::process::geteuid().as_raw();
    let owner = fs::metadata(data).ok().map(|data| User { uid: data.uid(), gid: data.gid() });
    match owner {
        Some(owner) if present == 0 && owner.uid != 0 => Ok(Some(owner)),
        Some(owner) if present != 0 && owner.uid != present => Err(ServerError::Owner { path: data.to_owned() }),
        _ if present != 0 => Ok(None),
        _ => USERS.into_iter().find_map(look_up).map(Some).ok_or(ServerError::NoUser),
    }
}

/// Gives the folder to the user.
pub(crate) fn hand_over(folder: &Path, user: Option<User>) -> Result<(), ServerError> {
    let Some(user) = user else { return Ok(()) };
    chown(folder, Some(user.uid), Some(user.gid)).map_err(ServerError::file("hand over", folder))
}

fn look_up(name: &str) -> Option<User> {
    Some(User { uid: id_number("-u", name)?, gid: id_number("-g", name)? })
}

fn id_number(what: &str, name: &str) -> Option<u32> {
    let output = Command::new("id").arg(what).arg(name).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
