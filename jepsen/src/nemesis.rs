//! Faults of nodes.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::error::Error;

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    /// SIGKILL, and a restart afterwards.
    Kill,
    /// SIGSTOP, and SIGCONT afterwards.
    Pause,
    /// The node and the others do not reach each other; clients reach all of them.
    Cut,
}

/// Applies a fault to a node, counted from 0, for a while, then heals it.
///
/// # Errors
/// The fault could not be applied: the run proves nothing.
pub async fn strike(cluster: &mut Cluster, node: usize, fault: Fault, length: Duration) -> Result<(), Error> {
    match fault {
        Fault::Kill => {
            cluster.signal(node, Signal::SIGKILL)?;
            sleep(length).await;
            cluster.restart(node)
        }
        Fault::Pause => {
            cluster.signal(node, Signal::SIGSTOP)?;
            sleep(length).await;
            cluster.signal(node, Signal::SIGCONT)
        }
        Fault::Cut => {
            let net = cluster.net().ok_or(Error::NoNet)?;
            net.cut_off(&[node + 1]);
            sleep(length).await;
            net.heal();
            Ok(())
        }
    }
}
