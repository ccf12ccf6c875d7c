//! The small file beside the segments.
//!
//! Text, a line each, replaced as a whole by rename. A missing or unreadable file is no error: the streams are found by
//! their folders, and everything in them counts as possibly sent.
//!
//! ```text
//! skep-spool 1
//! watched 1700000000000000
//! receipt 1700000000000000 12
//! mark 1234567 17 4096
//! stream 00112233445566778899aabbccddeeff 128
//! ```

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use skep_seglog::Storage;

use super::record::{ReceiptMark, is_stream};
use crate::probe::reading::Mark;

const HEADER: &str = "skep-spool 1";
const NAME: &str = "state";
const TEMPORARY: &str = "state.tmp";

/// More than any such file holds; a larger one is not ours.
const MAX_BYTES: u64 = 1 << 20;

/// What outlives the process beside the batches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Wall clock in microseconds up to which the host was watched and the batches are sealed.
    pub watched_until_us: Option<i64>,
    /// Newest receipt of the executor that is in a batch.
    pub receipt: Option<ReceiptMark>,
    /// How far the probes were read according to the batches that are on disk, or were.
    pub mark: Option<Mark>,
    /// Streams in the order they were begun, with a number that no batch sent from it exceeds; the largest number there
    /// is for a stream that is not to be gone on with.
    pub streams: Vec<(String, u64)>,
}

impl State {
    /// Reads the file in `dir`; `None` when there is none or it makes no sense.
    pub fn load<S: Storage>(storage: &S, dir: &Path) -> Option<Self> {
        let file = storage.open(&dir.join(NAME), false).ok()?;
        let size = usize::try_from(file.size().ok().filter(|size| *size <= MAX_BYTES)?).ok()?;
        let mut bytes = vec![0; size];
        let read = file.read_at(&mut bytes, 0).ok()?;
        Self::parse(std::str::from_utf8(bytes.get(..read)?).ok()?)
    }

    /// Replaces the file in `dir`, durably.
    ///
    /// # Errors
    /// As the operating system says; the file is then as it was.
    pub fn save<S: Storage>(&self, storage: &S, dir: &Path) -> io::Result<()> {
        let temporary = dir.join(TEMPORARY);
        match storage.remove(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = storage.create(&temporary)?;
        file.write_all_at(self.text().as_bytes(), 0)?;
        file.sync()?;
        storage.rename(&temporary, &dir.join(NAME))?;
        storage.sync_dir(dir)
    }

    fn text(&self) -> String {
        let mut text = format!("{HEADER}\n");
        // Writing to a string cannot fail.
        if let Some(until_us) = self.watched_until_us {
            let _ = writeln!(text, "watched {until_us}");
        }
        if let Some(mark) = self.receipt {
            let _ = writeln!(text, "receipt {} {}", mark.time_us, mark.number);
        }
        if let Some(Mark { incarnation, epoch, position }) = self.mark {
            let _ = writeln!(text, "mark {incarnation} {epoch} {position}");
        }
        for (stream, sent) in &self.streams {
            let _ = writeln!(text, "stream {stream} {sent}");
        }
        text
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != HEADER {
            return None;
        }
        let mut state = Self::default();
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["watched", until] => state.watched_until_us = Some(until.parse().ok()?),
                ["receipt", time, number] => {
                    state.receipt = Some(ReceiptMark { time_us: time.parse().ok()?, number: number.parse().ok()? });
                }
                ["mark", incarnation, epoch, position] => {
                    state.mark = Some(Mark {
                        incarnation: incarnation.parse().ok()?,
                        epoch: epoch.parse().ok()?,
                        position: position.parse().ok()?,
                    });
                }
                ["stream", stream, sent] if is_stream(stream) => {
                    state.streams.push(((*stream).to_owned(), sent.parse().ok()?));
                }
                _ => return None,
            }
        }
        Some(state)
    }
}

#[cfg(test)]
mod tests {
    use skep_seglog::sim::SimDisk;

    use super::*;

    #[test]
    fn the_file_reads_as_it_was_written() {
        let disk = SimDisk::default();
        let dir = Path::new("/spool");
        disk.create_dir(dir).unwrap();
        assert_eq!(State::load(&disk, dir), None);
        let state = State {
            watched_until_us: Some(-5),
            receipt: Some(ReceiptMark { time_us: 3, number: 4 }),
            mark: Some(Mark { incarnation: u64::MAX, epoch: 5, position: 6 }),
            streams: vec![("00112233445566778899aabbccddeeff".to_owned(), 64), ("f".repeat(32), 0)],
        };
        state.save(&disk, dir).unwrap();
        assert_eq!(State::load(&disk, dir), Some(state));
        State::default().save(&disk, dir).unwrap();
        assert_eq!(State::load(&disk, dir), Some(State::default()));
    }

    #[test]
    fn nonsense_is_no_state() {
        for text in ["", "skep-spool 2\n", "skep-spool 1\nstream short 1\n", "skep-spool 1\nwatched x\n"] {
            assert_eq!(State::parse(text), None, "{text}");
        }
    }
}
