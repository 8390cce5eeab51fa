//! One member of the cluster, from its start to its end.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use limes_routing::{Epoch, Event, NodeId, Revision, Tables, Verdict};
use openraft::RaftMetrics;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use crate::bootstrap::find::{self as bootstrap, Found};
use crate::bootstrap::pre_boot::Door;
use crate::config::{Config, raft_config};
use crate::consensus::member::{Member, Status};
use crate::consensus::proposer::{ProposeError, Proposer, propose_plain};
use crate::consensus::read_barrier::{BarrierError, Barriers};
use crate::consensus::state_machine::{Machine, Shared};
use crate::consensus::upkeep;
use crate::history::{History, Limits};
use crate::membership::admin::{self as change, ChangeError};
use crate::membership::{quorum_report as quorum, reconcile as membership};
use crate::network::{Clients, Factory, Incoming, Verb, serve};
use crate::observer::Observer;
use crate::storage::data_dir::{self as disk, Disk};
use crate::storage::identity::Identity;
use crate::storage::log::{OpenError, SegmentLog};
use crate::storage::member_cache as known;
use crate::storage::quarantine as aside;
use crate::tasks::Tasks;
use crate::types::{Node, Raft, SnapshotMeta, TypeConfig};

/// Between two attempts at the first election: a few times what a founder takes to open an empty log.
const FIRST_ELECTION_PAUSE: Duration = Duration::from_millis(50);

/// Why a member cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The disk failed.
    #[error("cannot use {0}: {1}")]
    Disk(PathBuf, #[source] io::Error),
    /// Nobody can found or be joined.
    #[error("cluster.initial is empty")]
    NoFounders,
    /// The log is damaged, and the settings name nobody to join; and what helps.
    #[error("{0}; {1}")]
    Damaged(OpenError, String),
    /// What is on the disk is of other software.
    #[error("{0}")]
    Unknown(OpenError),
    /// The directory is an old copy, and the settings name nobody to join; and what helps.
    #[error("{path} is an old copy: {1}; {2}", path = .0.display())]
    Outdated(PathBuf, String, String),
    /// The member was removed.
    #[error("{1}; move {path} away to join as a new member", path = .0.display())]
    Removed(PathBuf, String),
    /// The identity could not be taken.
    #[error("cannot take an identity: {0}")]
    Identity(String),
    /// A founder belongs elsewhere.
    #[error("{0} of cluster.initial cannot be founded: {1}")]
    OtherCluster(String, String),
    /// The directory is not of this cluster.
    #[error(
        "{} is of cluster {ours}, but {names} are of cluster {theirs}: put the right one there, or move it away to \
         join as a new member", dir.display()
    )]
    Elsewhere {
        /// The directory.
        dir: PathBuf,
        /// Its cluster.
        ours: String,
        /// The cluster of most founders.
        theirs: String,
        /// Those founders.
        names: String,
    },
    /// The directory is another member's.
    #[error(
        "{} is the data of {owner}, not of {me}: put the right directory there, or move it away to join as a new \
         member", dir.display()
    )]
    OfAnother {
        /// The directory.
        dir: PathBuf,
        /// The name under which the members know its number.
        owner: String,
        /// This node's name.
        me: String,
    },
    /// openraft refused.
    #[error("raft cannot start: {0}")]
    Raft(String),
}

/// One member of the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Replica {
    member: Arc<Member>,
    proposer: Proposer,
    barriers: Barriers,
    tasks: Arc<Tasks>,
}

impl Replica {
    /// Starts the member: finds or founds its cluster, replays its log, runs Raft. `incoming` are
    /// connections of the mesh port that begin as HTTP/2. Returns once the member has an identity
    /// and Raft runs; a founder waits for the other founders for as long as it takes.
    ///
    /// # Errors
    /// [`StartError`], in one clear line.
    pub async fn start<IO: Incoming>(
        config: Config,
        incoming: mpsc::Receiver<IO>,
        observer: Arc<dyn Observer>,
    ) -> Result<Replica, StartError> {
        if config.initial.is_empty() {
            return Err(StartError::NoFounders);
        }
        let tasks = Arc::new(Tasks::default());
        let door = Arc::new(Door::new(&config));
        tasks.spawn(serve(config.name.clone(), door.clone(), config.timing.alive(), incoming));
        let (identity, log, snapshot) = identify(&config, &door).await?;
        let boot = identity.boot();
        let node = NodeId(identity.node);
        observer.identified(node, identity.cluster, boot);
        let history = History::start(config.dir.join("history"), Limits::default());
        let shared = Shared::new(config.dir.clone(), observer, history, config.metrics.clone(), (node, boot));
        let machine = Machine::load(shared.clone(), snapshot);
        let clients = Clients::new(identity.cluster, config.timing);
        let raft_config = raft_config(config.timing).map_err(|error| StartError::Raft(error.to_string()))?;
        let known = Arc::new(door.known());
        let factory = Factory { clients: clients.clone(), me: identity.node, shared: shared.clone(), known };
        let raft = Raft::new(identity.node, raft_config, factory, log.clone(), machine)
            .await
            .map_err(|error| StartError::Raft(error.to_string()))?;
        let member = Arc::new(Member::new(identity, raft, shared, clients, log, config.timing));
        door.open(member.clone());
        initialise(&member, &config).await?;
        tasks.spawn(upkeep::stay_up(member.clone(), config.clone(), boot));
        tasks.spawn(upkeep::explain(member.clone(), config.clone()));
        tasks.spawn(known::keep(member.clone()));
        tasks.spawn(membership::tend(member.clone(), config));
        tasks.spawn(upkeep::snapshots(member.clone()));
        let proposer = Proposer::start(member.clone(), &tasks);
        let barriers = Barriers::start(member.clone(), &tasks);
        Ok(Replica { member, proposer, barriers, tasks })
    }

