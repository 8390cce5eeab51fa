//! All nodes of a local cluster.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::error::DevError;
use super::layout::Layout;
use super::node::Node;
use super::ports::Ports;
use super::process::Death;
use super::status::{self, Ready, Status};
use crate::config::NodeConfig;

/// How often a state that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long a first start is watched for ports that somebody else took.
const FIRST_STEPS: Duration = Duration::from_secs(10);
/// How often other free ports are tried.
const ATTEMPTS: usize = 4;
/// How long a node that was asked to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(4);
/// Deaths that may wait to be read.
const DEATHS: usize = 256;

/// What is changed in the settings of a node before they are first written.
pub type Adjust = Arc<dyn Fn(&mut NodeConfig) + Send + Sync>;

/// What to start.
#[derive(Clone)]
pub struct Options {
    /// The `limes` binary.
    pub binary: PathBuf,
    /// How many nodes; nothing: those that the folder has, else 3.
    pub nodes: Option<usize>,
    /// The folder; an existing one is used as it is.
    pub dir: PathBuf,
    /// The ports of a new folder.
    pub ports: Ports,
    /// What else is different in a new folder.
    pub adjust: Adjust,
}

/// A running cluster on this machine. Nodes are counted from 1, as in their names. Dropping it kills
/// them all.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    deaths: Mutex<mpsc::Receiver<Death>>,
}

impl Cluster {
    /// Starts every node of a folder; free ports that somebody else takes at that moment are
    /// replaced by others. The cluster need not be ready yet.
    ///
    /// # Errors
    /// The folder cannot be used, or a node ended.
    pub async fn start(options: Options) -> Result<Cluster, DevError> {
        let mut attempt = 1;
        loop {
            let layout = Layout::open(&options.dir, options.nodes, options.ports, &*options.adjust)?;
            let cluster = Cluster::spawn(&options, &layout)?;
            let Err(death) = cluster.first_steps().await else { return Ok(cluster) };
            cluster.shutdown().await;
            let conflict =
                layout.fresh && options.ports == Ports::Auto && death.last_words.contains("in use");
            if !conflict || attempt == ATTEMPTS {
                return Err(DevError::Died(death));
            }
            layout.remove()?;
            attempt += 1;
        }
    }

    fn spawn(options: &Options, layout: &Layout) -> Result<Self, DevError> {
        let (tell, deaths) = mpsc::channel(DEATHS);
        let node = |place| Node::new(options.binary.clone(), place, tell.clone());
        let cluster = Cluster { nodes: layout.places.iter().map(node).collect(), deaths: Mutex::new(deaths) };
        cluster.nodes.iter().try_for_each(Node::start)?;
        Ok(cluster)
    }

