//! Quarantine: moving a data directory out of the way, and putting another in its place.
//!
//! The directory is renamed to a place beside itself where possible, because a rename is atomic. A mount
//! point cannot be renamed, nor can a directory whose parent belongs to another user: there the contents
//! are moved into a directory within. A symbolic link is resolved first, so that the data stays on the disk
//! it was put on.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use tracing::error;

use super::atomic::{replace, sync, with_path};

/// What a quarantine moves when something of it is damaged.
const UNTRUSTED: [&str; 4] = ["log", "identity", "snapshot", "members"];
/// All that a member keeps in its directory.
const ALL: [&str; 5] = ["identity", "log", "snapshot", "members", "history"];
/// What a directory holds that replaces another; the identity comes last.
const NEW: [&str; 3] = ["log", "snapshot", "identity"];
/// The note in the new directory that says where the old data is. Only a directory without an identity is
/// searched for it.
const NOTE: &str = "rejoin";

/// Moves a directory that cannot be trusted out of the way: `data` becomes `data.damaged-1`, or
/// `data/damaged-1` where the directory itself cannot be renamed. An empty directory with a note takes its
/// place, because a node that once had data must not found another cluster.
///
/// # Errors
/// The disk failed.
pub(crate) fn quarantine(dir: &Path, why: &str) -> io::Result<()> {
    let dir = fs::canonicalize(dir).map_err(with_path(dir))?;
    let kept = move_beside(&dir, why).or_else(|_| move_within(&dir, why))?;
    error!(%why, quarantine = %kept.display(), "the data of this member cannot be trusted: it is in quarantine, and the node joins as a new member");
    Ok(())
}

/// Whether the data of this directory was quarantined and the node has not joined again.
///
/// # Errors
/// The disk failed.
pub(crate) fn has_lost_data(dir: &Path) -> io::Result<bool> {
    let note = dir.join(NOTE);
    note.try_exists().map_err(with_path(&note))
}

/// Removes the note, once the node has an identity again.
pub(crate) fn clear_note(dir: &Path) {
    // A note that stays does no harm: it is only read where there is no identity.
    let _ = fs::remove_file(dir.join(NOTE));
}

/// Makes the directory that [`swap`] will put in the place of `dir`: within it, so on the same file system,
/// and possible for every user who may write `dir`.
///
/// # Errors
/// The disk failed.
pub(crate) fn make_replacement(dir: &Path) -> io::Result<PathBuf> {
    let fresh = free_name(|n| dir.join(format!("recovering-{n}")))?;
    fs::create_dir(&fresh).map_err(with_path(&fresh))?;
    Ok(fresh)
}

/// Puts the directory of [`make_replacement`] in the place of `dir`, which is kept as `data.before-N` or
/// `data/before-N`. Returns where it is kept.
///
/// # Errors
/// The disk failed.
pub(crate) fn swap(dir: &Path, fresh: &Path) -> io::Result<PathBuf> {
    take_ownership_of(dir, fresh)?;
    swap_beside(dir, fresh).or_else(|_| swap_within(dir, fresh))
}

fn swap_beside(dir: &Path, fresh: &Path) -> io::Result<PathBuf> {
    let name = fresh.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let kept = free_name_beside(dir, "before")?;
    fs::rename(dir, &kept)?;
    rename_or_restore(&kept.join(name), dir, &kept)?;
    sync(&kept)?;
    Ok(kept)
}

fn swap_within(dir: &Path, fresh: &Path) -> io::Result<PathBuf> {
    let kept = free_name(|n| dir.join(format!("before-{n}")))?;
    fs::create_dir(&kept).map_err(with_path(&kept))?;
    take_ownership_of(dir, &kept)?;
    let swapped = || {
        // The note comes first: if the process ends half-way, this is a member that lost its data, not an
        // empty node that may found a cluster.
        write_note(dir, "limes recover was interrupted", &kept)?;
        move_existing(dir, &kept, &ALL)?;
        move_all(fresh, dir, &NEW)
    };
    swapped().map_err(|error| {
        let text = format!("{error}; what was not moved is in {} and {}", kept.display(), fresh.display());
        io::Error::new(error.kind(), text)
    })?;
    clear_note(dir);
    // It is empty now.
    let _ = fs::remove_dir(fresh);
    Ok(kept)
}

