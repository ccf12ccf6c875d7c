//! Which collector has what, over restarts of the agent: a small file beside the spool.
//!
//! It is replaced as a whole by rename when a session has ended, and not synced. So an agent that was killed may know less
//! than there was to know, never anything else: a collector that lost its disk then is not told of all it lost.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tonic::transport::Uri;

use super::acknowledged::Acknowledged;

const NAME: &str = "acknowledged";

/// More than any such file holds; a larger one is not ours.
const MAX_BYTES: u64 = 1 << 20;

/// The file, and what it holds.
#[derive(Debug)]
pub(super) struct Memory {
    dir: PathBuf,
    saved: Acknowledged,
    /// The disk refused; said once.
    refused: bool,
}

impl Memory {
    /// Reads the file in `dir`. One that is not there, or makes no sense, is as good as empty.
    pub(super) fn open(dir: &Path, collectors: &[Uri]) -> Self {
        let mut text = String::new();
        let read = std::fs::File::open(dir.join(NAME)).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text));
        let saved = read.ok().and_then(|_| Acknowledged::parse(&text, collectors)).unwrap_or_default();
        Self { dir: dir.to_owned(), saved, refused: false }
    }

    /// What was read, or saved last.
    pub(super) fn saved(&self) -> &Acknowledged {
        &self.saved
    }

    /// Writes what has changed.
    pub(super) async fn save(&mut self, acknowledged: &Acknowledged, collectors: &[Uri]) {
        if *acknowledged == self.saved {
            return;
        }
        let (dir, text) = (self.dir.clone(), acknowledged.text(collectors));
        let written = tokio::task::spawn_blocking(move || write(&dir, &text)).await.unwrap_or_else(|error| {
            // It panicked, or the runtime is ending.
            Err(io::Error::other(error))
        });
        match written {
            Ok(()) => {
                self.saved = acknowledged.clone();
                self.refused = false;
            }
            Err(error) if !std::mem::replace(&mut self.refused, true) => {
                let path = self.dir.join(NAME);
                tracing::warn!(%error, "{}: cannot write down which collector has what", path.display());
            }
            Err(_) => {}
        }
    }
}

fn write(dir: &Path, text: &str) -> io::Result<()> {
    let temporary = dir.join(NAME).with_extension("tmp");
    std::fs::write(&temporary, text)?;
    std::fs::rename(&temporary, dir.join(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_saved_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let collectors: Vec<Uri> = vec!["https://a.example:7443".parse().unwrap()];
        let mut memory = Memory::open(dir.path(), &collectors);
        assert_eq!(memory.saved(), &Acknowledged::default());
        let mut acknowledged = Acknowledged::default();
        acknowledged.note(&"0".repeat(32), Some(0), 7);
        memory.save(&acknowledged, &collectors).await;
        assert_eq!(Memory::open(dir.path(), &collectors).saved(), &acknowledged);
        std::fs::write(dir.path().join(NAME), b"\xff").unwrap();
        assert_eq!(Memory::open(dir.path(), &collectors).saved(), &Acknowledged::default());
    }
}
