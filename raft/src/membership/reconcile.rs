//! The reconciler: brings the members in line, on the leader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use limes_routing::{Event, Founder, Member as Row, NodeId};
use openraft::ChangeMembers;
use openraft::type_config::async_runtime::watch::WatchReceiver;
use rand::RngCore;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use super::change::{ChangeError, change, propose};
use crate::config::PeerAddr;
use crate::consensus::member::Member;
use crate::types::{LogId, StoredMembership};

/// The interval of the leader's rounds.
const INTERVAL: Duration = Duration::from_millis(250);

/// Reconciles the members in rounds, while this member leads. Ends when the member leaves, after the round
/// that runs.
pub(crate) async fn run(member: Arc<Member>, founders: Vec<PeerAddr>) {
    let me = member.identity.node;
    let mut tick = interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut joint = None;
    loop {
        tokio::select! {
            biased;
            () = member.leaving.cancelled() => return,
            leader = member.wait_leader(|leader| leader == me) => if leader.is_none() {
                // Raft has stopped.
                return member.leaving.cancelled().await;
            },
        }
        tokio::select! {
            biased;
            () = member.leaving.cancelled() => return,
            _ = tick.tick() => {}
        }
        make_cluster(&member, &founders).await;
        if let Err(error) = replace_lost_members(&member).await {
            warn!(%error, "cannot replace a member that lost its disk yet");
        }
        if let Err(error) = reconcile(&member, &mut joint).await {
            warn!(%error, "cannot bring the members in line yet");
        }
    }
}

/// Proposes the first event of a cluster; the tables reject a second one.
async fn make_cluster(member: &Member, founders: &[PeerAddr]) {
    if member.state.read(|tables| tables.cluster().is_some()) {
        return;
    }
    let mut key = vec![0; 32];
    rand::rng().fill_bytes(&mut key);
    let founders = founders.iter().zip(1..).map(|(peer, node)| Founder {
        node: NodeId(node),
        name: peer.name.clone(),
        mesh: peer.addr.clone(),
    });
    let event = Event::ClusterMade {
        cluster: member.identity.cluster,
        key: key.into(),
        founders: founders.collect(),
    };
    if propose(member, event).await.is_ok() {
        info!("the cluster is made");
    }
}

/// Replaces the old numbers of nodes that came back under the same name with an empty disk.
async fn replace_lost_members(member: &Member) -> Result<(), ChangeError> {
    let mut by_name: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    let (epochs, seen): (BTreeMap<NodeId, u64>, BTreeSet<NodeId>) = member.state.read(|tables| {
        for row in tables.members() {
            by_name.entry(row.name.clone()).or_default().push(row.clone());
        }
        let up = tables.nodes().filter(|(_, row)| !row.down).map(|(node, row)| (node, row.epoch.0));
        (up.collect(), tables.nodes().map(|(node, _)| node).collect())
    });
    for (name, mut rows) in by_name {
        let Some(newest) = rows.pop().filter(|_| !rows.is_empty()) else { continue };
        if !epochs.contains_key(&newest.node) {
            // The node was admitted under a new number, but then its old directory came back and the old
            // number has registered since: the new number will never be used.
            let is_back = |row: &Row| epochs.get(&row.node).is_some_and(|epoch| *epoch > newest.node.0);
            if !seen.contains(&newest.node) && rows.iter().any(is_back) {
                info!(%name, number = newest.node.0, "removing a number that was never used");
                propose(member, Event::MemberRemoved { node: newest.node }).await?;
            }
            continue;
        }
        let voters: BTreeSet<u64> = member.raft.voter_ids().collect();
        let old: BTreeSet<u64> = rows.iter().map(|row| row.node.0).collect();
        info!(%name, new = newest.node.0, ?old, "replacing a member that lost its disk");
        // In a recovered cluster Raft no longer knows the old voters, but their successors must vote.
        if !voters.is_disjoint(&old) || rows.iter().any(|row| row.voter) {
            let mut next: BTreeSet<u64> = voters.difference(&old).copied().collect();
            next.insert(newest.node.0);
            change(member, ChangeMembers::ReplaceAllVoters(next)).await?;
        }
        for row in rows {
            propose(member, Event::MemberRemoved { node: row.node }).await?;
        }
    }
    Ok(())
}

