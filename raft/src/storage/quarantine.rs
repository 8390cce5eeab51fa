//! Moving a data directory out of the way, and putting another in its place.
//!
//! Beside it where that can be done: a rename is all or nothing. A mount point cannot be renamed, nor can what lies
//! in a folder that is not ours: there the contents are moved into a directory within. A link is followed first, so
//! that the data stays where it was put.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use tracing::error;

use crate::storage::identity;
use crate::storage::log::files::at;

/// What is set aside when something of it is damaged.
const TRUSTED: [&str; 4] = ["log", "identity", "snapshot", "members"];
/// All that a member keeps in its directory.
const ALL: [&str; 5] = ["identity", "log", "snapshot", "members", "history"];
/// What a directory holds that is to take the place of another; the identity is the last to come.
const NEW: [&str; 3] = ["log", "snapshot", "identity"];
/// Says in a new directory what became of the one before; it is read only where there is no identity.
const LOST: &str = "rejoin";

/// Moves a directory that cannot be trusted out of the way: `data` becomes `data.damaged-1`, or
/// `data/damaged-1` where the directory itself cannot be renamed. In its place comes an empty one that
/// says so, for a node that had data must not found another cluster.
///
/// # Errors
/// The disk failed.
pub(crate) fn set_aside(dir: &Path, why: &str) -> io::Result<()> {
    let dir = fs::canonicalize(dir).map_err(at(dir))?;
    let aside = beside(&dir, why).or_else(|_| within(&dir, why))?;
    error!(%why, aside = %aside.display(), "this member's data cannot be trusted: it was set aside, and the node joins as a new member");
    Ok(())
}

/// Whether what was in a directory was set aside.
///
/// # Errors
/// The disk failed.
pub(crate) fn is_lost(dir: &Path) -> io::Result<bool> {
    let note = dir.join(LOST);
    note.try_exists().map_err(at(&note))
}

/// The node has joined again.
pub(crate) fn forget_loss(dir: &Path) {
    // If this fails the node is a member all the same; the file is only read without an identity.
    let _ = fs::remove_file(dir.join(LOST));
}

/// Makes the directory that is to take the place of one by [`swap`]: within it, so on the same file system, and
/// whoever may write the one can make the other.
///
/// # Errors
/// The disk failed.
pub(crate) fn begin(dir: &Path) -> io::Result<PathBuf> {
    let fresh = free(|n| dir.join(format!("recovering-{n}")))?;
    fs::create_dir(&fresh).map_err(at(&fresh))?;
    Ok(fresh)
}

/// Puts what [`begin`] made in the place of a directory, which is kept as `data.before-N` or
/// `data/before-N`.
///
/// # Errors
/// The disk failed.
pub(crate) fn swap(dir: &Path, fresh: &Path) -> io::Result<PathBuf> {
    own(fresh, dir)?;
    swap_beside(dir, fresh).or_else(|_| swap_within(dir, fresh))
}

fn swap_beside(dir: &Path, fresh: &Path) -> io::Result<PathBuf> {
    let name = fresh.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let aside = free_beside(dir, "before")?;
    fs::rename(dir, &aside)?;
    take_place(&aside.join(name), dir, &aside)?;
    sync(&aside)?;
    Ok(aside)
}

fn swap_within(dir: &Path, fresh: &Path) -> io::Result<PathBuf> {
    let aside = free(|n| dir.join(format!("before-{n}")))?;
    fs::create_dir(&aside).map_err(at(&aside))?;
    own(&aside, dir)?;
    let swapped = || {
        // Cut short, this is a member without its data, not an empty node that may found a cluster.
        note(dir, "limes recover was cut short", &aside)?;
        move_those_there(dir, &aside, &ALL)?;
        move_all(fresh, dir, &NEW)
    };
    swapped().map_err(|error| {
        let text = format!("{error}; what was not moved is in {} and {}", aside.display(), fresh.display());
        io::Error::new(error.kind(), text)
    })?;
    forget_loss(dir);
    // Nothing is in it any more.
    let _ = fs::remove_dir(fresh);
    Ok(aside)
}

fn beside(dir: &Path, why: &str) -> io::Result<PathBuf> {
    let (aside, fresh) = make_ready(dir, why)?;
    let done = fs::rename(dir, &aside).and_then(|()| take_place(&fresh, dir, &aside));
    if done.is_err() {
        let _ = fs::remove_dir_all(&fresh);
    }
    done.map(|()| aside)
}

