//! `flock` on `DIR/lock`: it goes with the process, however that ends.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::endpoint::Endpoint;
use super::{FolderError, io as io_error};

/// How often and how long a starting collector lets readers of the files finish: their answers take seconds.
const READER_POLLS: u32 = 100;
const READER_POLL: Duration = Duration::from_millis(100);

/// A held lock.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for readers of the files, but not for another collector.
    pub(super) fn exclusive(folder: &Path) -> Result<Self, FolderError> {
        let path = folder.join("lock");
        let open = || {
            let file = File::options().read(true).append(true).create(true).open(&path);
            file.map_err(|source| io_error("open", &path, source))
        };
        for _ in 0..READER_POLLS {
            match Self::take(folder, open()?, FlockOperation::NonBlockingLockExclusive) {
                // Where a reader gets in, nobody writes.
                Err(FolderError::InUse { .. }) if Self::shared(folder).is_ok() => std::thread::sleep(READER_POLL),
                taken => return taken,
            }
        }
        Self::take(folder, open()?, FlockOperation::NonBlockingLockExclusive)
    }

    /// `None` where there is no lock file: nobody ever ran here, or it is a copy.
    pub(super) fn shared(folder: &Path) -> Result<Option<Self>, FolderError> {
        let path = folder.join("lock");
        match File::open(&path) {
            Ok(file) => Self::take(folder, file, FlockOperation::NonBlockingLockShared).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(io_error("open", &path, source)),
        }
    }

    fn take(folder: &Path, file: File, how: FlockOperation) -> Result<Self, FolderError> {
        match flock(&file, how) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(FolderError::InUse { path: folder.to_owned(), endpoint: Endpoint::read(folder) })
            }
            Err(errno) => Err(io_error("lock", folder, errno.into())),
        }
    }
}
