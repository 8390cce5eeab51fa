//! A local cluster: all its nodes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::error::{DevError, Missing};
use super::exit::NodeExit;
use super::layout::Layout;
use super::node::Node;
use super::ports::Ports;
use super::status::{self, Ready, Status};
use crate::config::NodeConfig;

/// Interval between queries of a state that is waited for.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long a new cluster is watched for exits because another process took a port.
const STARTUP: Duration = Duration::from_secs(10);
/// How many sets of free ports are tried.
const ATTEMPTS: usize = 4;
/// How long a node may take to exit after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(4);
/// Exits that may wait to be read.
const EXITS: usize = 256;

/// Changes the settings of a node before they are first written.
pub type Adjust = Arc<dyn Fn(&mut NodeConfig) + Send + Sync>;

/// How to start a cluster.
#[derive(Clone)]
pub struct Options {
    /// The `limes` binary.
    pub binary: PathBuf,
    /// How many nodes; `None`: those of the folder, else 3.
    pub nodes: Option<usize>,
    /// The folder; an existing one is used unchanged.
    pub dir: PathBuf,
    /// The ports of a new folder.
    pub ports: Ports,
    /// Changes to the settings of a new folder.
    pub adjust: Adjust,
}

/// A running cluster on this machine. Nodes are numbered from 1, as in their names. Dropping it kills
/// all of them.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    exits: Mutex<mpsc::Receiver<NodeExit>>,
}

impl Cluster {
    /// Starts every node of a folder. If another process takes a free port meanwhile, starts again with
    /// other ports. The cluster need not be ready when this returns.
    ///
    /// # Errors
    /// The folder cannot be used, or a node ended.
    pub async fn start(options: Options) -> Result<Cluster, DevError> {
        let mut attempt = 1;
        loop {
            let layout = Layout::open(&options.dir, options.nodes, options.ports, &*options.adjust)?;
            let cluster = Cluster::spawn(&options, &layout)?;
            let Err(exit) = cluster.all_alive().await else { return Ok(cluster) };
            cluster.shutdown().await;
            let conflict =
                layout.fresh && options.ports == Ports::Auto && exit.last_log_line.contains("in use");
            if !conflict || attempt == ATTEMPTS {
                return Err(DevError::Exited(exit));
            }
            layout.remove()?;
            attempt += 1;
        }
    }

    fn spawn(options: &Options, layout: &Layout) -> Result<Self, DevError> {
        let (sender, exits) = mpsc::channel(EXITS);
        let node = |folder| Node::new(options.binary.clone(), folder, sender.clone());
        let cluster = Cluster { nodes: layout.folders.iter().map(node).collect(), exits: Mutex::new(exits) };
        cluster.nodes.iter().try_for_each(Node::start)?;
        Ok(cluster)
    }

