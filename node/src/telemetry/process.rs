//! The `process_*` series, read from `/proc`.

use metrics::Gauge;
use procfs::process::{LimitValue, Process};
use procfs::{boot_time_secs, page_size, ticks_per_second};

use super::dictionary as series;
use super::registry::Registry;

/// Handles of the process's figures.
#[derive(Debug)]
pub(super) struct ProcessMetrics {
    cpu: Gauge,
    resident: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
    start_time: Gauge,
}

impl ProcessMetrics {
    /// Creates the handles.
    pub(super) fn new(registry: &Registry) -> Self {
        ProcessMetrics {
            cpu: registry.gauge(&series::CPU),
            resident: registry.gauge(&series::RESIDENT),
            open_fds: registry.gauge(&series::OPEN_FDS),
            max_fds: registry.gauge(&series::MAX_FDS),
            start_time: registry.gauge(&series::START_TIME),
        }
    }

    /// Measures now. Blocks while it reads `/proc`; a figure that cannot be read keeps its value.
    pub(super) fn refresh(&self) {
        let Ok(process) = Process::myself() else { return };
        if let Ok(stat) = process.stat() {
            let ticks = ticks_per_second() as f64;
            self.cpu.set((stat.utime + stat.stime) as f64 / ticks);
            self.resident.set((stat.rss * page_size()) as f64);
            if let Ok(boot) = boot_time_secs() {
                self.start_time.set(boot as f64 + stat.starttime as f64 / ticks);
            }
        }
        if let Ok(open) = process.fd_count() {
            self.open_fds.set(open as f64);
        }
        if let Ok(limits) = process.limits() {
            self.max_fds.set(match limits.max_open_files.soft_limit {
                LimitValue::Value(most) => most as f64,
                LimitValue::Unlimited => u64::MAX as f64,
            });
        }
    }
}
