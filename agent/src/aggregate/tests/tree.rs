use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::*;

const S_NS: u64 = 1_000_000_000;

fn tree_of(root: &Path) -> Tree {
    Tree::new(Hierarchy { number: 0, mount: root.to_owned(), root: "/".to_owned() })
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

/// Works until no walk is under way; says how many steps that took.
fn finish(tree: &mut Tree, now_ns: u64) -> u32 {
    let mut steps = 0;
    loop {
        tree.work(now_ns);
        steps += 1;
        if tree.walk.is_none() {
            return steps;
        }
    }
}

#[test]
fn what_was_there_before_is_found_at_the_start_and_what_came_later_by_searching() {
    let root = tempfile::tempdir().unwrap();
    let unit = root.path().join("system.slice/nginx.service");
    fs::create_dir_all(&unit).unwrap();
    let mut tree = tree_of(root.path());
    tree.seed(0);
    assert_eq!(tree.path(inode(&unit)).as_deref(), Some("/system.slice/nginx.service"));
    assert_eq!(tree.path(inode(root.path())).as_deref(), Some("/"));
    let job = root.path().join("job");
    fs::create_dir(&job).unwrap();
    assert_eq!(tree.path(inode(&job)), None);
    tree.work(S_NS / 2);
    assert_eq!(tree.path(inode(&job)), None, "searched a moment ago");
    tree.work(S_NS);
    assert_eq!(tree.path(inode(&job)).as_deref(), Some("/job"));
}

#[test]
fn a_removed_directory_is_known_for_some_windows() {
    let root = tempfile::tempdir().unwrap();
    let mut tree = tree_of(root.path());
    tree.seed(0);
    tree.made(77, "/short".into());
    tree.removed(77);
    tree.removed(77);
    for _ in 0..KEPT_WINDOWS {
        assert_eq!(tree.path(77).as_deref(), Some("/short"));
        tree.end_window();
    }
    assert_eq!(tree.path(77), None);
    assert_eq!(tree.len(), 1, "the top");
}

/// Where the kernel does not tell of removals, a walk that does not see a directory does.
#[test]
fn a_walk_forgets_what_it_does_not_see() {
    let root = tempfile::tempdir().unwrap();
    let job = root.path().join("job");
    fs::create_dir(&job).unwrap();
    let mut tree = tree_of(root.path());
    tree.seed(0);
    let id = inode(&job);
    fs::remove_dir(&job).unwrap();
    assert_eq!(tree.path(1), None);
    finish(&mut tree, 2 * S_NS);
    assert_eq!(tree.path(id).as_deref(), Some("/job"), "a window may still mention it");
    (0..KEPT_WINDOWS).for_each(|_| tree.end_window());
    assert_eq!(tree.path(id), None);
}

#[test]
fn a_large_tree_is_walked_in_steps_and_then_left_alone_for_long() {
    let root = tempfile::tempdir().unwrap();
    for i in 0..STEP_ENTRIES + 10 {
        fs::create_dir(root.path().join(format!("d{i}"))).unwrap();
    }
    let mut tree = tree_of(root.path());
    assert_eq!(tree.path(5), None);
    let steps = finish(&mut tree, 0);
    assert!((3..=5).contains(&steps), "{steps} steps");
    assert_eq!(tree.len(), STEP_ENTRIES + 11);
    assert!(tree.rest_until_ns >= S_NS);
    assert!(tree.rest_until_ns > 3 * STEP_ENTRIES as u64 * PAUSE_PER_ENTRY_NS / 2, "{}", tree.rest_until_ns);
}

#[test]
fn the_memory_is_bounded_and_what_is_gone_makes_room_first() {
    let root = tempfile::tempdir().unwrap();
    let mut tree = tree_of(root.path());
    let most = MOST as u64;
    for id in 0..most {
        tree.made(1_000_000 + id, format!("/{id}").into());
    }
    tree.made(1, "/one-too-many".into());
    assert_eq!((tree.len(), tree.refused(), tree.path(1)), (MOST, 1, None));
    tree.removed(1_000_000);
    tree.made(1, "/now-there-is-room".into());
    assert!(tree.path(1).is_some() && tree.path(1_000_000).is_none());
    let mut long = tree_of(root.path());
    for id in 0..9_000 {
        long.made(id, format!("/{id}-{}", "x".repeat(1_000)).into());
    }
    assert!(long.bytes <= MOST_BYTES && long.refused() > 0);
}