/// Where a directory will be kept, and what will be in its place, ready for it. All that takes long is done while
/// the directory is still there: whoever is killed must not look like a node that never had data.
fn make_ready(dir: &Path, why: &str) -> io::Result<(PathBuf, PathBuf)> {
    let (aside, fresh) = (free_beside(dir, "damaged")?, free_beside(dir, "fresh")?);
    fs::create_dir(&fresh)?;
    let ready = note(&fresh, why, &aside).and_then(|()| own(&fresh, dir));
    if ready.is_err() {
        let _ = fs::remove_dir_all(&fresh);
    }
    ready.map(|()| (aside, fresh))
}

/// Renames a directory to where another was, which goes back there if that fails.
fn take_place(fresh: &Path, dir: &Path, aside: &Path) -> io::Result<()> {
    if let Err(error) = fs::rename(fresh, dir) {
        fs::rename(aside, dir)?;
        return Err(error);
    }
    sync(parent(dir))
}

fn within(dir: &Path, why: &str) -> io::Result<PathBuf> {
    let aside = free(|n| dir.join(format!("damaged-{n}")))?;
    fs::create_dir(&aside).map_err(at(&aside))?;
    note(dir, why, &aside)?;
    move_those_there(dir, &aside, &TRUSTED)?;
    Ok(aside)
}

/// Says in a directory what became of what was there; durable when it returns.
fn note(dir: &Path, why: &str, aside: &Path) -> io::Result<()> {
    let text = format!("{why}\nwhat was here is kept in {}\n", aside.display());
    identity::replace(dir, LOST, &[text.as_bytes()])
}

/// Moves those of some files that are there.
fn move_those_there(from: &Path, to: &Path, names: &[&str]) -> io::Result<()> {
    let there: Vec<&str> =
        names.iter().copied().filter(|name| fs::symlink_metadata(from.join(name)).is_ok()).collect();
    move_all(from, to, &there)
}

/// Moves files in this order; durable when it returns.
fn move_all(from: &Path, to: &Path, names: &[&str]) -> io::Result<()> {
    for name in names {
        fs::rename(from.join(name), to.join(name)).map_err(at(&from.join(name)))?;
    }
    sync(to)?;
    sync(from)
}

/// Gives a new directory, with all that is in it, the mode and the owner of another: what root repairs is the
/// service's.
fn own(fresh: &Path, like: &Path) -> io::Result<()> {
    let like = fs::metadata(like).map_err(at(like))?;
    fs::set_permissions(fresh, like.permissions()).map_err(at(fresh))?;
    give(fresh, like.uid(), like.gid())
}

fn give(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let is = fs::symlink_metadata(path).map_err(at(path))?;
    if (is.uid(), is.gid()) != (uid, gid) {
        match chown(path, Some(uid), Some(gid)) {
            // Who may not give it away is who has made it, and who will run the member.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            done => {
                done.map_err(at(path))?;
                sync(path)?;
            }
        }
    }
    if is.is_dir() {
        for entry in fs::read_dir(path).map_err(at(path))? {
            give(&entry.map_err(at(path))?.path(), uid, gid)?;
        }
    }
    Ok(())
}

/// The folder that a directory lies in.
pub(crate) fn parent(dir: &Path) -> &Path {
    dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(at(path))
}

fn free(name: impl Fn(u32) -> PathBuf) -> io::Result<PathBuf> {
    let free = (1..10_000).map(name).find(|path| !path.exists());
    free.ok_or_else(|| io::Error::other("no name is left for what is set aside"))
}

