//! The pre-boot state: what this node answers before Raft runs, and how it takes an identity.

use std::io;
use std::path::PathBuf;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::config::Config;
use crate::storage::data_dir::DataDir;
use crate::storage::identity::{self, Identity};
use crate::storage::member_cache::MemberCache;
use crate::storage::quarantine;

/// Why a node cannot take an identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A node that had data founds no cluster.
    #[error("the data of this node was damaged and is in quarantine: it founds no cluster")]
    LostData,
    /// The founders do not have the same list in the same order.
    #[error("by its own cluster.initial this node is not founder {0}")]
    NotThisFounder(u64),
    /// It has another identity.
    #[error("this node already belongs to a cluster")]
    OtherIdentity,
    /// The identity cannot be written.
    #[error("{0}")]
    Disk(#[from] io::Error),
}

/// What this node answers before Raft runs: its identity, once it has one.
pub(crate) struct PreBoot {
    dir: PathBuf,
    /// This node's number if it is a founder, by its own list of founders.
    founder: Option<u64>,
    disk: Mutex<Disk>,
    identified: Notify,
}

/// What the data directory holds.
#[derive(Default)]
struct Disk {
    /// Whether the directory has been read.
    read: bool,
    identity: Option<Identity>,
    log: u64,
    lost_data: bool,
    unused: bool,
    cache: MemberCache,
}

impl PreBoot {
    pub(crate) fn new(config: &Config) -> Self {
        let founder = config.initial.iter().zip(1..).find(|(peer, _)| peer.name == config.name);
        PreBoot {
            dir: config.dir.clone(),
            founder: founder.map(|(_, number)| number),
            disk: Mutex::default(),
            identified: Notify::new(),
        }
    }

    /// Answers from this directory from now on, in place of the one before.
    pub(super) fn set_data(&self, data: &DataDir) {
        let DataDir { identity, log, lost_data, unused, .. } = data;
        let cache = MemberCache::read(&self.dir);
        let (identity, log, lost_data, unused) = (*identity, log.id(), *lost_data, *unused);
        *self.disk.lock() = Disk { read: true, identity, log, lost_data, unused, cache };
    }

    /// Whether the directory has been read. Before, it is unknown whether it holds an identity, and the node
    /// must not take one.
    pub(crate) fn has_read(&self) -> bool {
        self.disk.lock().read
    }

    pub(crate) fn identity(&self) -> Option<Identity> {
        self.disk.lock().identity
    }

    /// Waits until an identity is taken.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn identified(&self) {
        self.identified.notified().await;
    }

    /// Whether the node had data that is in quarantine, and has not joined again.
    pub(crate) fn has_lost_data(&self) -> bool {
        self.disk.lock().lost_data
    }

    /// Whether the node has an identity and a log that has never held anything.
    pub(crate) fn is_unused(&self) -> bool {
        let disk = self.disk.lock();
        disk.identity.is_some() && disk.unused
    }

    pub(crate) fn member_cache(&self) -> MemberCache {
        self.disk.lock().cache.clone()
    }

    /// Takes the number that the first founder assigns.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub(crate) fn accept_founding(&self, cluster: [u8; 16], node: u64) -> Result<(), IdentityError> {
        if self.has_lost_data() {
            return Err(IdentityError::LostData);
        }
        match self.founder {
            Some(founder) if founder == node => self.accept(cluster, node),
            _ => Err(IdentityError::NotThisFounder(node)),
        }
    }

    /// Takes an identity, durably. Taking the same identity again succeeds.
    ///
    /// # Errors
    /// [`IdentityError::OtherIdentity`] or [`IdentityError::Disk`].
    pub(super) fn accept(&self, cluster: [u8; 16], node: u64) -> Result<(), IdentityError> {
        let mut disk = self.disk.lock();
        match disk.identity {
            Some(known) if known.cluster == cluster && known.node == node => Ok(()),
            Some(_) => Err(IdentityError::OtherIdentity),
            None => {
                let fresh = Identity { cluster, node, log: disk.log, boots: 0, salt: 0 };
                identity::write(&self.dir, fresh)?;
                quarantine::clear_note(&self.dir);
                disk.identity = Some(fresh);
                disk.unused = true;
                disk.lost_data = false;
                self.identified.notify_one();
                Ok(())
            }
        }
    }
}
