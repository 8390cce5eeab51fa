//! Measures the process's memory and disconnects peers that hold the most of it.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use limes_wire::Code;
use limes_wire::frame::GoAway;
use procfs::process::Process;
use procfs::{Current, Meminfo, page_size};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::config::Mark;
use crate::limits::memory::MemoryPressure;
use crate::router::message::SessionCommand;
use crate::router::registry::SessionRegistry;

/// The pause between two measurements.
const INTERVAL: Duration = Duration::from_millis(200);
/// Measurements above the mark from one round of disconnects to the next.
const SHED_INTERVAL: u32 = 5;
/// Bytes of answers that a peer may leave unread while memory is short.
const UNREAD_MAX: usize = 8 << 20;

/// Measures this process's memory against the mark.
#[derive(Clone)]
pub(super) struct MemoryWatch {
    /// In bytes.
    mark: u64,
    process: Arc<Process>,
    memory: Arc<MemoryPressure>,
    sessions: Arc<SessionRegistry>,
}

impl MemoryWatch {
    /// `None`: there is no mark, or this process's memory cannot be read.
    pub(super) fn new(
        mark: Mark,
        memory: &Arc<MemoryPressure>,
        sessions: &Arc<SessionRegistry>,
    ) -> Option<Self> {
        let mark = mark_bytes(mark)?;
        match Process::myself() {
            Ok(process) => {
                let (memory, sessions) = (memory.clone(), sessions.clone());
                Some(MemoryWatch { mark, process: Arc::new(process), memory, sessions })
            }
            Err(error) => {
                warn!(%error, "cannot read the memory of this process: limits.memory is not enforced");
                None
            }
        }
    }

    /// Measures for as long as the node runs.
    pub(super) async fn run(self) {
        let mark = self.mark;
        let mut tick = interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut measured_high = 0;
        loop {
            tick.tick().await;
            let Ok(statm) = self.process.statm() else { continue };
            let resident = statm.resident * page_size();
            let high = resident > mark;
            measured_high = if high { measured_high + 1 } else { 0 };
            if measured_high % SHED_INTERVAL == 2 {
                shed(&self.sessions);
            }
            if self.memory.measured(resident, high) != high {
                if high {
                    warn!(resident, mark, "memory is over limits.memory: the node accepts nothing new");
                } else {
                    info!(resident, mark, "memory is below limits.memory again");
                }
            }
        }
    }
}

/// Disconnects the peers that leave the most answers unread: they hold memory that can be freed at once.
fn shed(sessions: &SessionRegistry) {
    for (session, entry) in sessions.all() {
        let bytes = entry.handle.unwritten();
        if bytes > UNREAD_MAX {
            warn!(session, bytes, "memory is over limits.memory: disconnecting a peer with unread answers");
            let text = "this node is short of memory (limits.memory), and you do not read your answers";
            entry.handle.command_urgent(SessionCommand::Close(GoAway::new(Code::LIMIT, text)));
        }
    }
}

/// The mark in bytes; `None` if there is none.
fn mark_bytes(mark: Mark) -> Option<u64> {
    match mark {
        Mark::Unlimited => None,
        Mark::At(size) => Some(size.get()),
        Mark::Auto => {
            let machine = Meminfo::current().ok()?.mem_total;
            // cgroup v2; in a container this is its own limit.
            let group = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
            let group: Option<u64> = group.and_then(|text| text.trim().parse().ok());
            Some(group.map_or(machine, |group| machine.min(group)) / 4 * 3)
        }
    }
}
