//! Members coming, being replaced and being promoted; done by whoever leads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use limes_routing::{Event, Founder, Member as Row, NodeId, Verdict};
use openraft::ChangeMembers;
use openraft::type_config::async_runtime::watch::WatchReceiver;
use rand::RngCore;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use crate::config::Config;
use crate::consensus::member::Member;
use crate::consensus::proposer::propose_plain;
use crate::types::{LogId, Node, StoredMembership};

/// How often the leader looks whether something is to be done.
const TICK: Duration = Duration::from_millis(250);

impl Member {
    /// Makes a node a member under a new number, as a learner; only the leader can.
    pub(crate) async fn admit(&self, name: &str, mesh: &str, nonce: [u8; 16]) -> Result<u64, String> {
        if !self.is_leader() {
            return Err("this node does not lead; ask again".to_owned());
        }
        self.check_newcomer(name, mesh).await?;
        let event = Event::MemberAdded { name: name.into(), mesh: mesh.into(), nonce };
        let verdict = plain(self, event).await?;
        let Verdict::Member(NodeId(number)) = verdict else {
            return Err(format!("the node cannot be added: {verdict:?}"));
        };
        let added = self.raft.add_learner(number, Node::new(mesh), false);
        timeout(self.timing.change(), added)
            .await
            .map_err(|_| "adding the learner took too long".to_owned())?
            .map_err(|error| error.to_string())?;
        Ok(number)
    }

    /// Whoever wants to join must be where it says, under its name, without an identity. A name
    /// that is in use may be taken over only by a node that has lost its disk: its old process is
    /// gone, for another answers at its address, or it has been declared down.
    async fn check_newcomer(&self, name: &str, mesh: &str) -> Result<(), String> {
        let asked = async { self.clients.ask(mesh)?.identify().await };
        let answer = asked.await.map_err(|error| format!("nobody answers at {mesh}: {error}"))?;
        if answer.name != name || !answer.cluster.is_empty() {
            return Err(format!("{mesh} is not a new node of the name {name}"));
        }
        let elsewhere = self.shared.read(|tables| {
            let namesakes = tables.members().filter(|member| member.name == name && member.mesh != mesh);
            namesakes.map(|member| member.node).find(|node| tables.live_epoch(*node).is_some())
        });
        match elsewhere {
            Some(node) => Err(format!("a node of the name {name} is up, as number {node} elsewhere")),
            None => Ok(()),
        }
    }
}

/// Tends the cluster while this member leads it.
pub(crate) async fn tend(member: Arc<Member>, config: Config) {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut half = None;
    loop {
        tick.tick().await;
        if member.is_leader() && !member.is_stopping() {
            make(&member, &config).await;
            if let Err(error) = replace(&member).await {
                warn!(%error, "a member could not be replaced yet");
            }
            if let Err(error) = reconcile(&member, &mut half).await {
                warn!(%error, "the members could not be brought in line yet");
            }
        }
    }
}

/// The first event of a cluster; a second one is refused by the tables.
async fn make(member: &Member, config: &Config) {
    if member.shared.read(|tables| tables.cluster().is_some()) {
        return;
    }
    let mut key = vec![0; 32];
    rand::rng().fill_bytes(&mut key);
    let founders = config.initial.iter().zip(1..).map(|(peer, node)| Founder {
        node: NodeId(node),
        name: peer.name.clone(),
        mesh: peer.addr.clone(),
    });
    let event = Event::ClusterMade {
        cluster: member.identity.cluster,
        key: key.into(),
        founders: founders.collect(),
    };
    if propose_plain(member, event, member.timing.no_quorum_after()).await.is_ok() {
        info!("the cluster is made");
    }
}

/// A node that came back under its old name with an empty disk takes the place of its old number.
async fn replace(member: &Member) -> Result<(), String> {
    let mut by_name: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    let (lives, seen): (BTreeMap<NodeId, u64>, BTreeSet<NodeId>) = member.shared.read(|tables| {
        for row in tables.members() {
            by_name.entry(row.name.clone()).or_default().push(row.clone());
        }
        let lives = tables.nodes().filter(|(_, row)| !row.down).map(|(node, row)| (node, row.epoch.0));
        (lives.collect(), tables.nodes().map(|(node, _)| node).collect())
    });
    for (name, mut rows) in by_name {
        let Some(newest) = rows.pop().filter(|_| !rows.is_empty()) else { continue };
        if !lives.contains_key(&newest.node) {
            // Let in, but the directory that was lost is back and has come up since: the number is nobody's.
            let back = |row: &Row| lives.get(&row.node).is_some_and(|epoch| *epoch > newest.node.0);
            if !seen.contains(&newest.node) && rows.iter().any(back) {
                info!(%name, number = newest.node.0, "dropping a number that was never taken up");
                plain(member, Event::MemberRemoved { node: newest.node }).await?;
            }
            continue;
        }
        let voters: BTreeSet<u64> = member.raft.voter_ids().collect();
        let old: BTreeSet<u64> = rows.iter().map(|row| row.node.0).collect();
        info!(%name, new = newest.node.0, ?old, "replacing a member that lost its disk");
        // In a cluster that was recovered, Raft no longer knows those that are to vote again.
        if !voters.is_disjoint(&old) || rows.iter().any(|row| row.voter) {
            let mut next: BTreeSet<u64> = voters.difference(&old).copied().collect();
            next.insert(newest.node.0);
            change(member, ChangeMembers::ReplaceAllVoters(next)).await?;
        }
        for row in rows {
            plain(member, Event::MemberRemoved { node: row.node }).await?;
        }
    }
    Ok(())
}

