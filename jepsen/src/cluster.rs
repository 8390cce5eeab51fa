//! A cluster of real processes, as an operator sees it: the command line, the folder, the pids.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{sleep, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::error::Error;
use crate::net::Net;
use crate::{http, settings};

pub use crate::settings::NodeAddrs;

/// Time limit for the cluster to become ready, or for a killed node to end.
const START: Duration = Duration::from_secs(60);
/// Time limit for a node's status page.
const ANSWER: Duration = Duration::from_millis(500);
/// Pause between two polls of the status pages.
const POLL: Duration = Duration::from_millis(20);
/// Pause between two polls of a process that is not a child of this one: the system does not report its end.
const POLL_PROCESS: Duration = Duration::from_millis(1);

/// A running cluster. Dropping it kills all its processes. Nodes are counted from 0.
#[derive(Debug)]
pub struct Cluster {
    binary: PathBuf,
    dir: PathBuf,
    nodes: Vec<NodeAddrs>,
    net: Option<Net>,
    vars: Vec<(String, String)>,
    _dev: Child,
    /// Reads what `limes dev` prints: a full pipe would stop it.
    _output: AbortOnDropHandle<()>,
    /// Nodes that this process has restarted; the others are children of `limes dev`.
    restarted: Vec<Option<Child>>,
}

impl Cluster {
    /// Starts `limes dev` and waits for its ready line.
    ///
    /// # Errors
    /// It did not start, or did not become ready in time.
    pub async fn start(binary: &Path, dir: &Path, nodes: usize) -> Result<Self, Error> {
        Cluster::spawn(binary, dir, nodes, None, Vec::new()).await
    }

