//! One member of the cluster, from its start to its end.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use limes_routing::{Epoch, Event, NodeId, Revision, Tables, Verdict};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tracing::{info, warn};

use super::service::Service;
use crate::bootstrap::{Booted, PreBoot, StartError, identify, initialize};
use crate::config::{Config, raft_config};
use crate::consensus::applied::{AppliedState, KnownBoots};
use crate::consensus::health::MemberFailure;
use crate::consensus::member::{Member, Status};
use crate::consensus::propose::{ProposeError, propose_unnumbered};
use crate::consensus::proposer::Proposer;
use crate::consensus::read_barrier::{BarrierError, ReadBarriers};
use crate::consensus::state_machine::{Raft, StateMachine};
use crate::consensus::{cache_writer, health, registration, snapshot_schedule};
use crate::history::{History, Limits};
use crate::membership::admin::{self, AdminError, transfer_leader};
use crate::membership::{quorum_report, reconcile};
use crate::network::{AdminRequest, Clients, Factory, Incoming, serve};
use crate::observer::Observer;
use crate::tasks::{TaskKind, Tasks};

/// One member of the cluster. Clones are handles of the same member, which stops when the last is dropped.
#[derive(Clone)]
pub struct Replica {
    member: Arc<Member>,
    proposer: Proposer,
    barriers: ReadBarriers,
    tasks: Arc<Tasks>,
}

impl Replica {
    /// Starts the member: finds or founds its cluster, replays its log, and runs Raft. `incoming` delivers the
    /// connections of the mesh port that begin as HTTP/2. Returns once the member has an identity and Raft
    /// runs; a founder waits for the other founders without a limit.
    ///
    /// # Errors
    /// [`StartError`]; each message is one line.
    ///
    /// # Cancel safety
    /// Safe: the next start continues from what is on disk.
    pub async fn start<IO: Incoming>(
        config: Config,
        incoming: mpsc::Receiver<IO>,
        observer: Arc<dyn Observer>,
    ) -> Result<Replica, StartError> {
        if config.initial.is_empty() {
            return Err(StartError::NoFounders);
        }
        let tasks = Arc::new(Tasks::new());
        let pre_boot = Arc::new(PreBoot::new(&config));
        let running = Arc::new(OnceLock::new());
        let service = Service::new(config.name.clone(), pre_boot.clone(), running.clone());
        tasks.spawn_once(TaskKind::PeerServer, serve(service, config.timing.keep_alive(), incoming));
        let booted = identify(&config, &pre_boot).await?;
        let member = Arc::new(run_raft(&config, &pre_boot, booted, observer, &tasks).await?);
        let _ = running.set(member.clone());
        initialize(&member, &config).await?;
        spawn_upkeep(&member, config, &tasks);
        let proposer = Proposer::start(member.clone(), &tasks);
        let barriers = ReadBarriers::start(member.clone(), &tasks);
        Ok(Replica { member, proposer, barriers, tasks })
    }

