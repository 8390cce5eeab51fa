//! Ports for the nodes of a local cluster.

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::{LazyLock, Mutex, PoisonError};

use clap::ValueEnum;
use rand::Rng;

/// Which ports the nodes of a new folder get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Ports {
    /// Those of the embedded defaults, + 100*(i-1).
    Fixed,
    /// Free ones.
    Auto,
}

/// Below what systems hand out to outgoing connections, so that a node which is down for a while
/// finds its port free when it comes back.
const RANGE: Range<u16> = 11_000..30_000;
/// Random draws before giving up.
const DRAWS: usize = 2_000;

/// What this process has found before: the port of a node that is down for a while is nobody else's.
static FOUND: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// Free loopback ports, all different and none twice in one process, where possible below what systems hand out to outgoing
/// connections. They are held until all are found, then let go: a process that takes one before its
/// node does makes that node fail to start.
///
/// # Errors
/// The system has no ports left.
pub fn free(count: usize) -> io::Result<Vec<u16>> {
    let mut held = Vec::with_capacity(count);
    let mut random = rand::rng();
    for _ in 0..DRAWS {
        if held.len() == count {
            break;
        }
        let port = random.random_range(RANGE);
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            && FOUND.lock().unwrap_or_else(PoisonError::into_inner).insert(port)
        {
            held.push(listener);
        }
    }
    // A crowded or odd system: whatever it has.
    while held.len() < count {
        held.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
    }
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ_and_can_be_bound() {
        let ports = free(60).unwrap();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), 60);
        TcpListener::bind((Ipv4Addr::LOCALHOST, ports[0])).unwrap();
    }
}
