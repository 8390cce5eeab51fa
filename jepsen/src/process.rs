//! Other processes, from `/proc`; unknown on systems other than Linux.

#[cfg(target_os = "linux")]
pub(crate) use linux::{cpu_seconds, socket_owner};

#[cfg(target_os = "linux")]
mod linux {
    use std::net::{Ipv4Addr, SocketAddr};

    use procfs::process::{FDTarget, Process};

    /// CPU time that a process has used so far, in seconds.
    pub(crate) fn cpu_seconds(pid: u32) -> Option<f64> {
        let stat = process(pid)?.stat().ok()?;
        Some((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64)
    }

    /// Which of these processes, each with a number, holds the loopback socket with this local port.
    pub(crate) fn socket_owner(port: u16, processes: &[(usize, u32)]) -> Option<usize> {
        if processes.is_empty() {
            return None;
        }
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let sockets = procfs::net::tcp().ok()?;
        let inodes: Vec<u64> = sockets
            .iter()
            .filter(|socket| socket.local_address == local)
            .map(|socket| socket.inode)
            .collect();
        processes.iter().find(|(_, pid)| holds_socket(*pid, &inodes)).map(|(number, _)| *number)
    }

    fn holds_socket(pid: u32, inodes: &[u64]) -> bool {
        let Some(files) = process(pid).and_then(|process| process.fd().ok()) else { return false };
        files.flatten().any(|file| matches!(file.target, FDTarget::Socket(inode) if inodes.contains(&inode)))
    }

    fn process(pid: u32) -> Option<Process> {
        Process::new(i32::try_from(pid).ok()?).ok()
    }
}

/// CPU time that a process has used so far, in seconds.
#[cfg(not(target_os = "linux"))]
pub(crate) fn cpu_seconds(_: u32) -> Option<f64> {
    None
}

/// Which of these processes, each with a number, holds the loopback socket with this local port.
#[cfg(not(target_os = "linux"))]
pub(crate) fn socket_owner(_: u16, _: &[(usize, u32)]) -> Option<usize> {
    None
}
