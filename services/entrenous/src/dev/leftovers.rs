//! Services that outlived an earlier run: where the kernel does not end them with their starter.

use entrenous_local_servers::stop_leftover;

use super::{data::DataFolder, processes};

/// Ends those of the last run's processes that are still there and were started by it.
///
/// PostgreSQL and nats-server have an own look at what they find; numbers that belong to strangers by now are not touched.
pub(crate) async fn stop(data: &DataFolder) {
    for entry in processes::read(data.path()) {
        if !stop_leftover(entry.pid, data.path()).await {
            tracing::warn!(name = entry.name, pid = entry.pid, "a process of the last run cannot be stopped");
        }
    }
}