    /// Waits until this member cannot go on: its disk has failed, an entry cannot be decoded by this version,
    /// its directory turns out to be an old copy, or a critical task has failed. The process should end then.
    /// Never returns once [`Replica::shutdown`] was called.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn failed(&self) -> MemberFailure {
        health::failed(&self.member, &self.tasks).await
    }

    /// This member's number.
    pub fn node(&self) -> NodeId {
        self.member.node()
    }

    /// The cluster's id.
    pub fn cluster(&self) -> [u8; 16] {
        self.member.identity.cluster
    }

    /// Reads the tables as this member has applied them. The closure must be short, because apply waits for
    /// it.
    pub fn read<T>(&self, look_up: impl FnOnce(&Tables) -> T) -> T {
        self.member.state.read(look_up)
    }

    /// A copy of the tables; cheap, because the copy shares the rows.
    pub fn tables(&self) -> Tables {
        self.read(Tables::clone)
    }

    /// The leader, as far as this member knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.member.leader().map(|(leader, _)| NodeId(leader))
    }

    /// Whether this member leads, as far as it knows.
    pub fn is_leader(&self) -> bool {
        self.member.is_leader()
    }

    /// The state of this member, as it sees the cluster.
    pub fn status(&self) -> Status {
        self.member.status()
    }

    /// Why the cluster has no quorum, and what the operator can do, in one line. `None` while it has one, and
    /// for some seconds after it was lost.
    pub fn quorum_loss(&self) -> Option<String> {
        self.member.quorum_loss.borrow().clone()
    }

    /// Bytes of the entries that the log holds.
    pub fn log_bytes(&self) -> u64 {
        self.member.log.entry_bytes()
    }

    /// Bytes appended to the log since the start.
    pub fn appended_bytes(&self) -> u64 {
        self.member.log.appended_bytes()
    }

    /// The history of this member.
    pub fn history(&self) -> &History {
        &self.member.state.history
    }

    /// Proposes events of this node.
    pub fn proposer(&self) -> &Proposer {
        &self.proposer
    }

    /// Proposes an event of the cluster (a node is down, a setting, a kick) and waits until this member has
    /// applied it. Returns its revision.
    ///
    /// # Errors
    /// [`ProposeError::NoQuorum`] after [`Timing::no_quorum_after`](crate::Timing::no_quorum_after); the event
    /// may still be committed later.
    ///
    /// # Cancel safety
    /// The event may be committed anyway.
    pub async fn propose(&self, event: Event) -> Result<Revision, ProposeError> {
        self.propose_for_verdict(event).await.map(|(revision, _)| revision)
    }

    /// As [`Replica::propose`], with the verdict.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn propose_for_verdict(&self, event: Event) -> Result<(Revision, Verdict), ProposeError> {
        let limit = self.member.timing.no_quorum_after();
        let (index, verdict) = propose_unnumbered(&self.member, event, limit).await?;
        Ok((Revision(index), verdict))
    }

    /// Waits until everything that was committed before this call is applied here. Concurrent callers share
    /// one round to the leader.
    ///
    /// # Errors
    /// [`BarrierError::NoQuorum`] after [`Timing::no_quorum_after`](crate::Timing::no_quorum_after).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn barrier(&self) -> Result<Revision, BarrierError> {
        self.barriers.wait().await
    }

    /// Waits until this member has applied a revision.
    ///
    /// # Errors
    /// [`BarrierError::Stopped`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn wait_applied(&self, revision: Revision) -> Result<(), BarrierError> {
        let mut applied = self.member.state.applied();
        let seen = applied.wait_for(|applied| *applied >= revision.0).await;
        seen.map(drop).map_err(|_| BarrierError::Stopped)
    }

    /// Waits until this process has an epoch.
    ///
    /// # Errors
    /// [`ProposeError::NoQuorum`] after `limit`.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn wait_up(&self, limit: Duration) -> Result<Epoch, ProposeError> {
        let mut epoch = self.member.state.epoch();
        let live = timeout(limit, epoch.wait_for(Option::is_some)).await;
        live.ok().and_then(Result::ok).and_then(|epoch| *epoch).ok_or(ProposeError::NoQuorum)
    }

    /// Transfers the leadership to a voter, whichever member leads; `None` means any voter that is up.
    ///
    /// # Errors
    /// [`AdminError`]: there is no leader, or no such voter is up.
    ///
    /// # Cancel safety
    /// Safe: a leader that has received the request executes it anyway.
    pub async fn transfer_leader(&self, to: Option<&str>) -> Result<(), AdminError> {
        self.request(AdminRequest::TransferLeader { to: to.map(str::to_owned) }).await
    }

    /// Makes a learner a voter.
    ///
    /// # Errors
    /// [`AdminError`]: there is no leader or no such node, or the node has not caught up yet.
    ///
    /// # Cancel safety
    /// As [`Replica::transfer_leader`].
    pub async fn promote(&self, name: &str) -> Result<(), AdminError> {
        self.request(AdminRequest::Promote { name: name.to_owned() }).await
    }

    /// Removes a member for good, with its rows. An interrupted removal may be requested again.
    ///
    /// # Errors
    /// [`AdminError`]: there is no leader or no such node, the node leads, or the other voters that are up
    /// would be no quorum.
    ///
    /// # Cancel safety
    /// As [`Replica::transfer_leader`].
    pub async fn remove(&self, name: &str) -> Result<(), AdminError> {
        self.request(AdminRequest::Remove { name: name.to_owned() }).await
    }

    async fn request(&self, request: AdminRequest) -> Result<(), AdminError> {
        admin::request(&self.member, request).await
    }

    /// Triggers a snapshot; returns before it is taken.
    pub async fn snapshot(&self) {
        let _ = self.member.raft.trigger().snapshot().await;
    }

    /// Leaves the cluster for now: announces that this node is down, which suspends its rows at once, transfers
    /// the leadership, and stops Raft and all tasks.
    ///
    /// # Cancel safety
    /// Not safe: the rest of the steps is skipped.
    pub async fn shutdown(&self) {
        self.tasks.leave();
        let rpc = self.member.timing.rpc();
        let epoch = *self.member.state.epoch().borrow();
        if let Some(epoch) = epoch {
            let event = Event::NodeDown { node: self.node(), epoch };
            if propose_unnumbered(&self.member, event, rpc).await.is_err() {
                warn!("leaving without an announcement: the cluster has no quorum");
            }
        }
        self.step_down().await;
        if timeout(rpc * 2, self.member.raft.shutdown()).await.is_err() {
            warn!("raft did not stop in time");
        }
        self.tasks.stop().await;
    }

    /// Transfers the leadership to any other voter, if this member leads and another voter is up.
    async fn step_down(&self) {
        if !self.is_leader() {
            return;
        }
        match timeout(self.member.timing.rpc(), transfer_leader(&self.member, None)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => info!(%error, "leaving as the leader"),
            Err(_) => info!("leaving as the leader: no voter took over in time"),
        }
    }
}