    /// Waits until this member cannot go on: its disk has failed, an entry has no meaning to this
    /// version, or its directory turns out to be an old copy. Gives the reason in one line; the process
    /// should end.
    pub async fn failed(&self) -> String {
        upkeep::failed(&self.member).await
    }

    /// This member's number.
    pub fn node(&self) -> NodeId {
        NodeId(self.member.identity.node)
    }

    /// The cluster's id.
    pub fn cluster(&self) -> [u8; 16] {
        self.member.identity.cluster
    }

    /// Looks something up in the tables as this member has applied them; the closure must be short,
    /// for apply waits for it.
    pub fn read<T>(&self, look: impl FnOnce(&Tables) -> T) -> T {
        self.member.shared.read(look)
    }

    /// A copy of the tables, cheap.
    pub fn tables(&self) -> Tables {
        self.read(Tables::clone)
    }

    /// Who leads, as far as this member knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.member.leader().map(|(leader, _)| NodeId(leader))
    }

    /// Whether this member leads, as far as it knows.
    pub fn is_leader(&self) -> bool {
        self.member.is_leader()
    }

    /// What the member looks like from outside.
    pub fn status(&self) -> Status {
        self.member.status()
    }

    /// What keeps the cluster from agreeing and what would help, in one line; nothing: it agrees, or has
    /// not been seen not to for long.
    pub fn trouble(&self) -> Option<String> {
        self.member.trouble.borrow().clone()
    }

    /// Bytes of the entries that the log holds; counted, so not for every moment.
    pub fn log_bytes(&self) -> u64 {
        self.member.log.entry_bytes()
    }

    /// Bytes appended to the log since the start.
    pub fn appended_bytes(&self) -> u64 {
        self.member.log.appended_bytes()
    }

    /// What has happened, as far back as it is kept.
    pub fn history(&self) -> &History {
        &self.member.shared.history
    }

    /// Proposes events of this node.
    pub fn proposer(&self) -> &Proposer {
        &self.proposer
    }

    /// Proposes an event of the cluster (a node is down, a setting, a kick) and waits until this
    /// member has applied it; gives its revision.
    ///
    /// # Errors
    /// [`ProposeError::NoQuorum`] after [`Timing::no_quorum_after`](crate::Timing::no_quorum_after); it may still commit.
    pub async fn propose_plain(&self, event: Event) -> Result<Revision, ProposeError> {
        self.decide(event).await.map(|(revision, _)| revision)
    }

    /// As [`Replica::propose_plain`], with the verdict.
    ///
    /// # Errors
    /// As there.
    pub async fn decide(&self, event: Event) -> Result<(Revision, Verdict), ProposeError> {
        let decided = propose_plain(&self.member, event, self.member.timing.no_quorum_after()).await;
        decided.map(|(index, verdict)| (Revision(index), verdict))
    }

    /// Waits until all that was committed before this call is applied here. Shared with whoever
    /// calls meanwhile.
    ///
    /// # Errors
    /// [`BarrierError::NoQuorum`] after [`Timing::no_quorum_after`](crate::Timing::no_quorum_after) without one.
    pub async fn barrier(&self) -> Result<Revision, BarrierError> {
        self.barriers.pass().await
    }

    /// Waits until this member has applied a revision.
    ///
    /// # Errors
    /// [`BarrierError::Stopped`].
    pub async fn wait_applied(&self, revision: Revision) -> Result<(), BarrierError> {
        let mut applied = self.member.shared.applied();
        let seen = applied.wait_for(|applied| *applied >= revision.0).await;
        seen.map(drop).map_err(|_| BarrierError::Stopped)
    }

    /// Waits until this process has an epoch.
    ///
    /// # Errors
    /// [`ProposeError::NoQuorum`] when the time is over.
    pub async fn wait_up(&self, time: Duration) -> Result<Epoch, ProposeError> {
        let mut epoch = self.member.shared.epoch();
        let live = timeout(time, epoch.wait_for(Option::is_some)).await;
        live.ok().and_then(Result::ok).and_then(|epoch| *epoch).ok_or(ProposeError::NoQuorum)
    }

    /// Hands the leadership to another voter, if this member leads and another is up.
    pub async fn hand_over(&self) {
        if !self.is_leader() {
            return;
        }
        match timeout(self.member.timing.rpc(), self.member.transfer("")).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => info!(%why, "leaving as the leader"),
            Err(_) => info!("leaving as the leader: nobody took over in time"),
        }
    }

    /// Hands the leadership to a voter, whoever leads; an empty name means any that is up.
    ///
    /// # Errors
    /// [`ChangeError`]: there is no leader, or no such voter is up.
    pub async fn transfer_leader(&self, name: &str) -> Result<(), ChangeError> {
        change::ask(&self.member, Verb::Transfer, name).await
    }

    /// Lets a learner vote.
    ///
    /// # Errors
    /// [`ChangeError`]: there is no leader or no such node, or it has not caught up yet.
    pub async fn promote(&self, name: &str) -> Result<(), ChangeError> {
        change::ask(&self.member, Verb::Promote, name).await
    }

    /// Removes a member for good, with its rows. To be asked again if it was cut short.
    ///
    /// # Errors
    /// [`ChangeError`]: there is no leader or no such node, it leads, or the others would be no
    /// quorum.
    pub async fn remove(&self, name: &str) -> Result<(), ChangeError> {
        change::ask(&self.member, Verb::Remove, name).await
    }

    /// Takes a snapshot soon.
    pub async fn snapshot(&self) {
        let _ = self.member.raft.trigger().snapshot().await;
    }

    /// Says that this node is leaving (its rows are suspended at once) and stops Raft.
    pub async fn shutdown(&self) {
        self.member.stop();
        let rpc = self.member.timing.rpc();
        let epoch = *self.member.shared.epoch().borrow();
        if let Some(epoch) = epoch {
            let event = Event::NodeDown { node: self.node(), epoch };
            if propose_plain(&self.member, event, rpc).await.is_err() {
                warn!("left without saying so: the cluster has no quorum");
            }
        }
        self.hand_over().await;
        if timeout(rpc * 2, self.member.raft.shutdown()).await.is_err() {
            warn!("raft did not stop in time");
        }
        self.tasks.abort();
    }
}

