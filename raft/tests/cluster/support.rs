//! Members of a cluster in one process, each on a runtime of its own, so that one can be killed.

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use limes_raft::{Config, Observer, PeerAddr, ProposeError, RaftMetrics, Replica, StartError, Timing};
use limes_routing::{
    Batch, EdgeId, Effect, Event, Incarnation, NodeAddrs, NodeId, Position, Revision, SessionNo, Tables,
    Verdict,
};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// How long anything may take before a test fails: ten times what it takes where nothing else runs.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Patient members: a busy machine may let a process or a disk stand still for a second, and none
/// of these tests is about how fast a leader is missed.
pub const TIMING: Timing = Timing {
    heartbeat: Duration::from_millis(250),
    election_min: Duration::from_millis(1_500),
    election_max: Duration::from_millis(3_000),
};

/// Less patient ones, for what waits for an election: one that fails costs time, nothing else.
pub const BRISK: Timing = Timing {
    heartbeat: Duration::from_millis(100),
    election_min: Duration::from_millis(500),
    election_max: Duration::from_millis(1_000),
};

/// Runs tests at once, each on a thread of its name: they mostly wait, and on a small machine the runner has
/// two threads.
pub fn at_once(tests: &[(&'static str, fn())]) {
    let threads: Vec<_> = tests
        .iter()
        .map(|(name, test)| std::thread::Builder::new().name((*name).to_owned()).spawn(*test).unwrap())
        .collect();
    let ended: Vec<bool> = threads.into_iter().map(|thread| thread.join().is_ok()).collect();
    let failed = tests.iter().zip(ended).filter(|(_, fine)| !fine).map(|((name, _), _)| *name);
    assert_eq!(failed.collect::<Vec<_>>(), Vec::<&str>::new(), "these failed; their words are above");
}

/// Names tests for [`at_once`].
macro_rules! tests {
    ($($test:ident)*) => { &[$((stringify!($test), $test as fn())),*] };
}
pub(crate) use tests;

/// One applied batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub revision: Revision,
    pub batch: Batch,
    pub verdicts: Vec<Verdict>,
}

/// Remembers all that it is told.
#[derive(Default)]
pub struct Recorder {
    pub seen: Mutex<Vec<Seen>>,
    pub jumps: Mutex<Vec<Vec<Effect>>>,
}

impl Recorder {
    pub fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap()
    }
}

impl Observer for Recorder {
    fn identified(&self, _: NodeId, _: [u8; 16], _: [u8; 16]) {}

    fn applied(&self, revision: Revision, batch: &Batch, verdicts: &[Verdict], _: &[Effect], _: &Tables) {
        let (batch, verdicts) = (batch.clone(), verdicts.to_vec());
        self.seen().push(Seen { revision, batch, verdicts });
    }

    fn installed(&self, effects: &[Effect], _: &Tables) {
        self.jumps.lock().unwrap().push(effects.to_vec());
    }
}

/// A member that runs.
pub struct Running {
    runtime: Runtime,
    pub replica: Replica,
    pub recorder: Arc<Recorder>,
}

impl Running {
    /// Runs something on the member's runtime.
    pub fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let (tell, told) = std::sync::mpsc::channel();
        self.runtime.spawn(async move { tell.send(work.await) });
        told.recv_timeout(LIMIT * 2).expect("an answer in time")
    }

    pub fn submit(&self, event: Event) -> Result<Verdict, ProposeError> {
        let replica = self.replica.clone();
        self.run(async move { replica.proposer().submit(event).await })
    }

    pub fn plain(&self, event: Event) -> Result<Revision, ProposeError> {
        let replica = self.replica.clone();
        self.run(async move { replica.propose_plain(event).await })
    }

    pub fn barrier(&self) -> Result<Revision, limes_raft::BarrierError> {
        let replica = self.replica.clone();
        self.run(async move { replica.barrier().await })
    }

    pub fn wait_up(&self) {
        let replica = self.replica.clone();
        let up = self.run(async move {
            let mut up = pin!(replica.wait_up(LIMIT));
            tokio::select! {
                up = &mut up => match up {
                    Ok(_) => Ok(()),
                    Err(error) => Err(format!("{error}; {:?}; {:?}", replica.status(), replica.trouble())),
                },
                // What cannot go on looks like a lost quorum.
                why = replica.failed() => Err(why),
            }
        });
        up.unwrap_or_else(|why| panic!("no epoch: {why}"));
    }

    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> std::sync::mpsc::Receiver<T> {
        let (tell, told) = std::sync::mpsc::channel();
        self.runtime.spawn(async move { tell.send(work.await) });
        told
    }
}

