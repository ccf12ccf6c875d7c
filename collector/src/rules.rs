//! The folder of rules beside the pack: read at the start, and again when something in it changes.

use std::hash::BuildHasher;
use std::path::{Path, PathBuf};
use std::time::Duration;

use skep_rules::load::Loaded;
use tokio::sync::mpsc;

use crate::respond::Ask;

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Most entries that are looked at; a folder with more is told apart by these.
const MAX_ENTRIES: usize = 50_000;

/// The pack, and what the folder holds beside it.
pub fn load(folder: Option<&Path>) -> Loaded {
    let mut loaded = Loaded::pack();
    if let Some(folder) = folder {
        loaded.folder(folder);
    }
    loaded
}

/// Says on the log what was not taken.
pub fn report(loaded: &Loaded) {
    for refused in &loaded.refused {
        tracing::warn!(file = %refused.source, rule = %refused.rule, reason = %refused.reason, "a rule is refused");
    }
    let (refused, reserved) = (loaded.refused.len(), loaded.warnings.len());
    tracing::info!(rules = loaded.rules.len(), refused, reserved, "rules loaded; `skep rules lint` tells about them");
}

/// Reads the folder again whenever it changes, until the responder is gone.
pub async fn watch(folder: PathBuf, asks: mpsc::Sender<Ask>) {
    let mut known = fingerprint(&folder);
    loop {
        tokio::time::sleep(LOOK).await;
        let place = folder.clone();
        let read = tokio::task::spawn_blocking(move || {
            let now = fingerprint(&place);
            (now, (now != known).then(|| load(Some(&place))))
        });
        let Ok((now, loaded)) = read.await else { return };
        known = now;
        let Some(loaded) = loaded else { continue };
        report(&loaded);
        if asks.send(Ask::Rules(Box::new(loaded))).await.is_err() {
            return;
        }
    }
}

/// A number for names, sizes and times of everything in a folder.
fn fingerprint(folder: &Path) -> u64 {
    let (mut folders, mut entries) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().filter_map(Result::ok) {
            let Ok(data) = entry.metadata() else { continue };
            if entries.len() >= MAX_ENTRIES {
                break;
            }
            if data.is_dir() {
                folders.push(entry.path());
            }
            entries.push((entry.path(), data.len(), data.modified().ok()));
        }
    }
    entries.sort_unstable();
    foldhash::fast::FixedState::default().hash_one(&entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_in_the_folder_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let mut seen = vec![fingerprint(folder.path())];
        std::fs::write(folder.path().join("x.yml"), "title: x").unwrap();
        seen.push(fingerprint(folder.path()));
        std::fs::write(folder.path().join("x.yml"), "title: longer").unwrap();
        seen.push(fingerprint(folder.path()));
        assert_eq!(fingerprint(folder.path()), seen[2]);
        seen.dedup();
        assert_eq!(seen.len(), 3);
    }

    #[test]
    fn a_broken_file_in_the_folder_takes_nothing_with_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x.yml"), "title: [").unwrap();
        let (with, without) = (load(Some(folder.path())), load(None));
        assert_eq!(with.rules.len(), without.rules.len());
        assert!(with.refused.len() == 1 && with.refused[0].source.ends_with("x.yml"));
    }
}