type Snapshot = Option<(SnapshotMeta, Tables)>;

/// Opens the disk and finds out who this member is, and begins its next life. What turns out to be an
/// old copy is treated as damaged.
async fn identify(config: &Config, door: &Door) -> Result<(Identity, SegmentLog, Snapshot), StartError> {
    let failed = |error| StartError::Disk(config.dir.clone(), error);
    let alone = config.initial.iter().all(|peer| peer.name == config.name);
    loop {
        let disk = disk::open(config, alone).await?;
        door.show(&disk);
        let Disk { log, snapshot, next, .. } = disk;
        match bootstrap::find(config, door, next).await? {
            Found::Identity(identity) => {
                let identity = identity.next_life(&config.dir).map_err(failed)?;
                return Ok((identity, log, snapshot));
            }
            Found::Outdated(why) if alone => {
                let help = quorum::help_alone(&config.name, &door.known().members);
                return Err(StartError::Outdated(config.dir.clone(), why, help));
            }
            Found::Outdated(why) => {
                drop(log);
                aside::set_aside(&config.dir, &format!("the directory is an old copy: {why}"))
                    .map_err(failed)?;
            }
        }
    }
}

/// The first founder initialises Raft, once all founders have their numbers.
async fn initialise(member: &Member, config: &Config) -> Result<(), StartError> {
    let raft = |error: String| StartError::Raft(error);
    if member.identity.node != 1 || config.initial.first().is_none_or(|first| first.name != config.name) {
        return Ok(());
    }
    if member.raft.is_initialized().await.map_err(|error| raft(error.to_string()))? {
        return Ok(());
    }
    bootstrap::found_others(config, member.identity).await?;
    let members: std::collections::BTreeMap<u64, Node> =
        config.initial.iter().zip(1..).map(|(peer, node)| (node, Node::new(&peer.addr))).collect();
    member.raft.initialize(members).await.map_err(|error| raft(error.to_string()))?;
    first_election(member, config.timing.election_max).await.map_err(|error| raft(error.to_string()))
}

/// Stands for election until somebody leads: nobody can have led before, so there is nobody to wait
/// for but founders that are still opening their logs. Past `limit` the timers go on alone.
async fn first_election(member: &Member, limit: Duration) -> Result<(), openraft::error::Fatal<TypeConfig>> {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        // A Pre-Vote raises no term where it is not granted.
        member.raft.trigger().elect(true).await?;
        let led = |metrics: &RaftMetrics<TypeConfig>| metrics.current_leader.is_some();
        if member.raft.wait(Some(FIRST_ELECTION_PAUSE)).metrics(led, "a first leader").await.is_ok() {
            break;
        }
    }
    Ok(())
}