/// A member's place: its name, address and directory, whether it runs or not.
pub struct Place {
    pub name: String,
    pub addr: SocketAddr,
    /// Where the others reach it.
    pub mesh: String,
    pub dir: PathBuf,
    listener: Option<TcpListener>,
    pub running: Option<Running>,
}

/// Tests take turns, so many clusters at a time: most of what they do is wait for elections, but very many
/// at once on a small machine are too slow for each other's.
const TURNS: usize = 6;

static TAKEN: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// A test's turn, until it is dropped.
struct Turn;

impl Turn {
    fn take() -> Turn {
        let taken = TAKEN.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken =
            TAKEN.1.wait_while(taken, |taken| *taken >= TURNS).unwrap_or_else(PoisonError::into_inner);
        *taken += 1;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TAKEN.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        TAKEN.1.notify_one();
    }
}

/// The turn of the test that runs on this thread: its second cluster shares the first one's.
fn turn() -> Rc<Turn> {
    thread_local!(static MINE: RefCell<Weak<Turn>> = const { RefCell::new(Weak::new()) });
    MINE.with_borrow_mut(|mine| {
        mine.upgrade().unwrap_or_else(|| {
            let turn = Rc::new(Turn::take());
            *mine = Rc::downgrade(&turn);
            turn
        })
    })
}

/// Some members with the same founders.
pub struct Cluster {
    pub places: Vec<Place>,
    pub initial: Vec<PeerAddr>,
    pub timing: Timing,
    _dir: tempfile::TempDir,
    _turn: Rc<Turn>,
}

/// A listener on a loopback address that nothing else uses, so that its port can be taken again.
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

fn log_to_stderr() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let filter = tracing_subscriber::EnvFilter::try_from_default_env()
            .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("off"));
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    });
}

impl Cluster {
    /// Places for founders; nothing runs yet.
    pub fn places(founders: usize) -> Cluster {
        log_to_stderr();
        let turn = turn();
        let dir = tempfile::tempdir().unwrap();
        let mut cluster =
            Cluster { places: Vec::new(), initial: Vec::new(), timing: TIMING, _dir: dir, _turn: turn };
        for _ in 0..founders {
            let at = cluster.add_place();
            let place = &cluster.places[at];
            cluster.initial.push(PeerAddr { name: place.name.clone(), addr: place.addr.to_string() });
        }
        cluster
    }

    /// A place more, which is none of the founders'.
    pub fn add_place(&mut self) -> usize {
        let listener = listen();
        let name = format!("node-{}", self.places.len() + 1);
        let addr = listener.local_addr().unwrap();
        let dir = self._dir.path().join(&name);
        let mesh = addr.to_string();
        self.places.push(Place { name, addr, mesh, dir, listener: Some(listener), running: None });
        self.places.len() - 1
    }

    /// Founders that run and are up.
    pub fn start(founders: usize) -> Cluster {
        Cluster::start_with(founders, TIMING)
    }

    /// As [`Cluster::start`], with other timings.
    pub fn start_with(founders: usize, timing: Timing) -> Cluster {
        let mut cluster = Cluster::places(founders);
        cluster.timing = timing;
        let all: Vec<usize> = (0..founders).collect();
        cluster.start_places(&all);
        cluster.places.iter().for_each(|place| place.running().wait_up());
        cluster
    }

    /// Starts some places at the same time; each must come to run.
    pub fn start_places(&mut self, which: &[usize]) {
        let starting: Vec<_> = which.iter().map(|at| (*at, self.begin(*at))).collect();
        for (at, starting) in starting {
            self.places[at].running = Some(starting.finish(LIMIT).expect("it starts"));
        }
    }

    /// Starts one place and waits until it is up.
    pub fn restart(&mut self, at: usize) {
        self.start_places(&[at]);
        self.places[at].running().wait_up();
    }

