//! What an operator asks of the members, by name; whoever leads does it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use limes_routing::{Event, Member as Row, NodeId};
use openraft::ChangeMembers;
use openraft::type_config::async_runtime::watch::WatchReceiver;
use tokio::time::{Instant, sleep, timeout};
use tracing::info;

use crate::consensus::member::Member;
use crate::membership::reconcile::{change, plain};
use crate::network::Verb;

/// Entries that a learner may lack when it is promoted.
const LAG: u64 = 1_000;
/// Pause before the leader is looked for again.
const AGAIN: Duration = Duration::from_millis(50);

/// Why the members were not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ChangeError(pub(crate) String);

/// Has the leader do it, whoever that is.
pub(crate) async fn ask(member: &Arc<Member>, verb: Verb, name: &str) -> Result<(), ChangeError> {
    let until = Instant::now() + member.timing.no_quorum_after();
    while Instant::now() < until {
        if member.is_leader() {
            let done = timeout(member.timing.change(), member.change(verb, name)).await;
            return done.unwrap_or_else(|_| Err("the change took too long".to_owned())).map_err(ChangeError);
        }
        if let Some((_, addr)) = member.leader() {
            let asked = async { member.clients.ask(&addr)?.change(verb, name).await };
            match asked.await {
                Err(error) if error.is_unreachable() => {}
                done => return done.map_err(|error| ChangeError(error.to_string())),
            }
        }
        sleep(AGAIN).await;
    }
    Err(ChangeError("the cluster has no leader".to_owned()))
}

impl Member {
    /// Does what an operator asked; only the leader can. It is done by a task of its own: a change of members is
    /// two proposals, and whoever asked may go away between them.
    pub(crate) async fn change(self: &Arc<Self>, verb: Verb, name: &str) -> Result<(), String> {
        let (member, name) = (Arc::clone(self), name.to_owned());
        let done = tokio::spawn(async move { member.do_change(verb, &name).await });
        done.await.map_err(|error| error.to_string())?
    }

    async fn do_change(&self, verb: Verb, name: &str) -> Result<(), String> {
        if !self.is_leader() {
            return Err("this node does not lead; ask again".to_owned());
        }
        match verb {
            Verb::Promote => self.promote(name).await,
            Verb::Remove => self.remove(name).await,
            Verb::Transfer => self.transfer(name).await,
            Verb::None => Err("an unknown request".to_owned()),
        }
    }

    /// The members of a name, oldest first: more than one while a number is being replaced.
    fn named(&self, name: &str) -> Vec<Row> {
        self.shared.read(|tables| tables.members().filter(|row| row.name == name).cloned().collect())
    }

    /// A learner votes from now on, once it has the log.
    async fn promote(&self, name: &str) -> Result<(), String> {
        let row = self.named(name).pop().ok_or_else(|| format!("there is no node {name}"))?;
        let NodeId(number) = row.node;
        let votes = self.raft.voter_ids().any(|id| id == number);
        if !votes {
            if self.shared.read(|tables| tables.live_epoch(row.node).is_none()) {
                return Err(format!("{name} is not up"));
            }
            if self.lag(number).is_none_or(|lag| lag > LAG) {
                return Err(format!("{name} has not caught up with the log yet; ask again"));
            }
        }
        // One that was cut short is finished: half way through, the old voters alone still decide too.
        if !votes || self.is_joint() {
            change(self, ChangeMembers::AddVoterIds(BTreeSet::from([number]))).await?;
        }
        plain(self, Event::MemberPromoted { node: row.node }).await.map(drop)
    }

    /// How many entries a follower lacks, as far as the leader knows.
    fn lag(&self, number: u64) -> Option<u64> {
        let metrics = self.raft.data_metrics();
        let metrics = metrics.borrow_watched();
        let last = metrics.last_log.map_or(0, |last| last.index);
        let matched = metrics.replication.as_ref()?.get(&number)?.as_ref()?.index;
        Some(last.saturating_sub(matched))
    }

    /// A member goes for good, and its rows with it.
    async fn remove(&self, name: &str) -> Result<(), String> {
        let rows = self.named(name);
        if rows.is_empty() {
            return Err(format!("there is no node {name}"));
        }
        if rows.iter().any(|row| row.node == self.node()) {
            return Err(format!("{name} leads: transfer the leadership first"));
        }
        let gone: BTreeSet<u64> = rows.iter().map(|row| row.node.0).collect();
        let voters: BTreeSet<u64> = self.raft.voter_ids().collect();
        if !voters.is_disjoint(&gone) {
            let left: BTreeSet<u64> = voters.difference(&gone).copied().collect();
            self.check_quorum(&left)?;
            change(self, ChangeMembers::ReplaceAllVoters(left)).await?;
        }
        // It hears of this as a learner; then it is dropped from Raft's configuration too.
        for row in rows {
            plain(self, Event::MemberRemoved { node: row.node }).await?;
        }
        info!(name, ?gone, "member removed");
        Ok(())
    }

    /// The voters that are left must be able to agree.
    fn check_quorum(&self, left: &BTreeSet<u64>) -> Result<(), String> {
        let up = |id: &&u64| self.shared.read(|tables| tables.live_epoch(NodeId(**id)).is_some());
        let up = left.iter().filter(up).count();
        if up * 2 > left.len() {
            return Ok(());
        }
        Err(format!("only {up} of the {} voters left would be up: the cluster could not go on", left.len()))
    }

    /// Hands the leadership to a voter; returns when that leads. If it does not take it (its log is not
    /// on its disk in time), there is an election, which anybody may win.
    pub(crate) async fn transfer(&self, name: &str) -> Result<(), String> {
        let named: BTreeSet<NodeId> = self.named(name).iter().map(|row| row.node).collect();
        let voters: Vec<NodeId> = self.raft.voter_ids().map(NodeId).collect();
        if !name.is_empty() && named.contains(&self.node()) {
            return Ok(());
        }
        let to = self.shared.read(|tables| {
            voters.into_iter().find(|id| {
                *id != self.node()
                    && (name.is_empty() || named.contains(id))
                    && tables.live_epoch(*id).is_some()
            })
        });
        let to = match (to, name) {
            (Some(to), _) => to,
            (None, "") => return Err("no other voter is up".to_owned()),
            (None, name) => return Err(format!("{name} is not a voter that is up")),
        };
        let failed = |error: &dyn std::fmt::Display| format!("the leadership cannot be handed over: {error}");
        self.raft.trigger().transfer_leader(to.0).await.map_err(|error| failed(&error))?;
        let mut metrics = self.raft.server_metrics();
        let next = async {
            loop {
                let leader = metrics.borrow_watched().current_leader;
                if let Some(leader) = leader.filter(|leader| *leader != self.identity.node) {
                    return Some(leader);
                }
                metrics.changed().await.ok()?;
            }
        };
        match timeout(self.timing.no_quorum_after(), next).await {
            Ok(Some(leader)) if leader == to.0 || name.is_empty() => {
                info!(to = leader, "leadership handed over");
                Ok(())
            }
            Ok(Some(leader)) => Err(failed(&format!("number {leader} was elected meanwhile; ask again"))),
            Ok(None) => Err("this node is stopping".to_owned()),
            Err(_) => Err(failed(&"the other did not take it in time; ask again")),
        }
    }
}
