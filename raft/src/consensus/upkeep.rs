//! What a member does by itself for as long as it runs: staying up in the tables, and snapshots.

use std::sync::Arc;
use std::time::Duration;

use limes_routing::{Event, Reason, Verdict};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::{error, warn};

use openraft::type_config::async_runtime::watch::WatchReceiver;

use crate::bootstrap::find as bootstrap;
use crate::config::{Config, LEVELS, SNAPSHOT_LOG_BYTES};
use crate::consensus::member::Member;
use crate::consensus::proposer::propose_plain;
use crate::consensus::read_barrier as barrier;
use crate::membership::quorum_report as quorum;
use crate::storage::member_cache::Known;

/// Pause before the next attempt to be up.
const AGAIN: Duration = Duration::from_millis(50);
/// The longest pause after refusals.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often it is said what is missing, at most.
const EXPLAIN: Duration = Duration::from_secs(5);
/// How often it is seen whether Raft still runs.
const PULSE: Duration = Duration::from_millis(100);
/// How often it is seen whether a snapshot is due.
const LOOK: Duration = Duration::from_secs(2);

/// Keeps this process up in the tables: at the start, and again whenever it was fenced.
pub(crate) async fn stay_up(member: Arc<Member>, config: Config, boot: [u8; 16]) {
    let node = member.node();
    let mut epoch = member.shared.epoch();
    let mut pause = AGAIN;
    while epoch.wait_for(Option::is_none).await.is_ok() && !member.is_stopping() {
        if member.shared.read(|tables| tables.cluster().is_none()) {
            sleep(AGAIN).await;
            continue;
        }
        let event = Event::NodeUp { node, boot, addrs: config.addrs.clone(), levels: LEVELS };
        match propose_plain(&member, event, member.timing.rpc()).await {
            Ok((_, Verdict::Rejected(reason))) => {
                refused(reason);
                sleep(pause).await;
                pause = PAUSE_MAX.min(pause * 2);
            }
            Ok(_) => {
                pause = AGAIN;
                let _ = timeout(AGAIN, epoch.wait_for(Option::is_some)).await;
            }
            Err(_) => sleep(AGAIN).await,
        }
    }
}

fn refused(reason: Reason) {
    match reason {
        Reason::NoMember => error!("this node has been removed from the cluster: stop it"),
        reason => warn!(%reason, "this node cannot come up"),
    }
}

/// Says in words what is missing while there is no quorum.
pub(crate) async fn explain(member: Arc<Member>, config: Config) {
    let pause = EXPLAIN.max(member.timing.no_quorum_after() * 2);
    while !member.is_stopping() {
        sleep(pause).await;
        let known = member.shared.read(Known::of);
        let mut words = None;
        // Not whether a leader is known: a leader that is cut off goes on for long, and so do its followers.
        if known.made && barrier::index(&member).await.is_none() {
            let me = member.identity.node;
            words = quorum::words(&bootstrap::look_around(&config, &member.clients, me, known).await);
        }
        if let Some(words) = &words {
            error!("{words}");
        }
        member.trouble.send_replace(words);
    }
}

/// Waits until the member cannot go on.
pub(crate) async fn failed(member: &Member) -> String {
    let mut outdated = member.outdated.subscribe();
    let mut tick = interval(PULSE);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = outdated.wait_for(|outdated| *outdated) => {
                return "another node knows a later life of this member than its directory does: it is an old copy; \
                        start the node again, and it joins as a new member".to_owned();
            }
        }
        let state = member.raft.metrics().borrow_watched().running_state.clone();
        if let Err(fatal) = state
            && !member.is_stopping()
        {
            return format!("raft has stopped: {fatal}");
        }
    }
}

/// Takes a snapshot when the log has grown enough since the last. Nodes differ a little, so that
/// not all are at it in the same moment.
pub(crate) async fn snapshots(member: Arc<Member>) {
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let share = (member.identity.node % 4) * (SNAPSHOT_LOG_BYTES / 8);
    // What the log held at the start counts, lest a node that is often restarted never take one.
    let before = member.log.entry_bytes();
    let mut taken = 0;
    while !member.is_stopping() {
        tick.tick().await;
        let size = std::fs::metadata(member.shared.dir.join("snapshot")).map_or(0, |file| file.len());
        let written = before + member.log.appended_bytes();
        if written - taken > SNAPSHOT_LOG_BYTES.max(size * 2) + share {
            taken = written;
            if let Err(error) = member.raft.trigger().snapshot().await {
                warn!(%error, "no snapshot can be taken");
            }
        }
    }
}
