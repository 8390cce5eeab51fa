use std::os::unix::fs::PermissionsExt;

use super::*;

/// A directory with every kind of file in it, and its replacement.
fn directory(root: &Path) -> (PathBuf, PathBuf) {
    let dir = root.join("data");
    for folder in ["log", "history"] {
        fs::create_dir_all(dir.join(folder)).unwrap();
        fs::write(dir.join(folder).join("file"), "old").unwrap();
    }
    for file in ["identity", "snapshot", "members"] {
        fs::write(dir.join(file), "old").unwrap();
    }
    let fresh = make_replacement(&dir).unwrap();
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

fn holds(dir: &Path, content: &str) -> bool {
    ["identity", "snapshot", "log/file"]
        .iter()
        .all(|file| fs::read_to_string(dir.join(file)).unwrap() == content)
}

#[test]
fn swap_keeps_the_old_directory_beside_the_new_one() {
    let root = tempfile::tempdir().unwrap();
    let (dir, fresh) = directory(root.path());
    let kept = swap(&dir, &fresh).unwrap();
    assert_eq!(names(root.path()), ["data", "data.before-1"]);
    assert_eq!(kept, root.path().join("data.before-1"));
    assert_eq!(names(&dir), ["identity", "log", "snapshot"]);
    assert_eq!(names(&kept), ["history", "identity", "log", "members", "snapshot"]);
    assert!(holds(&dir, "new") && holds(&kept, "old"));
}

#[test]
fn swap_keeps_owner_and_mode() {
    let root = tempfile::tempdir().unwrap();
    let (dir, fresh) = directory(root.path());
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o750)).unwrap();
    // Only root can change the owner; any other user compares with its own id.
    let owner =
        if chown(&dir, Some(4_711), Some(4_711)).is_ok() { 4_711 } else { fs::metadata(&dir).unwrap().uid() };
    swap(&dir, &fresh).unwrap();
    for file in [dir.clone(), dir.join("log"), dir.join("log/file"), dir.join("identity")] {
        assert_eq!(fs::metadata(&file).unwrap().uid(), owner, "{}", file.display());
    }
    assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o750);
}

/// The case of a mount point, or of a parent directory that belongs to another user.
#[test]
fn directory_that_cannot_be_renamed_is_swapped_within() {
    let root = tempfile::tempdir().unwrap();
    let (dir, fresh) = directory(root.path());
    // A file system's own directory stays.
    fs::create_dir(dir.join("lost+found")).unwrap();
    let kept = swap_within(&dir, &fresh).unwrap();
    assert_eq!(names(root.path()), ["data"]);
    assert_eq!(kept, dir.join("before-1"));
    assert_eq!(names(&dir), ["before-1", "identity", "log", "lost+found", "snapshot"]);
    assert_eq!(names(&kept), ["history", "identity", "log", "members", "snapshot"]);
    assert!(holds(&dir, "new") && holds(&kept, "old") && !has_lost_data(&dir).unwrap());
}

#[test]
fn failed_swap_beside_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let (dir, _) = directory(root.path());
    assert!(swap_beside(&dir, &dir.join("not-there")).is_err());
    assert!(holds(&dir, "old"), "the directory has moved");
}

#[test]
fn failed_swap_within_leaves_a_node_that_founds_no_cluster() {
    let root = tempfile::tempdir().unwrap();
    let (dir, fresh) = directory(root.path());
    fs::remove_file(fresh.join("identity")).unwrap();
    let error = swap_within(&dir, &fresh).unwrap_err().to_string();
    assert!(has_lost_data(&dir).unwrap() && !dir.join("identity").exists());
    assert!(holds(&dir.join("before-1"), "old") && error.contains("before-1"), "{error}");
}

#[test]
fn quarantine_follows_a_link_to_the_directory() {
    let root = tempfile::tempdir().unwrap();
    let (dir, _) = directory(&root.path().join("disk"));
    let link = root.path().join("link");
    std::os::unix::fs::symlink(&dir, &link).unwrap();
    quarantine(&link, "a test").unwrap();
    assert!(link.is_symlink() && has_lost_data(&link).unwrap());
    assert_eq!(names(root.path()), ["disk", "link"]);
    assert_eq!(names(&root.path().join("disk")), ["data", "data.damaged-1"]);
    assert_eq!(names(&dir), ["rejoin"]);
    assert!(holds(&root.path().join("disk/data.damaged-1"), "old"));
}

/// A process that is killed during the quarantine still has its data, or a note that the data is lost.
#[test]
fn note_is_written_before_the_data_moves() {
    let root = tempfile::tempdir().unwrap();
    let (dir, _) = directory(root.path());
    let (kept, fresh) = prepare_beside(&dir, "a test").unwrap();
    assert!(holds(&dir, "old") && !kept.exists());
    assert_eq!(names(&fresh), ["rejoin"]);
}

#[test]
fn directory_that_cannot_be_renamed_is_quarantined_within() {
    let root = tempfile::tempdir().unwrap();
    let (dir, fresh) = directory(root.path());
    fs::remove_dir_all(fresh).unwrap();
    assert_eq!(move_within(&dir, "a test").unwrap(), dir.join("damaged-1"));
    assert_eq!(names(&dir), ["damaged-1", "history", "rejoin"]);
    assert!(holds(&dir.join("damaged-1"), "old"));
}