/// What an earlier leader has left half done: a change of voters, voters that the tables call learners, and
/// learners that have been removed. `half` is the half done change of the last look.
async fn reconcile(member: &Member, half: &mut Option<LogId>) -> Result<(), String> {
    let (effective, committed) = {
        let metrics = member.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        (metrics.membership_config.clone(), metrics.committed_membership_config.clone())
    };
    if is_left(half, &effective, &committed) {
        info!("finishing a change of voters that was left half done");
        change(member, ChangeMembers::AddVoterIds(BTreeSet::new())).await?;
    }
    if member.is_joint() {
        return Ok(());
    }
    let voters: BTreeSet<u64> = member.raft.voter_ids().collect();
    let learners: BTreeSet<u64> = member.raft.learner_ids().collect();
    let unsaid: Vec<NodeId> = member.shared.read(|tables| {
        let unsaid = tables.members().filter(|row| !row.voter && voters.contains(&row.node.0));
        unsaid.map(|row| row.node).collect()
    });
    for node in unsaid {
        plain(member, Event::MemberPromoted { node }).await?;
    }
    if without_row(member, &learners).is_empty() {
        return Ok(());
    }
    // The tables of a new leader may lag behind Raft's configuration.
    let index = member.read_index_here().await?;
    let mut applied = member.shared.applied();
    let caught_up = timeout(member.timing.rpc(), applied.wait_for(|applied| *applied >= index)).await;
    caught_up.map_err(|_| "the tables lag")?.map_err(|error| error.to_string())?;
    let gone = without_row(member, &learners);
    if gone.is_empty() {
        return Ok(());
    }
    change(member, ChangeMembers::RemoveNodes(gone)).await
}

/// Whether a change of voters was left half done: both sets of voters count by the same entry, agreed on, as at the
/// last look. Whoever makes a change goes on with its second half at once.
fn is_left(half: &mut Option<LogId>, effective: &StoredMembership, committed: &StoredMembership) -> bool {
    let joint = effective.membership().get_joint_config().len() > 1;
    let agreed = effective.log_id() == committed.log_id();
    let before = std::mem::replace(half, effective.log_id().filter(|_| joint && agreed));
    half.is_some() && before == *half
}

fn without_row(member: &Member, learners: &BTreeSet<u64>) -> BTreeSet<u64> {
    member.shared.read(|tables| {
        let rows: BTreeSet<u64> = tables.members().map(|row| row.node.0).collect();
        // Before the cluster is made there are no rows at all.
        if rows.is_empty() { BTreeSet::new() } else { learners.difference(&rows).copied().collect() }
    })
}

pub(crate) async fn plain(member: &Member, event: Event) -> Result<Verdict, String> {
    let decided = propose_plain(member, event, member.timing.no_quorum_after()).await;
    decided.map(|(_, verdict)| verdict).map_err(|error| error.to_string())
}

pub(crate) async fn change(member: &Member, change: ChangeMembers<u64, Node>) -> Result<(), String> {
    timeout(member.timing.change(), member.raft.change_membership(change, true))
        .await
        .map_err(|_| "the change took too long".to_owned())?
        .map(drop)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use openraft::impls::leader_id_adv::LeaderId;
    use openraft::vote::RaftLeaderId;

    use super::*;
    use crate::types::Membership;

    fn stored(index: u64, configs: &[&[u64]]) -> StoredMembership {
        let log_id = LogId::new(LeaderId::new(1, 1).to_committed(), index);
        let nodes = (1..=3).map(|id| (id, Node::new("127.0.0.1:1"))).collect::<BTreeMap<_, _>>();
        let configs = configs.iter().map(|ids| ids.iter().copied().collect()).collect();
        StoredMembership::new(Some(log_id), Membership::new(configs, nodes).unwrap())
    }

    #[test]
    fn a_change_is_finished_when_nobody_goes_on_with_it() {
        let flat = stored(5, &[&[1, 2]]);
        let (joint, next) = (stored(6, &[&[1, 2], &[1, 2, 3]]), stored(8, &[&[1, 2], &[1, 2, 3]]));
        let mut half = None;
        assert!(!is_left(&mut half, &flat, &flat) && !is_left(&mut half, &flat, &flat));
        assert!(
            !is_left(&mut half, &joint, &flat) && !is_left(&mut half, &joint, &flat),
            "not agreed on yet"
        );
        assert!(!is_left(&mut half, &joint, &joint), "its second half may be on its way");
        assert!(!is_left(&mut half, &next, &next), "another change");
        assert!(is_left(&mut half, &next, &next) && is_left(&mut half, &next, &next), "until it is done");
        assert!(!is_left(&mut half, &flat, &flat) && !is_left(&mut half, &joint, &joint));
    }
}
