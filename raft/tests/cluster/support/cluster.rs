//! Clusters of members, each in a place of its own.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use limes_raft::{Config, PeerAddr, RaftMetrics, Replica, Timing};
use limes_routing::{NodeAddrs, Tables};
use tokio::sync::mpsc;

use super::member::{Recorder, Running, Starting, end};
use super::permit::{Permit, permit};
use super::{LIMIT, TIMING, eventually, log_to_stderr};

/// The place of a member: its name, address and directory, whether it runs or not.
pub struct Place {
    pub name: String,
    pub addr: SocketAddr,
    /// The address that other members use.
    pub mesh: String,
    pub dir: PathBuf,
    listener: Option<TcpListener>,
    pub running: Option<Running>,
}

/// Members with the same founders.
pub struct Cluster {
    pub places: Vec<Place>,
    pub initial: Vec<PeerAddr>,
    pub timing: Timing,
    pub metrics: RaftMetrics,
    _dir: tempfile::TempDir,
    _permit: Rc<Permit>,
}

/// A listener on a loopback address that no other process uses, so that its port can be bound again.
fn listen() -> TcpListener {
    use rand::Rng;
    let mut rng = rand::rng();
    for _ in 0..100 {
        let ip = [127, rng.random_range(1..=254), rng.random(), rng.random_range(2..=254)];
        if let Ok(listener) = TcpListener::bind(SocketAddr::from((ip, 0))) {
            return listener;
        }
    }
    panic!("no loopback address can be bound");
}

impl Cluster {
    /// Places for founders; nothing runs yet.
    pub fn places(founders: usize) -> Cluster {
        log_to_stderr();
        let (permit, dir) = (permit(), tempfile::tempdir().unwrap());
        let (places, initial, metrics) = (Vec::new(), Vec::new(), RaftMetrics::default());
        let mut cluster = Cluster { places, initial, timing: TIMING, metrics, _dir: dir, _permit: permit };
        for _ in 0..founders {
            let at = cluster.add_place();
            let place = &cluster.places[at];
            cluster.initial.push(PeerAddr { name: place.name.clone(), addr: place.addr.to_string() });
        }
        cluster
    }

    /// Adds a place that is not a founder.
    pub fn add_place(&mut self) -> usize {
        let listener = listen();
        let name = format!("node-{}", self.places.len() + 1);
        let addr = listener.local_addr().unwrap();
        let dir = self._dir.path().join(&name);
        let mesh = addr.to_string();
        self.places.push(Place { name, addr, mesh, dir, listener: Some(listener), running: None });
        self.places.len() - 1
    }

    /// A cluster of founders that are up.
    pub fn start(founders: usize) -> Cluster {
        Cluster::start_with(founders, TIMING)
    }

    /// As [`Cluster::start`], with other timers.
    pub fn start_with(founders: usize, timing: Timing) -> Cluster {
        let mut cluster = Cluster::places(founders);
        cluster.timing = timing;
        let all: Vec<usize> = (0..founders).collect();
        cluster.start_places(&all);
        cluster.places.iter().for_each(|place| place.running().wait_up());
        cluster
    }

    /// Starts some places at the same time, and waits until each of them runs.
    pub fn start_places(&mut self, which: &[usize]) {
        let starting: Vec<_> = which.iter().map(|at| (*at, self.begin(*at))).collect();
        for (at, starting) in starting {
            self.places[at].running = Some(starting.finish(LIMIT).expect("the member starts"));
        }
    }

    /// Starts one place and waits until it is up.
    pub fn restart(&mut self, at: usize) {
        self.start_places(&[at]);
        self.places[at].running().wait_up();
    }

    /// The configuration of a place.
    pub fn config(&self, at: usize) -> Config {
        let place = &self.places[at];
        let addrs = NodeAddrs { mesh: place.mesh.clone(), ..NodeAddrs::default() };
        let (dir, name) = (place.dir.clone(), place.name.clone());
        let (initial, timing, metrics) = (self.initial.clone(), self.timing, self.metrics.clone());
        Config { dir, name, addrs, initial, timing, metrics }
    }

    /// Begins to start a place.
    pub fn begin(&mut self, at: usize) -> Starting {
        let config = self.config(at);
        let place = &mut self.places[at];
        assert!(place.running.is_none(), "{} runs already", place.name);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        let listener = place.listener.take().unwrap_or_else(|| rebind(place.addr));
        listener.set_nonblocking(true).unwrap();
        let recorder = Arc::new(Recorder::default());
        let (sender, started) = std::sync::mpsc::channel();
        let observer = recorder.clone();
        runtime.spawn(async move {
            let (incoming, sockets) = mpsc::channel(64);
            tokio::spawn(accept(listener, incoming));
            sender.send(Replica::start(config, sockets, observer).await)
        });
        Starting { runtime, recorder, started }
    }

    /// Ends a member abruptly, as kill -9 does.
    pub fn kill(&mut self, at: usize) {
        let running = self.places[at].running.take().expect("the member runs");
        end(running.runtime);
    }

    /// Shuts a member down.
    pub fn stop(&mut self, at: usize) {
        let running = self.places[at].running.take().expect("the member runs");
        let replica = running.replica.clone();
        running.run(async move { replica.shutdown().await });
        running.runtime.shutdown_background();
    }

    /// Removes the data directory of a member that does not run.
    pub fn wipe(&self, at: usize) {
        assert!(self.places[at].running.is_none());
        std::fs::remove_dir_all(&self.places[at].dir).unwrap();
    }

    pub fn at(&self, at: usize) -> &Running {
        self.places[at].running()
    }

    /// The place of the leader, once all running members agree on it.
    pub fn leader(&self) -> usize {
        let mut found = None;
        eventually("a leader", || {
            let named: Vec<_> = self.running().map(|(_, running)| running.replica.leader()).collect();
            found = self.running().find(|(_, running)| running.replica.is_leader()).map(|(at, _)| at);
            let leader = found.map(|at| self.at(at).replica.node());
            leader.is_some() && named.iter().all(|named| *named == leader)
        });
        found.unwrap()
    }

    /// The place of a running member that does not lead.
    pub fn follower(&self) -> usize {
        let leader = self.leader();
        self.running().map(|(at, _)| at).find(|at| *at != leader).unwrap()
    }

    pub fn running(&self) -> impl Iterator<Item = (usize, &Running)> {
        self.places.iter().enumerate().filter_map(|(at, place)| Some((at, place.running.as_ref()?)))
    }

    /// Waits until all running members have the same tables; returns them.
    pub fn agree(&self) -> Tables {
        let mut agreed = None;
        eventually("all members hold the same tables", || {
            let mut tables: Vec<Tables> =
                self.running().map(|(_, running)| running.replica.tables()).collect();
            let first = tables.pop().expect("a member runs");
            let same = tables.iter().all(|other| *other == first);
            agreed = Some(first);
            same
        });
        agreed.unwrap()
    }
}

impl Place {
    pub fn running(&self) -> &Running {
        self.running.as_ref().expect("the member runs")
    }
}

/// Binds the port of a killed member, as soon as its sockets are gone.
fn rebind(addr: SocketAddr) -> TcpListener {
    let mut listener = None;
    eventually("the port can be bound again", || {
        listener = TcpListener::bind(addr).ok();
        listener.is_some()
    });
    listener.unwrap()
}

/// Accepts connections for a member.
async fn accept(listener: TcpListener, incoming: mpsc::Sender<tokio::net::TcpStream>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        // An error is temporary: too many open files, or a peer that has gone again.
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let _ = socket.set_nodelay(true);
        if incoming.send(socket).await.is_err() {
            break;
        }
    }
}
