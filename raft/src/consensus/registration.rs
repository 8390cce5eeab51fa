//! Registration: keeps this process up in the tables.

use std::sync::Arc;
use std::time::Duration;

use limes_routing::{Event, NodeAddrs, Reason, Verdict};
use tokio::time::{sleep, timeout};
use tracing::{error, warn};

use super::member::Member;
use super::propose::propose_unnumbered;
use crate::config::LEVELS;

/// Pause before the next attempt, and how long an accepted registration may take to show in the tables.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest pause after rejections.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Registers this process in the tables: at the start, and again whenever it was fenced. Ends when the member
/// leaves.
pub(crate) async fn run(member: Arc<Member>, addrs: NodeAddrs) {
    let leaving = member.leaving.clone();
    let mut epoch = member.state.epoch();
    let mut pause = PAUSE;
    loop {
        tokio::select! {
            biased;
            () = leaving.cancelled() => return,
            fenced = epoch.wait_for(Option::is_none) => if fenced.is_err() {
                return;
            },
        }
        let mut applied = member.state.applied();
        let made = |_: &u64| member.state.read(|tables| tables.cluster().is_some());
        tokio::select! {
            biased;
            () = leaving.cancelled() => return,
            made = applied.wait_for(made) => if made.is_err() {
                return;
            },
        }
        let (node, boot, addrs) = (member.node(), member.identity.nonce(), addrs.clone());
        let event = Event::NodeUp { node, boot, addrs, levels: LEVELS };
        match propose_unnumbered(&member, event, member.timing.rpc()).await {
            Ok((_, Verdict::Rejected(reason))) => {
                log_rejection(reason);
                sleep(pause).await;
                pause = PAUSE_MAX.min(pause * 2);
            }
            Ok(_) => {
                pause = PAUSE;
                let _ = timeout(PAUSE, epoch.wait_for(Option::is_some)).await;
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

fn log_rejection(reason: Reason) {
    match reason {
        Reason::NoMember => error!("this node has been removed from the cluster: stop it"),
        reason => warn!(%reason, "the cluster does not accept this node"),
    }
}