    /// As [`Cluster::start`], with settings of all nodes as environment variables.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub async fn start_with(
        binary: &Path,
        dir: &Path,
        nodes: usize,
        vars: &[(&str, &str)],
    ) -> Result<Self, Error> {
        let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Cluster::spawn(binary, dir, nodes, None, vars.collect()).await
    }

    /// As [`Cluster::start`], in a new folder, with nodes that reach each other through a [`Net`].
    ///
    /// # Errors
    /// As [`Cluster::start`]; or the folder is not new.
    pub async fn start_netted(binary: &Path, dir: &Path, nodes: usize) -> Result<Self, Error> {
        let net = settings::write(dir, nodes).await?;
        Cluster::spawn(binary, dir, nodes, Some(net), Vec::new()).await
    }

    async fn spawn(
        binary: &Path,
        dir: &Path,
        nodes: usize,
        net: Option<Net>,
        vars: Vec<(String, String)>,
    ) -> Result<Self, Error> {
        let mut dev = Command::new(binary)
            .args(["dev", "--ports", "auto", "--nodes", &nodes.to_string(), "--dir"])
            .arg(dir)
            .envs(vars.clone())
            .stdout(Stdio::piped())
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = dev.stdout.take().ok_or(Error::DevEnded)?;
        let mut lines = BufReader::new(stdout).lines();
        let ready = timeout(START, until_ready(&mut lines)).await;
        ready.map_err(|_| Error::timeout("the cluster did not become ready", START))??;
        let output = tokio::spawn(async move { while matches!(lines.next_line().await, Ok(Some(_))) {} });
        let addrs = (1..=nodes).map(|number| settings::read(dir, number)).collect::<Result<_, _>>()?;
        Ok(Cluster {
            binary: binary.into(),
            dir: dir.into(),
            nodes: addrs,
            net,
            vars,
            _dev: dev,
            _output: AbortOnDropHandle::new(output),
            restarted: (0..nodes).map(|_| None).collect(),
        })
    }

    /// The addresses of all nodes.
    pub fn nodes(&self) -> &[NodeAddrs] {
        &self.nodes
    }

    /// The proxies between the nodes, if the cluster was started with them.
    pub fn net(&self) -> Option<&Net> {
        self.net.as_ref()
    }

    fn folder(&self, node: usize) -> PathBuf {
        self.dir.join(format!("node-{}", node + 1))
    }

    /// The process of a node.
    ///
    /// # Errors
    /// The node has written no pid, or has ended.
    pub fn pid(&self, node: usize) -> Result<i32, Error> {
        let invalid = |file: &Path| Error::File { file: file.to_owned(), what: "a pid" };
        let file = self.folder(node).join("limes.pid");
        if let Some(child) = &self.restarted[node] {
            let pid = child.id().ok_or(Error::NodeEnded(node + 1))?;
            return pid.try_into().map_err(|_| invalid(&file));
        }
        let pid = std::fs::read_to_string(&file)?;
        pid.trim().parse().map_err(|_| invalid(&file))
    }

    /// Sends a signal to a node.
    ///
    /// # Errors
    /// Its pid is not known, or it has ended.
    pub fn signal(&self, node: usize, signal: Signal) -> Result<(), Error> {
        Ok(kill(Pid::from_raw(self.pid(node)?), signal).map_err(std::io::Error::from)?)
    }

    /// Kills nodes with SIGKILL, all at the same moment, and waits until they have ended.
    ///
    /// # Errors
    /// A node is not running, or has not ended within a minute.
    pub async fn kill9(&mut self, nodes: &[usize]) -> Result<(), Error> {
        let pids = nodes.iter().map(|node| self.pid(*node)).collect::<Result<Vec<_>, _>>()?;
        for pid in &pids {
            kill(Pid::from_raw(*pid), Signal::SIGKILL).map_err(std::io::Error::from)?;
        }
        let until = Instant::now() + START;
        for (node, pid) in nodes.iter().zip(pids) {
            let ended = timeout_at(until.into(), has_ended(&mut self.restarted[*node], pid)).await;
            ended.map_err(|_| Error::timeout(format!("node-{} did not end", node + 1), START))??;
        }
        Ok(())
    }

    /// What a node reports at `/status`; `None` if it does not answer in time.
    pub async fn status(&self, node: usize) -> Option<serde_json::Value> {
        let page = http::get(&self.nodes[node].metrics, "/status");
        let page = timeout(ANSWER, page).await.ok()?.ok()?;
        serde_json::from_slice(&page).ok()
    }

    /// The leader that all of these nodes name while they are ready.
    pub async fn leader(&self, nodes: &[usize]) -> Option<usize> {
        let mut named = None;
        for node in nodes {
            let status = self.status(*node).await?;
            let leader = status.get("leader")?.as_str()?.strip_prefix("node-")?.parse::<usize>().ok()?;
            if status.get("ready")?.as_bool() != Some(true) || *named.get_or_insert(leader) != leader {
                return None;
            }
        }
        named?.checked_sub(1)
    }

    /// Waits until all nodes are ready and name one leader; gives the leader.
    ///
    /// # Errors
    /// Not within a minute.
    pub async fn wait_ready(&self) -> Result<usize, Error> {
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        let until = Instant::now() + START;
        while Instant::now() < until {
            if let Some(leader) = self.leader(&all).await {
                return Ok(leader);
            }
            sleep(POLL).await;
        }
        Err(Error::timeout("the cluster did not become ready again", START))
    }

    /// Starts a node again, as an operator would.
    ///
    /// # Errors
    /// The binary cannot be started.
    pub fn restart(&mut self, node: usize) -> Result<(), Error> {
        let log = std::fs::OpenOptions::new().append(true).open(self.folder(node).join("limes.log"))?;
        let child = Command::new(&self.binary)
            .args(["serve", "--config"])
            .arg(self.folder(node).join("limes.yaml"))
            .envs(self.vars.clone())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        self.restarted[node] = Some(child);
        Ok(())
    }
}

async fn until_ready(lines: &mut Lines<BufReader<ChildStdout>>) -> Result<(), Error> {
    while let Some(line) = lines.next_line().await? {
        if line.starts_with("cluster ready") {
            return Ok(());
        }
    }
    Err(Error::DevEnded)
}

/// Waits until a killed node has ended: a child of this process, or of `limes dev`.
async fn has_ended(child: &mut Option<Child>, pid: i32) -> Result<(), Error> {
    match child {
        Some(child) => drop(child.wait().await?),
        None => {
            while kill(Pid::from_raw(pid), None).is_ok() {
                sleep(POLL_PROCESS).await;
            }
        }
    }
    Ok(())
}