/// Loads the state machine and starts Raft.
async fn run_raft(
    config: &Config,
    pre_boot: &PreBoot,
    booted: Booted,
    observer: Arc<dyn Observer>,
    tasks: &Tasks,
) -> Result<Member, StartError> {
    let Booted { identity, log, snapshot } = booted;
    observer.identified(NodeId(identity.node), identity.cluster, identity.nonce());
    let history = History::start(config.dir.join("history"), Limits::default());
    let (dir, metrics) = (config.dir.clone(), config.metrics.clone());
    let state = AppliedState::new(dir, observer, history, metrics, &identity);
    let machine = StateMachine::load(state.clone(), snapshot);
    let clients = Clients::new(Some(identity.cluster), config.timing);
    let boots = KnownBoots { applied: state.clone(), cache: pre_boot.member_cache() };
    let factory = Factory { clients: clients.clone(), me: identity.node, boots: Arc::new(boots) };
    let raft_config = raft_config(config.timing).map_err(|error| StartError::Raft(error.to_string()))?;
    let raft = Raft::new(identity.node, raft_config, factory, log.clone(), machine)
        .await
        .map_err(|error| StartError::Raft(error.to_string()))?;
    Ok(Member {
        identity,
        raft,
        state,
        clients,
        log,
        timing: config.timing,
        stale: watch::Sender::new(false),
        quorum_loss: watch::Sender::new(None),
        leaving: tasks.leaving(),
    })
}

/// Starts the tasks that a member runs by itself.
fn spawn_upkeep(member: &Arc<Member>, config: Config, tasks: &Tasks) {
    let (m, addrs) = (member.clone(), config.addrs.clone());
    tasks.spawn(TaskKind::Registration, move || registration::run(m.clone(), addrs.clone()));
    let m = member.clone();
    tasks.spawn(TaskKind::MemberCache, move || cache_writer::run(m.clone()));
    let (m, founders) = (member.clone(), config.initial.clone());
    tasks.spawn(TaskKind::Reconciler, move || reconcile::run(m.clone(), founders.clone()));
    let m = member.clone();
    tasks.spawn(TaskKind::SnapshotSchedule, move || snapshot_schedule::run(m.clone()));
    let m = member.clone();
    tasks.spawn(TaskKind::QuorumReport, move || quorum_report::run(m.clone(), config.clone()));
}
