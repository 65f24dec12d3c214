//! The database's disk is full: nothing is acknowledged that is not kept, what needs no disk goes on, and when there is
//! room again everything is as before.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::Command,
};

use entrenous_client::Target;
use entrenous_protocol::Code;
use entrenous_system_tests::{Cluster, Person};

use super::Scene;
use crate::support::{live, text};

/// A disk of this size: an empty database and little more.
const DISK_MIB: u32 = 220;
/// Longer than what is free in the pages of the tables.
const LONG: usize = 60_000;

/// A small disk; gone when dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    /// None where this user may not mount one.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={DISK_MIB}m,mode=1777");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()).output();
        mounted.is_ok_and(|mounted| mounted.status.success()).then_some(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all that is free.
    fn fill(&self) {
        let mut ballast = File::create(self.path().join("ballast")).unwrap();
        for bytes in [vec![0; 1024 * 1024], vec![0; 512]] {
            while ballast.write_all(&bytes).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.path().join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the server may still be about to end.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_and_forgets_nothing() {
    let Some(disk) = Disk::mount() else {
        drop(writeln!(std::io::stderr(), "NOT TESTED: a full disk, because this user may not mount a small one"));
        return;
    };
    let cluster = Cluster::start_in(disk.path()).await.unwrap();
    let mut scene = Scene::on(cluster, &[("SEND_DEADLINE_MS", "2000")]).await;
    let at_alice = live(&scene.alice).await;
    let target = Target::Conversation(scene.room);
    let mut stored = vec![at_alice.send_message(target, &text("before")).await.unwrap().seq];
    disk.fill();
    // What is free in tables and in the log of the database takes some more.
    let refused = loop {
        let message = text(&"x".repeat(LONG));
        match at_alice.send_message(target, &message).await {
            Ok(kept) => stored.push(kept.seq),
            Err(refusal) => {
                assert!(refusal.is(Code::Unavailable), "{refusal}");
                break message;
            }
        }
    };
    at_alice.handle().ping().await.unwrap();
    assert!(scene.near.is_ready().await, "a gateway is no worse for it");
    disk.make_room();
    let kept = loop {
        if !is_running(&scene) {
            // Where it could not even write its log.
            scene.cluster.postgres.restart().await.unwrap();
        }
        match at_alice.send_message(target, &refused).await {
            Ok(kept) => break kept,
            Err(refusal) => assert!(refusal.is(Code::Unavailable), "{refusal}"),
        }
    };
    stored.push(kept.seq);
    let mut seqs = Vec::new();
    while let Some(after) = seqs.last().copied().or(Some(1)).filter(|after| *after < kept.seq) {
        let page = scene.bob.api.log(scene.room, after, 500).await.unwrap();
        seqs.extend(page.items.iter().map(|entry| entry.seq));
    }
    assert_eq!(seqs, stored, "what was acknowledged, once and in order, and nothing else");
    let newcomer = Person::new(&scene.far.url(), "carol").await.unwrap();
    assert!(newcomer.api.me().await.is_ok());
}

fn is_running(scene: &Scene) -> bool {
    let pid = scene.cluster.postgres.pid();
    pid.is_some_and(|pid| Path::new("/proc").join(pid.to_string()).join("exe").exists())
}