/// Completes what an earlier leader left half done: a change of voters, voters that are learners in the
/// tables, and learners that were removed from the tables. `joint` is the half-done change that the last round
/// found.
async fn reconcile(member: &Member, joint: &mut Option<LogId>) -> Result<(), ChangeError> {
    let (effective, committed) = {
        let metrics = member.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        (metrics.membership_config.clone(), metrics.committed_membership_config.clone())
    };
    if is_abandoned(joint, &effective, &committed) {
        info!("completing a change of voters that was left half done");
        change(member, ChangeMembers::AddVoterIds(BTreeSet::new())).await?;
    }
    if member.is_joint() {
        return Ok(());
    }
    let voters: BTreeSet<u64> = member.raft.voter_ids().collect();
    let learners: BTreeSet<u64> = member.raft.learner_ids().collect();
    let unpromoted: Vec<NodeId> = member.state.read(|tables| {
        let rows = tables.members().filter(|row| !row.voter && voters.contains(&row.node.0));
        rows.map(|row| row.node).collect()
    });
    for node in unpromoted {
        propose(member, Event::MemberPromoted { node }).await?;
    }
    if without_row(member, &learners).is_empty() {
        return Ok(());
    }
    // The tables of a new leader may lag behind Raft's configuration.
    let index = member.read_index().await?;
    let mut applied = member.state.applied();
    let caught_up = timeout(member.timing.rpc(), applied.wait_for(|applied| *applied >= index)).await;
    caught_up.ok().and_then(Result::ok).ok_or(ChangeError::TablesLag)?;
    let removed = without_row(member, &learners);
    if removed.is_empty() {
        return Ok(());
    }
    change(member, ChangeMembers::RemoveNodes(removed)).await
}

/// Whether a change of voters was left half done: the same joint configuration is committed as in the last
/// round. A leader that makes a change continues with the second half at once.
fn is_abandoned(
    joint: &mut Option<LogId>,
    effective: &StoredMembership,
    committed: &StoredMembership,
) -> bool {
    let is_joint = effective.membership().get_joint_config().len() > 1;
    let is_committed = effective.log_id() == committed.log_id();
    let before = std::mem::replace(joint, effective.log_id().filter(|_| is_joint && is_committed));
    joint.is_some() && before == *joint
}

/// The learners that have no row in the tables.
fn without_row(member: &Member, learners: &BTreeSet<u64>) -> BTreeSet<u64> {
    member.state.read(|tables| {
        let rows: BTreeSet<u64> = tables.members().map(|row| row.node.0).collect();
        // Before the cluster is made there are no rows at all.
        if rows.is_empty() { BTreeSet::new() } else { learners.difference(&rows).copied().collect() }
    })
}

#[cfg(test)]
mod tests {
    use openraft::impls::leader_id_adv::LeaderId;
    use openraft::vote::RaftLeaderId;

    use super::*;
    use crate::types::{Membership, Node};

    fn stored(index: u64, configs: &[&[u64]]) -> StoredMembership {
        let log_id = LogId::new(LeaderId::new(1, 1).to_committed(), index);
        let nodes = (1..=3).map(|id| (id, Node::new("127.0.0.1:1"))).collect::<BTreeMap<_, _>>();
        let configs = configs.iter().map(|ids| ids.iter().copied().collect()).collect();
        StoredMembership::new(Some(log_id), Membership::new(configs, nodes).unwrap())
    }

    #[test]
    fn joint_change_is_abandoned_when_two_rounds_find_it_committed() {
        let flat = stored(5, &[&[1, 2]]);
        let (joint, next) = (stored(6, &[&[1, 2], &[1, 2, 3]]), stored(8, &[&[1, 2], &[1, 2, 3]]));
        let mut last = None;
        assert!(!is_abandoned(&mut last, &flat, &flat) && !is_abandoned(&mut last, &flat, &flat));
        assert!(
            !is_abandoned(&mut last, &joint, &flat) && !is_abandoned(&mut last, &joint, &flat),
            "the change is not committed"
        );
        assert!(!is_abandoned(&mut last, &joint, &joint), "the second half may be on its way");
        assert!(!is_abandoned(&mut last, &next, &next), "this is another change");
        assert!(is_abandoned(&mut last, &next, &next), "two rounds have found the change");
        assert!(is_abandoned(&mut last, &next, &next), "the change is still half done");
        assert!(!is_abandoned(&mut last, &flat, &flat) && !is_abandoned(&mut last, &joint, &joint));
    }
}
