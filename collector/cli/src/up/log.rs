//! What a child writes: all of it to its log, its warnings to the terminal, its last line kept for when it dies.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::mpsc;

/// A log is moved to `.1` when it is larger, so that two of these are the most a program takes on disk.
const LOG_BYTES: u64 = 16 << 20;

/// A line longer than this is no line of ours.
const LINE_BYTES: usize = 8 << 10;

/// Something for the terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) bad: bool,
    pub(super) text: String,
}

/// Takes notices without ever waiting: a terminal that does not read must not stop a child's log.
#[derive(Debug, Clone)]
pub(super) struct Notices {
    sender: mpsc::Sender<Notice>,
}

impl Notices {
    pub(super) fn channel(capacity: usize) -> (Self, mpsc::Receiver<Notice>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (Self { sender }, receiver)
    }

    /// Best effort: what does not fit stands in the log.
    pub(super) fn say(&self, bad: bool, text: impl Into<String>) {
        drop(self.sender.try_send(Notice { bad, text: text.into() }));
    }
}

/// The last thing a child said.
#[derive(Debug, Clone, Default)]
pub(super) struct LastLine(Arc<Mutex<String>>);

impl LastLine {
    pub(super) fn get(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, line: &str) {
        line.clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Appends a child's lines to its log until it closes its end.
pub(super) async fn pump(
    part: &'static str,
    from: impl AsyncRead + Unpin,
    path: PathBuf,
    last: LastLine,
    notices: Notices,
) {
    let mut log = match Log::open(&path) {
        Ok(log) => Some(log),
        Err(error) => {
            notices.say(true, format!("cannot write {}: {error}", path.display()));
            None
        }
    };
    let mut reader = BufReader::new(from);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        match reader.read_until(b'\n', &mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        bytes.truncate(LINE_BYTES);
        let line = String::from_utf8_lossy(&bytes);
        let line = line.trim_end();
        if line.is_empty() {
            continue;
        }
        last.set(line);
        if let Some(bad) = weight(line) {
            notices.say(bad, format!("{part}: {line}"));
        }
        if let Some(Err(error)) = log.as_mut().map(|log| log.line(line)) {
            notices.say(true, format!("cannot write {}: {error}", path.display()));
            log = None;
        }
    }
}

/// Whether a line is for the terminal, and as what: the level stands right after the time. The line a program dies with
/// has none; whoever looks after the program says it.
fn weight(line: &str) -> Option<bool> {
    let mut words = line.split_whitespace().take(3);
    words.find_map(|word| match word {
        "ERROR" => Some(true),
        "WARN" => Some(false),
        _ => None,
    })
}

struct Log {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Log {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, bytes })
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        if self.bytes > LOG_BYTES {
            let mut older = self.path.as_os_str().to_owned();
            older.push(".1");
            std::fs::rename(&self.path, older)?;
            *self = Self::open(&self.path)?;
        }
        self.file.write_all(format!("{line}\n").as_bytes())?;
        self.bytes += line.len() as u64 + 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_and_errors_are_for_the_terminal() {
        assert_eq!(weight("2026-11-21T10:00:00Z  WARN spool: nearly full"), Some(false));
        assert_eq!(weight("2026-11-21T10:00:00Z ERROR wal: disk full"), Some(true));
        assert_eq!(weight("error: no such file"), None);
        assert_eq!(weight("2026-11-21T10:00:00Z  INFO wal: no ERROR here"), None);
    }

    #[tokio::test]
    async fn every_line_is_logged_and_the_last_is_kept() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("x.log");
        let (notices, mut heard) = Notices::channel(4);
        let last = LastLine::default();
        pump("x", &b"one\nWARN two\nthree\n"[..], path.clone(), last.clone(), notices).await;
        assert_eq!(std::fs::read_to_string(path).unwrap(), "one\nWARN two\nthree\n");
        assert_eq!(last.get(), "three");
        assert_eq!(heard.recv().await, Some(Notice { bad: false, text: "x: WARN two".to_owned() }));
        assert_eq!(heard.recv().await, None);
    }

    #[tokio::test]
    async fn a_log_that_grew_too_large_is_moved_aside() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("x.log");
        File::create(&path).unwrap().set_len(LOG_BYTES + 1).unwrap();
        let (notices, _heard) = Notices::channel(4);
        pump("x", &b"new\n"[..], path.clone(), LastLine::default(), notices).await;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new\n");
        assert_eq!(std::fs::metadata(temp.path().join("x.log.1")).unwrap().len(), LOG_BYTES + 1);
    }
}
