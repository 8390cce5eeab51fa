//! The memory high-water mark: above it the node accepts nothing new (PROTOCOL 9.2, `limits.memory`).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Whether the process holds more memory than `limits.memory`; the server's memory watch updates it.
#[derive(Debug, Default)]
pub(crate) struct MemoryPressure {
    high: AtomicBool,
    resident: AtomicU64,
}

impl MemoryPressure {
    /// Whether the node accepts nothing new now.
    pub(crate) fn is_high(&self) -> bool {
        self.high.load(Ordering::Relaxed)
    }

    /// Resident memory at the last measurement, in bytes; 0 where it cannot be read.
    pub(crate) fn resident(&self) -> u64 {
        self.resident.load(Ordering::Relaxed)
    }

    /// Why new peers and requests are refused; `None` while memory is below the mark.
    pub(crate) fn refusal(&self) -> Option<String> {
        let kib = self.resident() >> 10;
        self.is_high().then(|| format!("this node holds {kib} KiB, more than its mark (limits.memory)"))
    }

    /// Records a measurement, in bytes; returns whether memory was over the mark before.
    pub(crate) fn measured(&self, resident: u64, high: bool) -> bool {
        self.resident.store(resident, Ordering::Relaxed);
        self.high.swap(high, Ordering::Relaxed)
    }
}
