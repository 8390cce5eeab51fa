//! A cluster of real processes, seen from outside: the command line, the folder, the pids.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::net::Net;
use crate::{http, settings};

/// How long the cluster may take to come up.
const START: Duration = Duration::from_secs(60);

/// How long a node may take to say how it is.
const ANSWER: Duration = Duration::from_millis(500);
/// How often a node that is waited for is asked.
const LOOK: Duration = Duration::from_millis(20);

/// One node's addresses.
#[derive(Debug, Clone)]
pub struct NodeAddrs {
    /// For edges.
    pub edges: String,
    /// For services.
    pub services: String,
    /// For metrics and health.
    pub metrics: String,
    /// For operators.
    pub control: String,
}

/// A running cluster. Dropping it ends all its processes.
#[derive(Debug)]
pub struct Cluster {
    binary: PathBuf,
    dir: PathBuf,
    nodes: Vec<NodeAddrs>,
    net: Option<Net>,
    vars: Vec<(String, String)>,
    _dev: Child,
    restarted: Vec<Option<Child>>,
}

impl Cluster {
    /// Starts `limes dev` and waits for its ready line.
    ///
    /// # Errors
    /// It did not become ready in time.
    pub async fn start(binary: &Path, dir: &Path, nodes: usize) -> io::Result<Self> {
        Cluster::spawn(binary, dir, nodes, None, Vec::new()).await
    }

    /// As [`Cluster::start`], with settings of all nodes as environment variables.
    ///
    /// # Errors
    /// As there.
    pub async fn start_with(
        binary: &Path,
        dir: &Path,
        nodes: usize,
        vars: &[(&str, &str)],
    ) -> io::Result<Self> {
        let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Cluster::spawn(binary, dir, nodes, None, vars.collect()).await
    }

    /// As [`Cluster::start`], on a new folder, with nodes that reach each other through a [`Net`].
    ///
    /// # Errors
    /// As there; or the folder is not new.
    pub async fn start_netted(binary: &Path, dir: &Path, nodes: usize) -> io::Result<Self> {
        let net = settings::write(dir, nodes).await?;
        Cluster::spawn(binary, dir, nodes, Some(net), Vec::new()).await
    }

    async fn spawn(
        binary: &Path,
        dir: &Path,
        nodes: usize,
        net: Option<Net>,
        vars: Vec<(String, String)>,
    ) -> io::Result<Self> {
        let mut dev = Command::new(binary)
            .args(["dev", "--ports", "auto", "--nodes", &nodes.to_string(), "--dir"])
            .arg(dir)
            .envs(vars.clone())
            .stdout(Stdio::piped())
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = dev.stdout.take().ok_or_else(|| io::Error::other("no stdout"))?;
        let mut lines = BufReader::new(stdout).lines();
        let ready = async {
            let mut printed = Vec::new();
            while let Some(line) = lines.next_line().await? {
                if line.starts_with("cluster ready") {
                    return Ok(());
                }
                printed.push(line);
            }
            Err(io::Error::other(format!("limes dev ended before the cluster was ready: {printed:?}")))
        };
        timeout(START, ready).await.map_err(|_| io::Error::other("the cluster did not become ready"))??;
        // Later output is read and dropped: a full pipe would block it, and a closed one would end it.
        tokio::spawn(async move { while matches!(lines.next_line().await, Ok(Some(_))) {} });
        let addrs = (1..=nodes).map(|i| settings::read(dir, i)).collect::<io::Result<_>>()?;
        let restarted = (0..nodes).map(|_| None).collect();
        let (binary, dir) = (binary.into(), dir.into());
        Ok(Cluster { binary, dir, nodes: addrs, net, vars, _dev: dev, restarted })
    }

    /// All nodes' addresses.
    pub fn nodes(&self) -> &[NodeAddrs] {
        &self.nodes
    }

    /// What is between the nodes, if they were started with it.
    pub fn net(&self) -> Option<&Net> {
        self.net.as_ref()
    }