fn move_beside(dir: &Path, why: &str) -> io::Result<PathBuf> {
    let (kept, fresh) = prepare_beside(dir, why)?;
    let cleanup = remove_unless_disarmed(fresh);
    fs::rename(dir, &kept)?;
    rename_or_restore(&cleanup, dir, &kept)?;
    scopeguard::ScopeGuard::into_inner(cleanup);
    Ok(kept)
}

/// Where a directory will be kept, and the directory that takes its place, complete. All slow steps come
/// before the first rename: a process that is killed in between still has its data.
fn prepare_beside(dir: &Path, why: &str) -> io::Result<(PathBuf, PathBuf)> {
    let (kept, fresh) = (free_name_beside(dir, "damaged")?, free_name_beside(dir, "fresh")?);
    fs::create_dir(&fresh)?;
    let cleanup = remove_unless_disarmed(fresh);
    write_note(&cleanup, why, &kept)?;
    take_ownership_of(dir, &cleanup)?;
    Ok((kept, scopeguard::ScopeGuard::into_inner(cleanup)))
}

/// Removes a directory when it is dropped, unless `ScopeGuard::into_inner` takes it first.
fn remove_unless_disarmed(dir: PathBuf) -> scopeguard::ScopeGuard<PathBuf, impl FnOnce(PathBuf)> {
    scopeguard::guard(dir, |dir| {
        let _ = fs::remove_dir_all(dir);
    })
}

/// Renames `fresh` to `dir`. If that fails, `kept` is renamed back to `dir`.
fn rename_or_restore(fresh: &Path, dir: &Path, kept: &Path) -> io::Result<()> {
    if let Err(error) = fs::rename(fresh, dir) {
        fs::rename(kept, dir)?;
        return Err(error);
    }
    sync(parent(dir))
}

fn move_within(dir: &Path, why: &str) -> io::Result<PathBuf> {
    let kept = free_name(|n| dir.join(format!("damaged-{n}")))?;
    fs::create_dir(&kept).map_err(with_path(&kept))?;
    write_note(dir, why, &kept)?;
    move_existing(dir, &kept, &UNTRUSTED)?;
    Ok(kept)
}

/// Writes the note into a directory; durable when it returns.
fn write_note(dir: &Path, why: &str, kept: &Path) -> io::Result<()> {
    let text = format!("{why}\nwhat was here is kept in {}\n", kept.display());
    replace(dir, NOTE, &[text.as_bytes()])
}

/// Moves those of the named files that exist.
fn move_existing(from: &Path, to: &Path, names: &[&str]) -> io::Result<()> {
    let existing: Vec<&str> =
        names.iter().copied().filter(|name| fs::symlink_metadata(from.join(name)).is_ok()).collect();
    move_all(from, to, &existing)
}

/// Moves files in this order; durable when it returns.
fn move_all(from: &Path, to: &Path, names: &[&str]) -> io::Result<()> {
    for name in names {
        fs::rename(from.join(name), to.join(name)).map_err(with_path(&from.join(name)))?;
    }
    sync(to)?;
    sync(from)
}

/// Gives `fresh` and all in it the mode and the owner of `like`, so that the service can use what root
/// repaired.
fn take_ownership_of(like: &Path, fresh: &Path) -> io::Result<()> {
    let like = fs::metadata(like).map_err(with_path(like))?;
    fs::set_permissions(fresh, like.permissions()).map_err(with_path(fresh))?;
    change_owner(fresh, like.uid(), like.gid())
}

fn change_owner(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path).map_err(with_path(path))?;
    if (metadata.uid(), metadata.gid()) != (uid, gid) {
        match chown(path, Some(uid), Some(gid)) {
            // A user who may not change the owner made the file, and will also run the member.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            changed => {
                changed.map_err(with_path(path))?;
                sync(path)?;
            }
        }
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path).map_err(with_path(path))? {
            change_owner(&entry.map_err(with_path(path))?.path(), uid, gid)?;
        }
    }
    Ok(())
}

/// The directory that a directory lies in.
pub(crate) fn parent(dir: &Path) -> &Path {
    dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn free_name(name: impl Fn(u32) -> PathBuf) -> io::Result<PathBuf> {
    let free = (1..10_000).map(name).find(|path| !path.exists());
    free.ok_or_else(|| io::Error::other("no free name is left for the quarantine"))
}

/// A free name beside a directory.
fn free_name_beside(dir: &Path, what: &str) -> io::Result<PathBuf> {
    let name = dir.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
    free_name(|n| dir.with_file_name(format!("{name}.{what}-{n}")))
}

#[cfg(test)]
#[path = "quarantine_tests.rs"]
mod tests;
