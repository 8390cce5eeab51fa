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
const MEASURE: Duration = Duration::from_millis(200);
/// Measurements above the mark from one round of disconnects to the next.
const SHED: u32 = 5;
/// Bytes of answers that a peer may leave unread while memory is short.
const UNREAD_MAX: usize = 8 << 20;

/// Measures this process's memory for as long as the node runs.
pub(super) async fn run(mark: Mark, memory: Arc<MemoryPressure>, sessions: Arc<SessionRegistry>) {
    let Some(mark) = mark_bytes(mark) else { return };
    let Ok(process) = Process::myself() else { return };
    let mut tick = interval(MEASURE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut measured_high = 0;
    loop {
        tick.tick().await;
        let Ok(statm) = process.statm() else { continue };
        let resident = statm.resident * page_size();
        let high = resident > mark;
        measured_high = if high { measured_high + 1 } else { 0 };
        if measured_high % SHED == 2 {
            shed(&sessions);
        }
        if memory.measured(resident, high) != high {
            if high {
                warn!(resident, mark, "memory is over limits.memory: the node accepts nothing new");
            } else {
                info!(resident, mark, "memory is below limits.memory again");
            }
        }
    }
}

/// Disconnects the peers that leave the most unread: above the mark that is what can be given up.
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
