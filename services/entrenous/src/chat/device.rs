//! Which device this client is: remembered for each server and user, so that no login adds one.
//!
//! A device has one live connection. Who talks in two terminals at once therefore is two devices: each terminal takes
//! the first slot that no other one holds.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use anyhow::Context;
use entrenous_client::Url;
use entrenous_model::DeviceId;

/// Terminals of one person on one machine. Well below the 20 devices that a user may have.
const SLOTS_MAX: u32 = 8;

/// A remembered device, held by this process alone.
#[derive(Debug)]
pub(super) struct DeviceSlot {
    file: File,
    device_id: Option<DeviceId>,
}

impl DeviceSlot {
    /// Takes the first free slot.
    pub(super) fn take(folder: &Path, server: &Url, user: &str) -> anyhow::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        for number in 1..=SLOTS_MAX {
            let path = folder.join(slot_name(server, user, number));
            let file = OpenOptions::new()
                .create(true)
                .read(true)
                .write(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
                .with_context(|| format!("cannot open {}", path.display()))?;
            match file.try_lock() {
                Ok(()) => return Self::read(file).with_context(|| format!("cannot read {}", path.display())),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
        }
        anyhow::bail!("{user} already talks in {SLOTS_MAX} terminals on this machine")
    }

    fn read(mut file: File) -> std::io::Result<Self> {
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // What is no id (a write that was cut off) counts as nothing.
        Ok(Self { file, device_id: text.trim().parse().ok() })
    }

    /// The device used last time.
    pub(super) fn device_id(&self) -> Option<DeviceId> {
        self.device_id
    }

    /// Remembers the device for the next time.
    pub(super) fn remember(&mut self, device_id: DeviceId) -> anyhow::Result<()> {
        if self.device_id == Some(device_id) {
            return Ok(());
        }
        self.file.rewind()?;
        self.file.set_len(0)?;
        writeln!(self.file, "{device_id}").context("cannot remember the device")?;
        self.device_id = Some(device_id);
        Ok(())
    }
}

fn slot_name(server: &Url, user: &str, number: u32) -> String {
    let plain = |text: &str| -> String {
        text.chars().map(|char| if char.is_ascii_alphanumeric() { char.to_ascii_lowercase() } else { '_' }).collect()
    };
    // Names that differ only in dots and dashes must not meet: their lengths and bytes are told apart by a sum.
    let sum = user.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.to_ascii_lowercase().into()));
    format!("{}-{}-{sum:08x}-{number}", plain(server.as_str()), plain(user))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_remembered_and_held_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let server: Url = "http://127.0.0.1:8080".parse().unwrap();
        let first: DeviceId = "01900000-0000-7000-8000-000000000001".parse().unwrap();
        let second: DeviceId = "01900000-0000-7000-8000-000000000002".parse().unwrap();
        let take = |user: &str| DeviceSlot::take(folder.path(), &server, user).unwrap();
        let (mut one, mut two) = (take("alice"), take("alice"));
        assert_eq!((one.device_id(), two.device_id()), (None, None));
        one.remember(first).unwrap();
        two.remember(second).unwrap();
        drop((one, two));
        let again = take("alice");
        assert_eq!(again.device_id(), Some(first));
        assert_eq!(take("alice").device_id(), Some(second));
        assert_eq!(take("a.lice").device_id(), None);
        assert_eq!(take("a_lice").device_id(), None);
    }
}
