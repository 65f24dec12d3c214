//! `processes.json`: what runs now, for people and for tests that kill things.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::data::write_private;

/// Its name in the data folder.
pub(crate) const FILE: &str = "processes.json";

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) pid: u32,
    pub(crate) port: u16,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct List {
    processes: Vec<Entry>,
}

/// The list, written down at every change.
#[derive(Debug)]
pub(crate) struct Processes {
    path: PathBuf,
    entries: Mutex<BTreeMap<String, Entry>>,
}

impl Processes {
    /// An empty list.
    pub(crate) fn start(folder: &Path) -> anyhow::Result<Self> {
        let processes = Self { path: folder.join(FILE), entries: Mutex::default() };
        processes.write(&BTreeMap::new())?;
        Ok(processes)
    }

    /// A process was started, in the place of the one of the same name.
    pub(crate) fn set(&self, name: &str, pid: u32, port: u16) {
        let entry = Entry { name: name.to_owned(), pid, port };
        self.change(|entries| {
            entries.insert(name.to_owned(), entry);
        });
    }

    /// A process has ended.
    pub(crate) fn remove(&self, name: &str) {
        self.change(|entries| {
            entries.remove(name);
        });
    }

    /// Everything has ended.
    pub(crate) fn clear(&self) {
        self.change(BTreeMap::clear);
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Entry>)) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut entries);
        if let Err(error) = self.write(&entries) {
            tracing::warn!(error = format!("{error:#}"), "the list of processes is not up to date");
        }
    }

    fn write(&self, entries: &BTreeMap<String, Entry>) -> anyhow::Result<()> {
        let list = List { processes: entries.values().cloned().collect() };
        write_private(&self.path, &serde_json::to_vec_pretty(&list)?)
    }
}

/// The list of an earlier run, empty if there is none.
pub(crate) fn read(folder: &Path) -> Vec<Entry> {
    let text = fs::read(folder.join(FILE)).unwrap_or_default();
    serde_json::from_slice::<List>(&text).unwrap_or_default().processes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_written_down() {
        let folder = tempfile::tempdir().unwrap();
        let processes = Processes::start(folder.path()).unwrap();
        assert!(read(folder.path()).is_empty());
        processes.set("gateway-1", 7, 8080);
        processes.set("postgresql", 8, 20_000);
        processes.set("gateway-1", 9, 8080);
        let names: Vec<_> = read(folder.path()).into_iter().map(|entry| (entry.name, entry.pid)).collect();
        assert_eq!(names, [("gateway-1".to_owned(), 9), ("postgresql".to_owned(), 8)]);
        processes.remove("gateway-1");
        assert_eq!(read(folder.path()).len(), 1);
        processes.clear();
        assert!(read(folder.path()).is_empty());
    }

    #[test]
    fn its_form_is_fixed() {
        let folder = tempfile::tempdir().unwrap();
        Processes::start(folder.path()).unwrap().set("gateway-1", 7, 8080);
        let text = fs::read_to_string(folder.path().join(FILE)).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value, serde_json::json!({"processes": [{"name": "gateway-1", "pid": 7, "port": 8080}]}));
    }

    #[test]
    fn a_damaged_list_is_no_list() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(read(folder.path()).is_empty());
    }
}
