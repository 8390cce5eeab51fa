//! The `process_*` series, read from `/proc`.

use procfs::process::{LimitValue, Process};
use procfs::{boot_time_secs, page_size, ticks_per_second};

use super::dictionary as series;
use super::metrics::Metrics;

/// Measures the process now. Blocks while it reads `/proc`; a figure that cannot be read keeps its value.
pub(crate) fn measure(metrics: &Metrics) {
    let Ok(process) = Process::myself() else { return };
    if let Ok(stat) = process.stat() {
        let ticks = ticks_per_second() as f64;
        metrics.set(series::CPU, (stat.utime + stat.stime) as f64 / ticks);
        metrics.set(series::RESIDENT, (stat.rss * page_size()) as f64);
        if let Ok(boot) = boot_time_secs() {
            metrics.set(series::START_TIME, boot as f64 + stat.starttime as f64 / ticks);
        }
    }
    if let Ok(open) = process.fd_count() {
        metrics.set(series::OPEN_FDS, open as f64);
    }
    if let Ok(limits) = process.limits() {
        metrics.set(
            series::MAX_FDS,
            match limits.max_open_files.soft_limit {
                LimitValue::Value(most) => most as f64,
                LimitValue::Unlimited => u64::MAX as f64,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_of_the_process_is_measured() {
        let metrics = Metrics::default();
        measure(&metrics);
        let text = metrics.render();
        for name in ["resident_memory_bytes", "open_fds", "max_fds", "start_time_seconds"] {
            let row = format!("process_{name} ");
            let value = text.lines().find_map(|line| line.strip_prefix(&row)).unwrap_or_default();
            assert!(value.parse::<f64>().is_ok_and(|value| value >= 1.0), "{name} is {value:?}");
        }
        assert!(text.contains("# TYPE process_cpu_seconds_total counter\n"), "{text}");
    }
}