    /// Waits until every node answers at all; a slow one is no failure, a dead one is.
    async fn first_steps(&self) -> Result<(), Death> {
        let answered = async {
            for node in &self.nodes {
                let metrics = node.addresses().metrics;
                while !status::is_alive(&metrics).await {
                    sleep(LOOK).await;
                }
            }
        };
        tokio::select! {
            _ = timeout(FIRST_STEPS, answered) => Ok(()),
            death = self.next_death() => Err(death),
        }
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Node `i`, counted from 1.
    ///
    /// # Panics
    /// There is no such node.
    pub fn node(&self, i: usize) -> &Node {
        &self.nodes[i - 1]
    }

    /// Kills node `i` without a word, as `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// It does not run.
    pub async fn kill9(&self, i: usize) -> Result<(), DevError> {
        self.node(i).signal(Signal::SIGKILL)?;
        self.node(i).ended().await;
        Ok(())
    }

    /// Freezes node `i` (SIGSTOP).
    ///
    /// # Errors
    /// It does not run.
    pub fn stop_signal(&self, i: usize) -> Result<(), DevError> {
        self.node(i).signal(Signal::SIGSTOP)
    }

    /// Wakes node `i` (SIGCONT).
    ///
    /// # Errors
    /// It does not run.
    pub fn cont_signal(&self, i: usize) -> Result<(), DevError> {
        self.node(i).signal(Signal::SIGCONT)
    }

    /// Asks node `i` to end in good order (SIGTERM); [`Node::ended`] waits for it.
    ///
    /// # Errors
    /// It does not run.
    pub fn terminate(&self, i: usize) -> Result<(), DevError> {
        self.node(i).signal(Signal::SIGTERM)
    }

    /// Starts node `i` again after its end.
    ///
    /// # Errors
    /// It runs, or cannot be started.
    pub fn restart(&self, i: usize) -> Result<(), DevError> {
        self.node(i).start()
    }

    /// Waits until every running node is ready and all name the same leader.
    ///
    /// # Errors
    /// A node that ran when this was called ends meanwhile, or the time is over.
    pub async fn wait_ready(&self, within: Duration) -> Result<Ready, DevError> {
        let begin = Instant::now();
        let running: Vec<_> = self.nodes.iter().filter(|node| node.pid().is_some()).collect();
        loop {
            if running.iter().any(|node| node.pid().is_none()) {
                return Err(DevError::Died(self.next_death().await));
            }
            let missing = match self.agreed(&running).await {
                Ok(ready) => return Ok(ready),
                Err(missing) => missing,
            };
            if begin.elapsed() >= within {
                return Err(DevError::NotReady { after: within, missing });
            }
            sleep(LOOK).await;
        }
    }

    /// What all of `running` agree on, or who does not.
    async fn agreed(&self, running: &[&Node]) -> Result<Ready, String> {
        for node in running {
            if !status::is_ready(&node.addresses().metrics).await {
                return Err(format!("{} is not ready (its log: {})", node.name(), node.log().display()));
            }
        }
        let statuses = self.statuses().await;
        let first = statuses.first().ok_or("no node runs")?;
        let same = |status: &&Status| status.leader == first.leader && status.voters == first.voters;
        match &first.leader {
            Some(leader)
                if statuses.len() == running.len() && statuses.iter().all(|status| same(&status)) =>
            {
                Ok(Ready { leader: leader.clone(), voters: first.voters })
            }
            _ => Err("the nodes do not agree on a leader".into()),
        }
    }

    /// The number of the node that most running nodes call the leader.
    pub async fn leader(&self) -> Option<usize> {
        let statuses = self.statuses().await;
        let leader = status::leader(&statuses)?;
        self.nodes.iter().position(|node| node.name() == leader).map(|i| i + 1)
    }

    /// What the running nodes say about themselves; those that do not answer are left out.
    pub async fn statuses(&self) -> Vec<Status> {
        let mut asked = JoinSet::new();
        for node in self.nodes.iter().filter(|node| node.pid().is_some()) {
            let metrics = node.addresses().metrics;
            asked.spawn(async move { status::ask(&metrics).await });
        }
        asked.join_all().await.into_iter().flatten().collect()
    }

    /// Waits for the next node that ends, for whatever reason.
    ///
    /// Cancel safety: no death is lost when this is dropped.
    pub async fn next_death(&self) -> Death {
        match self.deaths.lock().await.recv().await {
            Some(death) => death,
            // Not while the nodes, which can tell, are there.
            None => std::future::pending().await,
        }
    }

    /// Ends all nodes within 5 s: in good order first, then without asking.
    pub async fn shutdown(&self) {
        for signal in [Signal::SIGTERM, Signal::SIGCONT] {
            self.signal_all(signal);
        }
        if timeout(GRACE, self.all_ended()).await.is_err() {
            self.signal_all(Signal::SIGKILL);
            // Only a process stuck in the kernel outlives that.
            let _ = timeout(GRACE, self.all_ended()).await;
        }
    }

    fn signal_all(&self, signal: Signal) {
        for node in &self.nodes {
            // One that has ended needs none.
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