    fn folder(&self, i: usize) -> PathBuf {
        self.dir.join(format!("node-{}", i + 1))
    }

    /// The process of node `i`, counted from 0.
    ///
    /// # Errors
    /// It has not said, or is gone.
    pub fn pid(&self, i: usize) -> io::Result<i32> {
        if let Some(child) = &self.restarted[i] {
            let id = child.id().ok_or_else(|| io::Error::other("it has ended"))?;
            return id.try_into().map_err(io::Error::other);
        }
        let pid = std::fs::read_to_string(self.folder(i).join("limes.pid"))?;
        pid.trim().parse().map_err(io::Error::other)
    }

    /// Sends a signal to node `i`, counted from 0.
    ///
    /// # Errors
    /// Its pid is not known, or it is gone.
    pub fn signal(&self, i: usize, signal: Signal) -> io::Result<()> {
        kill(Pid::from_raw(self.pid(i)?), signal).map_err(io::Error::from)
    }

    /// Kills nodes without a word, all in one moment, and waits until they are gone.
    ///
    /// # Errors
    /// One does not run, or is not gone within a minute.
    pub async fn kill9(&mut self, nodes: &[usize]) -> io::Result<()> {
        let pids = nodes.iter().map(|i| self.pid(*i)).collect::<io::Result<Vec<_>>>()?;
        for pid in &pids {
            kill(Pid::from_raw(*pid), Signal::SIGKILL)?;
        }
        let until = Instant::now() + START;
        for (i, pid) in nodes.iter().zip(pids) {
            loop {
                let ended = match &mut self.restarted[*i] {
                    Some(child) => child.try_wait()?.is_some(),
                    // A child of `limes dev`, which waits for it.
                    None => kill(Pid::from_raw(pid), None).is_err(),
                };
                if ended {
                    break;
                }
                if Instant::now() > until {
                    return Err(io::Error::other("a node that was killed is not gone"));
                }
                sleep(Duration::from_millis(1)).await;
            }
        }
        Ok(())
    }

    /// What node `i` says about itself at `/status`; nothing if it does not answer.
    pub async fn status(&self, i: usize) -> Option<serde_json::Value> {
        let asked = http::get(&self.nodes[i].metrics, "/status");
        let body = timeout(ANSWER, asked).await.ok()?.ok()?;
        serde_json::from_str(&body).ok()
    }

    /// The leader that all of these nodes name while they are ready; nodes are counted from 0.
    pub async fn leader(&self, nodes: &[usize]) -> Option<usize> {
        let mut named = None;
        for i in nodes {
            let status = self.status(*i).await?;
            let leader = status.get("leader")?.as_str()?.strip_prefix("node-")?.parse::<usize>().ok()?;
            if status.get("ready")?.as_bool() != Some(true) || *named.get_or_insert(leader) != leader {
                return None;
            }
        }
        named?.checked_sub(1)
    }

    /// Waits until all nodes are ready and name one leader; gives it, counted from 0.
    ///
    /// # Errors
    /// Not within a minute.
    pub async fn wait_ready(&self) -> io::Result<usize> {
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        let until = Instant::now() + START;
        while Instant::now() < until {
            if let Some(leader) = self.leader(&all).await {
                return Ok(leader);
            }
            sleep(LOOK).await;
        }
        Err(io::Error::other("the cluster did not become ready again"))
    }

    /// Brings node `i` back, as an operator would.
    ///
    /// # Errors
    /// The binary cannot be started.
    pub fn restart(&mut self, i: usize) -> io::Result<()> {
        let log = std::fs::OpenOptions::new().append(true).open(self.folder(i).join("limes.log"))?;
        let child = Command::new(&self.binary)
            .args(["serve", "--config"])
            .arg(self.folder(i).join("limes.yaml"))
            .envs(self.vars.clone())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        self.restarted[i] = Some(child);
        Ok(())
    }
}
