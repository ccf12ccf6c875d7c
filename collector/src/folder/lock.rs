//! `flock` on `DIR/lock`: it goes with the process, however that ends.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::endpoint::Endpoint;
use super::{FolderError, io as io_error};

/// A held lock.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn exclusive(folder: &Path) -> Result<Self, FolderError> {
        let path = folder.join("lock");
        let file = File::options().read(true).append(true).create(true).open(&path);
        let file = file.map_err(|source| io_error("open", &path, source))?;
        Self::take(folder, file, FlockOperation::NonBlockingLockExclusive)
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
