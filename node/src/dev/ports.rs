//! Ports for the nodes of a local cluster.

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::LazyLock;

use clap::ValueEnum;
use parking_lot::Mutex;
use rand::Rng;

/// How the nodes of a new folder get their ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Ports {
    /// Node i gets the embedded defaults + 100*(i-1).
    Fixed,
    /// Each node gets free ports.
    Auto,
}

/// Below the range for outgoing connections, so that a node which is down for a while finds its ports
/// free when it starts again.
const RANGE: Range<u16> = 11_000..30_000;
/// Random draws before giving up.
const DRAWS: usize = 2_000;

/// Ports that this process has returned before: the port of a node that is down stays reserved for it.
static RESERVED: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// Free loopback ports, all different and none twice in one process; below the range for outgoing
/// connections where possible. They are bound until all are found, then released: another process may take
/// one before its node does, and that node then fails to start.
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
            && RESERVED.lock().insert(port)
        {
            held.push(listener);
        }
    }
    // The range is crowded: any port of the system.
    while held.len() < count {
        held.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
    }
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_are_distinct_and_can_be_bound() {
        let ports = free(60).unwrap();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), 60);
        TcpListener::bind((Ipv4Addr::LOCALHOST, ports[0])).unwrap();
    }
}
