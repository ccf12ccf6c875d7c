//! Notices on disk until their channel took them.
//!
//! A file each, named by a number that only grows: `NNNNNNNNNNNNNNNNNNNN.json`, written under another name, synced and moved.
//! A crash leaves files that are whole, or a rest without the ending, which the next start removes. When there are too many
//! the oldest goes and is counted: news is worth more than what nobody could be told for hours.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::report::Notice;

const ENDING: &str = "json";

/// Why the queue cannot be used.
#[derive(Debug, Error)]
#[error("cannot {what} {}", path.display())]
pub struct QueueError {
    what: &'static str,
    path: PathBuf,
    source: std::io::Error,
}

/// What is waiting.
#[derive(Debug)]
pub struct Queue {
    folder: PathBuf,
    /// Number to channel.
    waiting: BTreeMap<u64, String>,
    next: u64,
    most: usize,
    dropped: u64,
}

impl Queue {
    /// Opens the folder, and makes it if there is none. A file that does not read is put aside (`.bad`).
    ///
    /// # Errors
    /// [`QueueError`].
    pub fn open(folder: &Path, most: usize) -> Result<Self, QueueError> {
        let fault = |what| move |source| QueueError { what, path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(fault("make the folder"))?;
        let mut queue =
            Self { folder: folder.to_owned(), waiting: BTreeMap::new(), next: 1, most: most.max(1), dropped: 0 };
        for entry in fs::read_dir(folder).map_err(fault("read the folder"))?.flatten() {
            let path = entry.path();
            let is_ours = path.extension().is_some_and(|ending| ending == ENDING);
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
            match number.filter(|_| is_ours) {
                Some(number) => queue.found(number, &path),
                None if path.extension().is_some_and(|ending| ending == "part") => drop(fs::remove_file(&path)),
                None => {}
            }
        }
        Ok(queue)
    }

    fn found(&mut self, number: u64, path: &Path) {
        self.next = self.next.max(number + 1);
        match read(path) {
            Some(notice) => drop(self.waiting.insert(number, notice.channel)),
            None => {
                tracing::error!(file = %path.display(), "a notice does not read and is put aside");
                drop(fs::rename(path, path.with_extension("bad")));
            }
        }
    }

    /// Keeps a notice, durably.
    ///
    /// # Errors
    /// [`QueueError`]: it is not kept.
    pub fn push(&mut self, notice: &Notice) -> Result<(), QueueError> {
        while self.waiting.len() >= self.most {
            if let Some((number, _)) = self.waiting.pop_first() {
                self.dropped += 1;
                self.remove(number);
            }
        }
        let number = self.next;
        let path = self.path(number);
        let part = path.with_extension("part");
        let write = || {
            let mut file = File::create(&part)?;
            file.write_all(&serde_json::to_vec(notice)?)?;
            file.sync_data()?;
            fs::rename(&part, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|source| QueueError { what: "keep a notice as", path: path.clone(), source })?;
        self.next += 1;
        self.waiting.insert(number, notice.channel.clone());
        Ok(())
    }

    /// The oldest notice for a channel.
    pub fn first(&self, channel: &str) -> Option<(u64, Notice)> {
        let mut of_channel = self.waiting.iter().filter(|(_, of)| *of == channel);
        of_channel.find_map(|(number, _)| Some((*number, read(&self.path(*number))?)))
    }

    /// Its channel took it, or never will.
    pub fn done(&mut self, number: u64) {
        if self.waiting.remove(&number).is_some() {
            self.remove(number);
        }
    }

    /// Whether any waits for this channel.
    pub fn waits_for(&self, channel: &str) -> bool {
        self.waiting.values().any(|of| of == channel)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Forgets what waits for channels that are none of these; how many.
    pub fn keep_only(&mut self, channels: &[&str]) -> usize {
        let strangers: Vec<u64> =
            self.waiting.iter().filter(|(_, of)| !channels.contains(&of.as_str())).map(|(number, _)| *number).collect();
        strangers.iter().for_each(|number| self.done(*number));
        strangers.len()
    }

    /// Notices that had to go for want of room, since the last call.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:020}.{ENDING}"))
    }

    fn remove(&self, number: u64) {
        if let Err(error) = fs::remove_file(self.path(number)) {
            // It would be told once more after a restart, under the same id.
            tracing::warn!(%error, number, "a notice that is done with stays on disk");
        }
    }
}

fn read(path: &Path) -> Option<Notice> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Labels;

    fn notice(id: &str, channel: &str) -> Notice {
        Notice {
            id: id.to_owned(),
            channel: channel.to_owned(),
            group: String::new(),
            labels: Labels::new(),
            items: Vec::new(),
            again: false,
            time_us: 0,
        }
    }

    fn ids(queue: &mut Queue, channel: &str) -> Vec<String> {
        let next = || {
            let (number, notice) = queue.first(channel)?;
            queue.done(number);
            Some(notice.id)
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn what_was_not_taken_is_there_after_a_restart_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut queue = Queue::open(folder.path(), 10).unwrap();
        for (id, channel) in [("1", "a"), ("2", "b"), ("3", "a")] {
            queue.push(&notice(id, channel)).unwrap();
        }
        let (number, first) = queue.first("a").unwrap();
        assert_eq!(first.id, "1");
        queue.done(number);
        fs::write(folder.path().join("00000000000000000009.part"), "{").unwrap();
        fs::write(folder.path().join("00000000000000000008.json"), "{").unwrap();
        let mut queue = Queue::open(folder.path(), 10).unwrap();
        assert_eq!((ids(&mut queue, "a"), ids(&mut queue, "b")), (vec!["3".to_owned()], vec!["2".to_owned()]));
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["00000000000000000008.bad"]);
        queue.push(&notice("4", "a")).unwrap();
        assert!(folder.path().join("00000000000000000009.json").exists(), "numbers are not used again");
    }

    #[test]
    fn the_oldest_goes_when_there_is_no_room_and_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let mut queue = Queue::open(folder.path(), 3).unwrap();
        for id in ["1", "2", "3", "4", "5"] {
            queue.push(&notice(id, "a")).unwrap();
        }
        assert_eq!((queue.take_dropped(), queue.len()), (2, 3));
        assert_eq!(queue.keep_only(&["b"]), 3);
        assert!(queue.is_empty() && ids(&mut queue, "a").is_empty());
    }
}
