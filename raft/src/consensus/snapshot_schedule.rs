//! When this member takes snapshots.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::member::Member;
use crate::config::SNAPSHOT_LOG_BYTES;
use crate::storage::snapshot;

/// How often the growth of the log is checked.
const INTERVAL: Duration = Duration::from_secs(2);

/// Takes a snapshot when the log has grown enough since the last one. The limits of the nodes differ a
/// little, so that not all of them write snapshots at the same time. Ends when the member leaves.
pub(crate) async fn run(member: Arc<Member>) {
    let mut tick = interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let offset = (member.identity.node % 4) * (SNAPSHOT_LOG_BYTES / 8);
    // The entries found at the start count: otherwise a node that restarts often would never take one.
    let at_start = member.log.entry_bytes();
    let mut covered = 0;
    loop {
        tokio::select! {
            () = member.leaving.cancelled() => return,
            _ = tick.tick() => {}
        }
        let size = std::fs::metadata(member.state.dir.join(snapshot::NAME)).map_or(0, |file| file.len());
        let written = at_start + member.log.appended_bytes();
        if written - covered > SNAPSHOT_LOG_BYTES.max(size * 2) + offset {
            covered = written;
            if let Err(error) = member.raft.trigger().snapshot().await {
                warn!(%error, "cannot take a snapshot");
            }
        }
    }
}
