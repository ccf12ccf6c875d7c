//! A cgroup's interface files: read, written and read back. Values are kept as the text the kernel shows, so that what
//! is put back is what was there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a limit could not be read or written.
#[derive(Debug, Error)]
pub enum LimitError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file does not say what it should.
    #[error("{} says {text:?}, which is no limit", path.display())]
    NotALimit {
        /// Which file.
        path: PathBuf,
        /// What it says.
        text: String,
    },
    /// The kernel took the value and shows another.
    #[error("wrote {written:?} and read back {found:?}")]
    NotTaken {
        /// What was written.
        written: String,
        /// What is there.
        found: String,
    },
}

impl LimitError {
    /// The same, with the file said to be in `dir`: people know a held folder by its path.
    pub fn within(mut self, dir: &Path) -> Self {
        if let Self::Io { path, .. } | Self::NotALimit { path, .. } = &mut self
            && let Some(name) = path.file_name()
        {
            *path = dir.join(name);
        }
        self
    }

    /// Whether the cgroup is not there any more.
    pub fn is_gone(&self) -> bool {
        match self {
            // A read of a cgroup that was removed while its file was open says "no such device".
            Self::Io { source, .. } => {
                source.kind() == io::ErrorKind::NotFound
                    || source.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
            }
            _ => false,
        }
    }
}

/// What a file says.
///
/// # Errors
/// [`LimitError::Io`].
pub fn read_file(path: &Path) -> Result<String, LimitError> {
    fs::read_to_string(path).map_err(|source| LimitError::Io { action: "read", path: path.to_owned(), source })
}

/// Writes a file that is there. Never creates: a file that is not there belongs to a cgroup that is gone.
///
/// # Errors
/// [`LimitError::Io`].
pub fn write_file(path: &Path, text: &str) -> Result<(), LimitError> {
    let written = fs::OpenOptions::new().write(true).truncate(true).open(path).and_then(|mut file| {
        use std::io::Write;
        file.write_all(text.as_bytes())
    });
    written.map_err(|source| LimitError::Io { action: "write", path: path.to_owned(), source })
}

/// Writes a file of one value and reads it back.
///
/// # Errors
/// [`LimitError`]. After [`LimitError::NotTaken`] the value is what `found` says.
pub fn set_file(path: &Path, text: &str) -> Result<(), LimitError> {
    write_file(path, text)?;
    let found = read_file(path)?.trim().to_owned();
    if found == text {
        return Ok(());
    }
    Err(LimitError::NotTaken { written: text.to_owned(), found })
}
