//! The memory high-water mark: above it nothing new is taken (PROTOCOL 9.2, `limits.memory`).

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use limes_wire::Code;
use limes_wire::frame::GoAway;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::config::{Mark, Size};
use crate::node::Node;
use crate::router::message::{Failure, Mail};

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// PeekBackoff above the mark from one shedding to the next.
const SHED: u32 = 5;
/// Bytes of answers that a peer may let wait while memory is short.
const UNREAD_MAX: usize = 8 << 20;

/// Whether the process holds more than it should.
#[derive(Debug, Default)]
pub(crate) struct MemoryPressure {
    high: AtomicBool,
    resident_kb: AtomicU64,
}

impl MemoryPressure {
    /// Whether nothing new is taken now.
    pub(crate) fn is_high(&self) -> bool {
        self.high.load(Ordering::Relaxed)
    }

    /// Resident memory when it was last looked at, in bytes; 0 where it cannot be seen.
    pub(crate) fn resident(&self) -> u64 {
        self.resident_kb.load(Ordering::Relaxed) << 10
    }

    /// What whoever comes now is told; nothing if there is room.
    pub(crate) fn refusal(&self) -> Option<String> {
        let kb = self.resident_kb.load(Ordering::Relaxed);
        self.is_high().then(|| format!("this node holds {kb} KiB, more than its mark (limits.memory)"))
    }

    /// What a call or message is told.
    pub(crate) fn busy(&self) -> Option<Failure> {
        self.refusal().map(|text| Failure::not_run(Code::BUSY, text))
    }
}

/// PeekBackoff at this process's memory for as long as the node runs.
pub(crate) async fn watch(node: Arc<Node>) {
    let Some(mark_kb) = mark_kb(node.config.limits.memory) else { return };
    let mut tick = interval(LOOK);
    let mut high_looks = 0;
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Some(kb) = field_kb("/proc/self/status", "VmRSS:") else { continue };
        let pressure = &node.pressure;
        pressure.resident_kb.store(kb, Ordering::Relaxed);
        let high = kb > mark_kb;
        high_looks = if high { high_looks + 1 } else { 0 };
        if high_looks % SHED == 2 {
            shed(&node);
        }
        if pressure.high.swap(high, Ordering::Relaxed) != high {
            if high {
                warn!(resident_kb = kb, mark_kb, "memory is over limits.memory: nothing new is taken");
            } else {
                info!(resident_kb = kb, mark_kb, "memory is below limits.memory again");
            }
        }
    }
}

/// Ends the connections whose peers let the most wait unread: above the mark that is what can be given up.
fn shed(node: &Node) {
    for (no, entry) in node.sessions.all() {
        let bytes = entry.outbox.unwritten();
        if bytes > UNREAD_MAX {
            warn!(
                session = no,
                bytes, "memory is over limits.memory: a peer that does not take its answers is cut off"
            );
            let text = "this node is short of memory (limits.memory), and you do not take your answers";
            entry.outbox.push_urgent(Mail::Close(GoAway::new(Code::LIMIT, text)));
        }
    }
}

/// The mark in KiB; nothing if there is none.
fn mark_kb(mark: Mark) -> Option<u64> {
    match mark {
        Mark::Unlimited => None,
        Mark::At(size) => Some(size.get() >> 10),
        Mark::Auto => {
            let machine = field_kb("/proc/meminfo", "MemTotal:")?;
            let group = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
            let group = group.and_then(|text| text.trim().parse().ok()).map(Size::bytes);
            let most = group.map_or(machine, |group| machine.min(group.get() >> 10));
            Some(most / 4 * 3)
        }
    }
}

/// A figure of a file of the kernel's, in KiB.
fn field_kb(file: &str, field: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(field))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
