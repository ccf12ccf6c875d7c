//! Where the tables are: what the Delta log and the Parquet files need of a file system or an object store.
//!
//! A file is there whole and for good or not at all, and never changes. Names are made at once ([`Place::put_new`]) by one
//! of those that try. [`super::folders`] is this on a disk, [`super::bucket`] in an object store.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::part_reader::PartReader;

/// The place of all tables of one history. Blocks.
pub trait Place: Debug + Send + Sync {
    /// Begins a new file, which appears when it is finished.
    ///
    /// # Errors
    /// As the place says.
    fn begin(&self, path: &Path) -> io::Result<Box<dyn NewFile>>;

    /// Puts a small file in the place of whatever has the name. `writer` is in the names of files that are not whole yet.
    ///
    /// # Errors
    /// As the place says.
    fn put(&self, path: &Path, bytes: &[u8], writer: &str) -> io::Result<()>;

    /// Makes a small file whose name must be free. It is durable after [`Place::settle`] of its folder.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] where the name is taken; otherwise as the place says, and then it may be there.
    fn put_new(&self, path: &Path, bytes: &[u8], writer: &str) -> io::Result<()>;

    /// Makes sure that the names in a folder stay, whoever made them.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] for a folder there is not; otherwise as the place says.
    fn settle(&self, dir: &Path) -> io::Result<()>;

    /// All of a small file.
    ///
    /// # Errors
    /// As the place says.
    fn read(&self, path: &Path) -> io::Result<Bytes>;

    /// A file of which parts are to be read; who knows its size saves a question.
    ///
    /// # Errors
    /// As the place says.
    fn open(&self, path: &Path, bytes: Option<u64>) -> io::Result<PartReader>;

    /// A file that is to be read whole, as one on a disk.
    ///
    /// # Errors
    /// As the place says.
    fn fetch(&self, path: &Path) -> io::Result<File>;

    /// Size and last change; `None` where there is no such file.
    ///
    /// # Errors
    /// As the place says.
    fn about(&self, path: &Path) -> io::Result<Option<About>>;

    /// Names of the files in a folder; none in one there is not.
    ///
    /// # Errors
    /// As the place says.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Files in `dir/date=*/hour=*/`.
    ///
    /// # Errors
    /// As the place says, with the folder it failed at.
    fn list_hours(&self, dir: &Path) -> Result<Vec<PathBuf>, (PathBuf, io::Error)>;

    /// Removes a file. Whether there was one is known where [`io::ErrorKind::NotFound`] is said.
    ///
    /// # Errors
    /// As the place says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Whether it is far away: every question takes its time, and several are better asked at once.
    fn is_remote(&self) -> bool {
        false
    }
}

/// What is known of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// Its size.
    pub bytes: u64,
    /// When it was made or changed last.
    pub modified: Option<SystemTime>,
}

/// A file being written. Dropped before its end it leaves nothing, or something the next start removes.
pub trait NewFile: Debug + Send + io::Write {
    /// Makes it durable under its name.
    ///
    /// # Errors
    /// As the place says.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// One place for all tables.
pub type SharedPlace = Arc<dyn Place>;

/// A new file as a stream of bytes, counted.
#[derive(Debug)]
pub struct Counted {
    file: Box<dyn NewFile>,
    /// Bytes written.
    pub bytes: u64,
    /// CRC-32C of them.
    pub crc32c: u32,
}

impl Counted {
    /// Counts what goes into `file`, which must be new.
    pub fn new(file: Box<dyn NewFile>) -> Self {
        Self { file, bytes: 0, crc32c: 0 }
    }

    /// As [`NewFile::finish`].
    ///
    /// # Errors
    /// As the place says.
    pub fn finish(self) -> io::Result<()> {
        self.file.finish()
    }
}

impl io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