    /// What a place's member is told.
    pub fn config(&self, at: usize) -> Config {
        let place = &self.places[at];
        let addrs = NodeAddrs { mesh: place.mesh.clone(), ..NodeAddrs::default() };
        let (dir, name) = (place.dir.clone(), place.name.clone());
        Config {
            dir,
            name,
            addrs,
            initial: self.initial.clone(),
            timing: self.timing,
            metrics: RaftMetrics::default(),
        }
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
        let (tell, told) = std::sync::mpsc::channel();
        let observer = recorder.clone();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let (incoming, sockets) = mpsc::channel(64);
            tokio::spawn(async move {
                loop {
                    // Too many files for a moment, or a peer that has gone again.
                    let Ok((socket, _)) = listener.accept().await else {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        continue;
                    };
                    let _ = socket.set_nodelay(true);
                    if incoming.send(socket).await.is_err() {
                        break;
                    }
                }
            });
            tell.send(Replica::start(config, sockets, observer).await)
        });
        Starting { runtime, recorder, told }
    }

    /// Ends a member without a word, as kill -9 would.
    pub fn kill(&mut self, at: usize) {
        let running = self.places[at].running.take().expect("it runs");
        end(running.runtime);
    }

    /// Ends a member properly.
    pub fn stop(&mut self, at: usize) {
        let running = self.places[at].running.take().expect("it runs");
        let replica = running.replica.clone();
        running.run(async move { replica.shutdown().await });
        running.runtime.shutdown_background();
    }

    /// Removes what a member that does not run has on disk.
    pub fn wipe(&self, at: usize) {
        assert!(self.places[at].running.is_none());
        std::fs::remove_dir_all(&self.places[at].dir).unwrap();
    }

    pub fn at(&self, at: usize) -> &Running {
        self.places[at].running()
    }

    /// The place of the member that leads, once there is one that the others agree on.
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

    /// A place that runs and does not lead.
    pub fn follower(&self) -> usize {
        let leader = self.leader();
        self.running().map(|(at, _)| at).find(|at| *at != leader).unwrap()
    }

    pub fn running(&self) -> impl Iterator<Item = (usize, &Running)> {
        self.places.iter().enumerate().filter_map(|(at, place)| Some((at, place.running.as_ref()?)))
    }

    /// Waits until all that run have applied the same, and compares their tables.
    pub fn agree(&self) -> Tables {
        let mut agreed = None;
        eventually("all members hold the same tables", || {
            let mut tables: Vec<Tables> =
                self.running().map(|(_, running)| running.replica.tables()).collect();
            let first = tables.pop().expect("one runs");
            let same = tables.iter().all(|other| *other == first);
            agreed = Some(first);
            same
        });
        agreed.unwrap()
    }
}

impl Place {
    pub fn running(&self) -> &Running {
        self.running.as_ref().expect("it runs")
    }
}

/// A member that is starting.
pub struct Starting {
    runtime: Runtime,
    recorder: Arc<Recorder>,
    told: std::sync::mpsc::Receiver<Result<Replica, StartError>>,
}

impl Starting {
    /// Waits until it runs.
    pub fn finish(self, limit: Duration) -> Result<Running, StartError> {
        let started = self.told.recv_timeout(limit).expect("it starts or fails in time");
        match started {
            Ok(replica) => Ok(Running { runtime: self.runtime, replica, recorder: self.recorder }),
            Err(error) => {
                self.runtime.shutdown_background();
                Err(error)
            }
        }
    }

    /// Whether it has come to an end of its start.
    pub fn is_waiting(&self, time: Duration) -> bool {
        self.told.recv_timeout(time).is_err()
    }

    pub fn kill(self) {
        end(self.runtime);
    }
}

/// What was killed must not write any more when it is started again.
fn end(runtime: Runtime) {
    runtime.shutdown_timeout(Duration::from_secs(10));
}

/// The port of a member that was killed, as soon as its sockets are gone.
fn rebind(addr: SocketAddr) -> TcpListener {
    let mut listener = None;
    eventually("the port can be taken again", || {
        listener = TcpListener::bind(addr).ok();
        listener.is_some()
    });
    listener.unwrap()
}

/// Waits for a condition.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An edge that comes online, whose session and id are the same number.
pub fn online(edge: u64) -> Event {
    Event::EdgeOnline {
        edge: EdgeId(edge),
        session: SessionNo(edge),
        meta: bytes::Bytes::from_static(b"meta"),
        addr: "127.0.0.1:1".into(),
        moving: false,
        owes_offline: false,
    }
}

pub fn offline(edge: u64, at: Position) -> Event {
    Event::EdgeOffline { edge: EdgeId(edge), incarnation: Incarnation(at) }
}

/// The size of a directory's files.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

/// Changes a byte in the middle of the log's first records.
pub fn damage_log(dir: &Path) {
    let segment =
        files(&dir.join("log")).into_iter().find(|file| file.extension().is_some_and(|e| e == "seg"));
    flip(&segment.unwrap(), 200);
}

pub fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
}

/// A copy of a directory, as a backup program makes it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else if std::fs::copy(&from, &to).is_err() {
            // It went away meanwhile, as files of a running node do.
        }
    }
}
