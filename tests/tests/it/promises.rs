//! People talk in direct and group conversations, over WebSocket and REST, and members come and go, while something happens
//! to the servers. Afterwards the history of everything that they did and saw must keep every promise of docs/protocol.md,
//! section 3. `make chaos` does the same for longer.

mod killed;
mod updated;

use std::{fs::File, io::BufWriter, path::Path};

use entrenous_chaos::{Outcome, Talk};

/// Ends a talk and checks it. A history with fewer acknowledged messages and member changes would prove little.
async fn finish(talk: &mut Talk, acknowledged_min: usize, member_changes_min: usize) -> Outcome {
    let finished = talk.finish().await;
    let history = talk.history();
    let outcome = Outcome::of(&history);
    if finished.is_err() || !outcome.is_ok() {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("broken-promise.jsonl");
        history.write(BufWriter::new(File::create(&path).unwrap())).unwrap();
        panic!("{finished:?}, history in {}\n{outcome}", path.display());
    }
    let counts = outcome.report.counts;
    assert!(counts.acknowledged >= acknowledged_min && counts.member_changes >= member_changes_min, "{outcome}");
    assert_eq!(counts.settled, talk.world().devices(), "{outcome}");
    assert!(counts.unread_read >= talk.world().devices(), "{outcome}");
    outcome
}