    /// Waits until every node answers; returns early if one exits. A node that does not answer in time is not
    /// an error.
    async fn all_alive(&self) -> Result<(), NodeExit> {
        let answered = async {
            for node in &self.nodes {
                let metrics = node.addresses().metrics;
                while !status::is_alive(&metrics).await {
                    sleep(POLL_INTERVAL).await;
                }
            }
        };
        tokio::select! {
            _ = timeout(STARTUP, answered) => Ok(()),
            exit = self.next_exit() => Err(exit),
        }
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Node `i`, from 1.
    ///
    /// # Panics
    /// There is no such node.
    pub fn node(&self, i: usize) -> &Node {
        &self.nodes[i - 1]
    }

    /// Kills node `i` (SIGKILL) and waits until it has exited.
    ///
    /// # Errors
    /// It does not run.
    pub async fn kill9(&self, i: usize) -> Result<(), DevError> {
        self.node(i).signal(Signal::SIGKILL)?;
        self.node(i).ended().await;
        Ok(())
    }

    /// Freezes node `i` (SIGSTOP) and waits until all its threads are stopped.
    ///
    /// # Errors
    /// It does not run.
    pub async fn stop_signal(&self, i: usize) -> Result<(), DevError> {
        self.node(i).signal(Signal::SIGSTOP)?;
        self.node(i).stopped().await;
        Ok(())
    }

    /// Continues node `i` (SIGCONT).
    ///
    /// # Errors
    /// It does not run.
    pub fn cont_signal(&self, i: usize) -> Result<(), DevError> {
        self.node(i).signal(Signal::SIGCONT)
    }

    /// Asks node `i` to drain and exit (SIGTERM); [`Node::ended`] waits for it.
    ///
    /// # Errors
    /// It does not run.
    pub fn terminate(&self, i: usize) -> Result<(), DevError> {
        self.node(i).signal(Signal::SIGTERM)
    }

    /// Starts node `i` again after its exit.
    ///
    /// # Errors
    /// It runs, or cannot be started.
    pub fn restart(&self, i: usize) -> Result<(), DevError> {
        self.node(i).start()
    }

    /// Waits until every running node is ready and all name the same leader.
    ///
    /// # Errors
    /// A node that ran when this was called exits, or the time is over.
    pub async fn wait_ready(&self, within: Duration) -> Result<Ready, DevError> {
        let begin = Instant::now();
        let running: Vec<_> = self.nodes.iter().filter(|node| node.pid().is_some()).collect();
        loop {
            if running.iter().any(|node| node.pid().is_none()) {
                return Err(DevError::Exited(self.next_exit().await));
            }
            let missing = match self.agreed(&running).await {
                Ok(ready) => return Ok(ready),
                Err(missing) => missing,
            };
            if begin.elapsed() >= within {
                return Err(DevError::NotReady { after: within, missing });
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// What all of `running` agree on.
    ///
    /// # Errors
    /// What is missing.
    async fn agreed(&self, running: &[&Node]) -> Result<Ready, Missing> {
        for node in running {
            if !status::is_ready(&node.addresses().metrics).await {
                return Err(Missing::Readiness { node: node.name().to_owned(), log: node.log() });
            }
        }
        let statuses = self.statuses().await;
        let first = statuses.first().ok_or(Missing::Nodes)?;
        let same = |status: &&Status| status.leader == first.leader && status.voters == first.voters;
        match &first.leader {
            Some(leader)
                if statuses.len() == running.len() && statuses.iter().all(|status| same(&status)) =>
            {
                Ok(Ready { leader: leader.clone(), voters: first.voters })
            }
            _ => Err(Missing::Leader),
        }
    }

    /// The number of the node that most running nodes name as leader.
    pub async fn leader(&self) -> Option<usize> {
        let statuses = self.statuses().await;
        let leader = status::leader(&statuses)?;
        self.nodes.iter().position(|node| node.name() == leader).map(|i| i + 1)
    }

    /// The views of the running nodes; without those that do not answer.
    pub async fn statuses(&self) -> Vec<Status> {
        let mut queries = JoinSet::new();
        for node in self.nodes.iter().filter(|node| node.pid().is_some()) {
            let metrics = node.addresses().metrics;
            queries.spawn(async move { status::query(&metrics).await });
        }
        queries.join_all().await.into_iter().flatten().collect()
    }

    /// Waits for the next node that exits, for whatever reason.
    ///
    /// # Cancel safety
    /// Cancel safe: no exit is lost.
    pub async fn next_exit(&self) -> NodeExit {
        match self.exits.lock().await.recv().await {
            Some(exit) => exit,
            // The nodes hold senders for as long as `self` exists.
            None => std::future::pending().await,
        }
    }

    /// Ends all nodes: by SIGTERM, and after 4 s by SIGKILL.
    pub async fn shutdown(&self) {
        for signal in [Signal::SIGTERM, Signal::SIGCONT] {
            self.signal_all(signal);
        }
        if timeout(GRACE, self.all_ended()).await.is_err() {
            self.signal_all(Signal::SIGKILL);
            // Only a process that is stuck in the kernel survives SIGKILL.
            let _ = timeout(GRACE, self.all_ended()).await;
        }
    }

    fn signal_all(&self, signal: Signal) {
        for node in &self.nodes {
            // Nodes that have exited need no signal.
            let _ = node.signal(signal);
        }
    }

    async fn all_ended(&self) {
        for node in &self.nodes {
            node.ended().await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.signal_all(Signal::SIGKILL);
    }
}