/// A name beside a directory that is not taken.
fn free_beside(dir: &Path, what: &str) -> io::Result<PathBuf> {
    let name = dir.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
    free(|n| dir.with_file_name(format!("{name}.{what}-{n}")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A directory with something in each of its places, and what is to come instead.
    fn place(root: &Path) -> (PathBuf, PathBuf) {
        let dir = root.join("data");
        for folder in ["log", "history"] {
            fs::create_dir_all(dir.join(folder)).unwrap();
            fs::write(dir.join(folder).join("file"), "old").unwrap();
        }
        for file in ["identity", "snapshot", "members"] {
            fs::write(dir.join(file), "old").unwrap();
        }
        let fresh = begin(&dir).unwrap();
        fs::create_dir(fresh.join("log")).unwrap();
        for file in ["log/file", "snapshot", "identity"] {
            fs::write(fresh.join(file), "new").unwrap();
        }
        (dir, fresh)
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn holds(dir: &Path, what: &str) -> bool {
        ["identity", "snapshot", "log/file"]
            .iter()
            .all(|file| fs::read_to_string(dir.join(file)).unwrap() == what)
    }

    #[test]
    fn what_is_recovered_takes_the_place_of_what_was_there() {
        let root = tempfile::tempdir().unwrap();
        let (dir, fresh) = place(root.path());
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o750)).unwrap();
        // Only root may give it to the service; it must not keep what it makes there.
        let owner = if chown(&dir, Some(4_711), Some(4_711)).is_ok() {
            4_711
        } else {
            fs::metadata(&dir).unwrap().uid()
        };
        let aside = swap(&dir, &fresh).unwrap();
        for file in [dir.clone(), dir.join("log"), dir.join("log/file"), dir.join("identity")] {
            assert_eq!(fs::metadata(&file).unwrap().uid(), owner, "{}", file.display());
        }
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o750);
        assert_eq!(names(root.path()), ["data", "data.before-1"]);
        assert_eq!(aside, root.path().join("data.before-1"));
        assert_eq!(names(&dir), ["identity", "log", "snapshot"]);
        assert_eq!(names(&aside), ["history", "identity", "log", "members", "snapshot"]);
        assert!(holds(&dir, "new") && holds(&aside, "old"));
    }

    /// As where the directory is a mount point, or its parent is not ours.
    #[test]
    fn what_cannot_be_renamed_is_swapped_within() {
        let root = tempfile::tempdir().unwrap();
        let (dir, fresh) = place(root.path());
        // What a volume has of its own stays.
        fs::create_dir(dir.join("lost+found")).unwrap();
        let aside = swap_within(&dir, &fresh).unwrap();
        assert_eq!(names(root.path()), ["data"]);
        assert_eq!(aside, dir.join("before-1"));
        assert_eq!(names(&dir), ["before-1", "identity", "log", "lost+found", "snapshot"]);
        assert_eq!(names(&aside), ["history", "identity", "log", "members", "snapshot"]);
        assert!(holds(&dir, "new") && holds(&aside, "old") && !is_lost(&dir).unwrap());
    }

    /// One that fails half way has changed nothing, or leaves what founds no cluster.
    #[test]
    fn a_swap_that_fails_leaves_no_empty_node() {
        let root = tempfile::tempdir().unwrap();
        let (dir, fresh) = place(root.path());
        assert!(swap_beside(&dir, &dir.join("not-there")).is_err());
        assert!(holds(&dir, "old"), "it is where it was");
        fs::remove_file(fresh.join("identity")).unwrap();
        let error = swap_within(&dir, &fresh).unwrap_err().to_string();
        assert!(is_lost(&dir).unwrap() && !dir.join("identity").exists());
        assert!(holds(&dir.join("before-1"), "old") && error.contains("before-1"), "{error}");
    }

    #[test]
    fn what_is_damaged_is_set_aside_where_it_really_is() {
        let root = tempfile::tempdir().unwrap();
        let (dir, _) = place(&root.path().join("disk"));
        let link = root.path().join("link");
        std::os::unix::fs::symlink(&dir, &link).unwrap();
        set_aside(&link, "a test").unwrap();
        assert!(link.is_symlink() && is_lost(&link).unwrap());
        assert_eq!(names(root.path()), ["disk", "link"]);
        assert_eq!(names(&root.path().join("disk")), ["data", "data.damaged-1"]);
        assert_eq!(names(&dir), ["rejoin"]);
        assert!(holds(&root.path().join("disk/data.damaged-1"), "old"));
    }

    /// Whoever is killed while it sets its data aside still has it, or knows that it has lost it.
    #[test]
    fn the_note_is_there_before_the_data_goes() {
        let root = tempfile::tempdir().unwrap();
        let (dir, _) = place(root.path());
        let (aside, fresh) = make_ready(&dir, "a test").unwrap();
        assert!(holds(&dir, "old") && !aside.exists());
        assert_eq!(names(&fresh), ["rejoin"]);
    }

    #[test]
    fn what_is_damaged_is_set_aside_within() {
        let root = tempfile::tempdir().unwrap();
        let (dir, fresh) = place(root.path());
        fs::remove_dir_all(fresh).unwrap();
        assert_eq!(within(&dir, "a test").unwrap(), dir.join("damaged-1"));
        assert_eq!(names(&dir), ["damaged-1", "history", "rejoin"]);
        assert!(holds(&dir.join("damaged-1"), "old"));
    }
}
