//! The first part of a start: opens the data directory, and finds out who this member is.

use std::io;

use super::error::StartError;
use super::home::{Home, verify};
use super::pre_boot::PreBoot;
use super::search::search;
use crate::config::Config;
use crate::membership::quorum_report::help_alone;
use crate::storage::data_dir::{self, DataDir, LoadedSnapshot};
use crate::storage::identity::Identity;
use crate::storage::log::{OpenError, SegmentLog};
use crate::storage::member_cache::MemberCache;
use crate::storage::quarantine::quarantine;

/// A member with an identity, at its next boot.
pub(crate) struct Booted {
    pub(crate) identity: Identity,
    pub(crate) log: SegmentLog,
    pub(crate) snapshot: Option<LoadedSnapshot>,
}

/// Opens the data directory, finds out who this member is, and begins its next boot. An old copy is
/// quarantined like a damaged directory, and the member joins as a new one.
///
/// # Errors
/// [`StartError`].
///
/// # Cancel safety
/// Safe: the next start continues from what is on disk.
pub(crate) async fn identify(config: &Config, pre_boot: &PreBoot) -> Result<Booted, StartError> {
    let failed = |error| StartError::Disk(config.dir.clone(), error);
    loop {
        let data = open(config).await?;
        pre_boot.set_data(&data);
        let DataDir { log, snapshot, next_index, .. } = data;
        let identity = match pre_boot.identity() {
            None => search(config, pre_boot).await?,
            Some(identity) => match verify(config, pre_boot, identity, next_index).await? {
                Home::Valid => identity,
                Home::Stale(why) if config.is_alone() => {
                    let help = help_alone(&config.name, &pre_boot.member_cache().members);
                    return Err(StartError::StaleCopy { path: config.dir.clone(), why, help });
                }
                Home::Stale(why) => {
                    drop(log);
                    quarantine(&config.dir, &format!("the directory is an old copy: {why}"))
                        .map_err(failed)?;
                    continue;
                }
            },
        };
        let identity = identity.next_boot(&config.dir).map_err(failed)?;
        return Ok(Booted { identity, log, snapshot });
    }
}

/// Opens the data directory. A damaged one is quarantined, if there are other nodes to join.
///
/// # Errors
/// The disk failed, the data was written by another version, or it is damaged and `cluster.initial` names no
/// other node.
async fn open(config: &Config) -> Result<DataDir, StartError> {
    let dir = &config.dir;
    let failed = |error| StartError::Disk(dir.to_owned(), error);
    data_dir::make(dir).map_err(failed)?;
    let damage = match data_dir::open(dir, &config.metrics).await {
        Ok(data) => return Ok(data),
        Err(OpenError::Io(error)) => return Err(failed(error)),
        Err(error @ OpenError::Unknown { .. }) => return Err(StartError::UnknownFormat(error)),
        Err(damage) => damage,
    };
    if config.is_alone() {
        // The member cache is intact even if the log is not.
        let help = help_alone(&config.name, &MemberCache::read(dir).members);
        return Err(StartError::Damaged(damage, help));
    }
    quarantine(dir, &damage.to_string()).map_err(failed)?;
    let opened = data_dir::open(dir, &config.metrics).await;
    opened.map_err(|error| failed(io::Error::other(error.to_string())))
}
