//! What another process has used, from `/proc`; unknown on systems other than Linux.

/// Whether a process with this id exists.
pub(super) fn exists(pid: u32) -> bool {
    resident_kb(pid).is_some()
}

#[cfg(target_os = "linux")]
pub(super) use linux::{cpu_us, resident_kb};

#[cfg(target_os = "linux")]
mod linux {
    use procfs::process::Process;

    fn process(pid: u32) -> Option<Process> {
        Process::new(i32::try_from(pid).ok()?).ok()
    }

    /// CPU time that the process has used, in µs.
    pub(crate) fn cpu_us(pid: u32) -> Option<u64> {
        let stat = process(pid)?.stat().ok()?;
        Some((stat.utime + stat.stime) * 1_000_000 / procfs::ticks_per_second())
    }

    /// Resident memory of the process, in KiB.
    pub(crate) fn resident_kb(pid: u32) -> Option<u64> {
        process(pid)?.status().ok()?.vmrss
    }
}

/// CPU time that the process has used, in µs.
#[cfg(not(target_os = "linux"))]
pub(super) fn cpu_us(_: u32) -> Option<u64> {
    None
}

/// Resident memory of the process, in KiB.
#[cfg(not(target_os = "linux"))]
pub(super) fn resident_kb(_: u32) -> Option<u64> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_cpu_time_and_memory() {
        let me = std::process::id();
        let before = cpu_us(me).unwrap();
        let mut sum = 0u64;
        while cpu_us(me).unwrap() < before + 20_000 {
            sum = (0..100_000).fold(sum, u64::wrapping_add);
        }
        assert!(resident_kb(me).unwrap() > 500, "{sum}");
    }
}
