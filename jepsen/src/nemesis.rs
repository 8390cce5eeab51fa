//! The faults.

use std::io;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::sleep;

use crate::cluster::Cluster;

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    /// `kill -9`, and back after a while.
    Kill,
    /// SIGSTOP, and SIGCONT after a while.
    Pause,
    /// The node and the others do not reach each other; clients reach all.
    Cut,
}

/// Does a fault to node `i` for a while, then heals it.
///
/// # Errors
/// The fault could not be done: the run proves nothing.
pub async fn strike(cluster: &mut Cluster, i: usize, fault: Fault, length: Duration) -> io::Result<()> {
    match fault {
        Fault::Kill => {
            cluster.signal(i, Signal::SIGKILL)?;
            sleep(length).await;
            cluster.restart(i)
        }
        Fault::Pause => {
            cluster.signal(i, Signal::SIGSTOP)?;
            sleep(length).await;
            cluster.signal(i, Signal::SIGCONT)
        }
        Fault::Cut => {
            let net =
                cluster.net().ok_or_else(|| io::Error::other("the cluster was started without a net"))?;
            net.cut_off(&[i + 1]);
            sleep(length).await;
            net.heal();
            Ok(())
        }
    }
}
