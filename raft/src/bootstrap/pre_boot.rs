//! What a member answers from while it is not running yet: its identity, once it has one.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::config::Config;
use crate::consensus::member::Member;
use crate::storage::data_dir::Disk;
use crate::storage::identity::{self, Identity};
use crate::storage::member_cache::Known;
use crate::storage::quarantine as aside;

/// The door of a member: shut to Raft's messages until it runs.
pub(crate) struct Door {
    dir: PathBuf,
    /// Its number if it founds, by its own list of founders.
    founder: Option<u64>,
    held: Mutex<Held>,
    member: OnceLock<Arc<Member>>,
}

/// What the disk holds.
#[derive(Default)]
struct Held {
    /// Whether the disk has been read.
    read: bool,
    identity: Option<Identity>,
    log: u64,
    lost: bool,
    unused: bool,
    known: Known,
}

impl Door {
    pub(crate) fn new(config: &Config) -> Self {
        let founder = config.initial.iter().zip(1..).find(|(peer, _)| peer.name == config.name);
        let founder = founder.map(|(_, number)| number);
        Door { dir: config.dir.clone(), founder, held: Mutex::default(), member: OnceLock::new() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers from a disk that was opened, in place of one before.
    pub(crate) fn show(&self, disk: &Disk) {
        let Disk { identity, log, lost, unused, .. } = disk;
        let known = Known::read(&self.dir);
        let (identity, log, lost, unused) = (*identity, log.id(), *lost, *unused);
        *self.held() = Held { read: true, identity, log, lost, unused, known };
    }

    /// Whether the disk has been read: before, nobody knows whether there is an identity on it, and none
    /// may be given.
    pub(crate) fn has_read(&self) -> bool {
        self.held().read
    }

    /// Lets Raft's messages in.
    pub(crate) fn open(&self, member: Arc<Member>) {
        let _ = self.member.set(member);
    }

    pub(crate) fn member(&self) -> Option<&Arc<Member>> {
        self.member.get()
    }

    pub(crate) fn identity(&self) -> Option<Identity> {
        self.held().identity
    }

    /// Whether it had data that was set aside, and has not been let in again.
    pub(crate) fn has_lost(&self) -> bool {
        self.held().lost
    }

    /// Whether it has an identity, and its log has never held anything.
    pub(crate) fn is_unused(&self) -> bool {
        let held = self.held();
        held.identity.is_some() && held.unused
    }

    pub(crate) fn known(&self) -> Known {
        self.held().known.clone()
    }

    /// Takes the number that the first founder gives.
    pub(crate) fn found(&self, cluster: [u8; 16], node: u64) -> Result<(), String> {
        if self.has_lost() {
            return Err("its data was damaged and set aside: it founds nothing".to_owned());
        }
        match self.founder {
            Some(founder) if founder == node => self.accept(cluster, node),
            _ => Err(format!("by its own cluster.initial this node is not founder {node}")),
        }
    }

    /// Takes an identity, durably; the same again is fine, another is refused.
    pub(crate) fn accept(&self, cluster: [u8; 16], node: u64) -> Result<(), String> {
        let mut held = self.held();
        match held.identity {
            Some(known) if known.cluster == cluster && known.node == node => Ok(()),
            Some(_) => Err("this node already belongs to a cluster".to_owned()),
            None => {
                let fresh = Identity { cluster, node, log: held.log, lives: 0, salt: 0 };
                identity::write(&self.dir, fresh).map_err(|error| error.to_string())?;
                aside::forget_loss(&self.dir);
                held.identity = Some(fresh);
                held.unused = true;
                held.lost = false;
                Ok(())
            }
        }
    }
}
