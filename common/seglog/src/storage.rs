//! The file operations the stores need, and nothing more, so that a test can stand in for the disk.

use std::fmt::Debug;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One open file.
pub trait SegmentFile: Debug + Send {
    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// As the operating system says; part of the bytes may then be there.
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Reads up to `buffer.len()` bytes; fewer only at the end of the file.
    ///
    /// # Errors
    /// As the operating system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Bytes in the file.
    ///
    /// # Errors
    /// As the operating system says.
    fn size(&self) -> io::Result<u64>;

    /// Cuts the file to `size` bytes.
    ///
    /// # Errors
    /// As the operating system says.
    fn truncate(&mut self, size: u64) -> io::Result<()>;

    /// `fdatasync`: returns when everything written is on the device.
    ///
    /// # Errors
    /// As the operating system says. What was written before may be gone even if a later call succeeds.
    fn sync(&mut self) -> io::Result<()>;
}

/// A place for files. Everything that must outlive a power loss goes through it: segments, Parquet files, the Delta log.
///
/// What is written is durable after [`SegmentFile::sync`]; a name that is made, moved or removed is so after
/// [`Storage::sync_dir`] of its folder.
pub trait Storage: Debug + Send + Sync {
    /// Makes one folder; its parent must be there.
    ///
    /// # Errors
    /// As the operating system says; [`io::ErrorKind::AlreadyExists`] where there is one.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;

    /// Whether there is such a folder.
    fn is_dir(&self, dir: &Path) -> bool;

    /// Names of the files and folders in `dir`; an absent folder is an empty one.
    ///
    /// # Errors
    /// As the operating system says; [`io::ErrorKind::NotADirectory`] for a file.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Makes a file that must not exist yet, for reading and writing.
    ///
    /// # Errors
    /// As the operating system says.
    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>>;

    /// Opens a file for reading; for writing too when `writable`.
    ///
    /// # Errors
    /// As the operating system says.
    fn open(&self, path: &Path, writable: bool) -> io::Result<Box<dyn SegmentFile>>;

    /// Removes a file.
    ///
    /// # Errors
    /// As the operating system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty folder.
    ///
    /// # Errors
    /// As the operating system says.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;

    /// Moves a file within the file system; takes the place of a file that has the name.
    ///
    /// # Errors
    /// As the operating system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name, which must be free: of several that try, one succeeds.
    ///
    /// # Errors
    /// As the operating system says; [`io::ErrorKind::AlreadyExists`] where the name is taken.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// `fsync` of the folder: files made, moved and removed in it stay so.
    ///
    /// # Errors
    /// As the operating system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes a folder and its missing parents so that they stay.
    ///
    /// # Errors
    /// As the operating system says.
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if self.is_dir(dir) {
            return Ok(());
        }
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.create_dir(parent)?;
        }
        match self.make_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        self.sync_dir(dir.parent().unwrap_or(Path::new("")))
    }

    /// Whether there is such a file.
    fn exists(&self, path: &Path) -> bool {
        self.open(path, false).is_ok()
    }

    /// Makes a file in the place of whatever has the name: a leftover may be a second name of something that counts, so it
    /// goes before anything is written.
    ///
    /// # Errors
    /// As the operating system says.
    fn create_anew(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        match self.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.create(path)
    }

    /// All bytes of a file.
    ///
    /// # Errors
    /// As the operating system says.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, false)?;
        let mut bytes = vec![0; usize::try_from(file.size()?).map_err(io::Error::other)?];
        let read = file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(bytes)
    }
}

/// One place for all of a program.
pub type Shared = Arc<dyn Storage>;

impl<T: Storage + ?Sized> Storage for Arc<T> {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        (**self).make_dir(dir)
    }

    fn is_dir(&self, dir: &Path) -> bool {
        (**self).is_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        (**self).list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        (**self).create(path)
    }

    fn open(&self, path: &Path, writable: bool) -> io::Result<Box<dyn SegmentFile>> {
        (**self).open(path, writable)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        (**self).remove(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        (**self).remove_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        (**self).rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        (**self).link(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        (**self).sync_dir(dir)
    }
}

/// The real disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

/// A file on the real disk.
#[derive(Debug)]
pub struct DiskFile(fs::File);

impl SegmentFile for DiskFile {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.0.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn truncate(&mut self, size: u64) -> io::Result<()> {
        self.0.set_len(size)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}

impl Storage for Disk {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir(dir)
    }

    fn is_dir(&self, dir: &Path) -> bool {
        dir.is_dir()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        let file = fs::File::options().read(true).write(true).create_new(true).open(path)?;
        Ok(Box::new(DiskFile(file)))
    }

    fn open(&self, path: &Path, writable: bool) -> io::Result<Box<dyn SegmentFile>> {
        let file = fs::File::options().read(true).write(writable).open(path)?;
        Ok(Box::new(DiskFile(file)))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir: PathBuf = if dir.as_os_str().is_empty() { PathBuf::from(".") } else { dir.to_owned() };
        fs::File::open(dir)?.sync_all()
    }
}
