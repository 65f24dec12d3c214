//! Data folders of PostgreSQL that are made once and copied for each test.
//!
//! They are kept beside the test programs in the target folder, so `cargo clean` removes them too.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::UNIX_EPOCH,
};

use anyhow::Context;
use entrenous_local_servers::{Postgres, PostgresSpec};

/// Says what a template was made from.
const STAMP: &str = "stamp";

/// Copies the empty template into a home that does not exist yet.
pub(crate) async fn copy_empty(home: &Path) -> anyhow::Result<()> {
    let folder = templates()?.join("empty");
    copy(&folder, "", home, async || Ok(Postgres::create(&PostgresSpec::for_tests(&folder)).await?)).await
}

/// Copies the template of a schema into a home; it is made anew when the test program was built anew, as the migrations
/// are part of that.
pub(crate) async fn copy_schema(
    name: &str,
    home: &Path,
    migrate: impl AsyncFnOnce(String) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let program = std::env::current_exe()?;
    let program_name = program.file_name().context("the test program has no name")?.to_string_lossy().into_owned();
    let folder = templates()?.join(format!("{program_name}-{name}"));
    copy(&folder, &stamp_of(&program)?, home, async || {
        copy_empty(&folder).await?;
        let postgres = Postgres::start(&PostgresSpec::for_tests(&folder)).await?;
        migrate(postgres.url()).await.with_context(|| format!("cannot migrate {name}"))?;
        postgres.stop().await;
        Ok(())
    })
    .await
}

/// Makes the template if it is not the one that the stamp says, and copies it. One process makes it, others wait.
async fn copy(
    folder: &Path,
    stamp: &str,
    home: &Path,
    make: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let lock = File::create(folder.with_extension("lock"))?;
    lock.lock_shared()?;
    if !is_made(folder, stamp) {
        lock.unlock()?;
        lock.lock()?;
        if !is_made(folder, stamp) {
            if folder.exists() {
                fs::remove_dir_all(folder)?;
            }
            make().await?;
            fs::write(folder.join(STAMP), stamp)?;
        }
    }
    fs::create_dir_all(home)?;
    copy_folder(&folder.join("data"), &home.join("data"))
}

fn is_made(folder: &Path, stamp: &str) -> bool {
    fs::read_to_string(folder.join(STAMP)).is_ok_and(|made_from| made_from == stamp)
}

/// `cp` keeps owners and modes, and shares the blocks where the file system can.
fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    let output = Command::new("cp").arg("-a").arg(from).arg(to).output().context("cannot run cp")?;
    anyhow::ensure!(output.status.success(), "cannot copy the data: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn templates() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let folder = program.parent().context("the test program is nowhere")?.join("test-databases");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn stamp_of(program: &Path) -> anyhow::Result<String> {
    let metadata = fs::metadata(program)?;
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH)?;
    Ok(format!("{} {}", modified.as_nanos(), metadata.len()))
}
