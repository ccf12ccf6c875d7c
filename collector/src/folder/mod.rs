//! The data folder: where things are, who may use it, and who listens for it.
//!
//! ```text
//! lock            held by the collector that runs (exclusive) or by readers (shared)
//! collector.json  this collector's name in files and its own stream
//! history.json    where the history is, if it is not in this folder
//! endpoint.json   where it listens, while it listens
//! series.state    what was learned of all series, renewed every few minutes; without it they are learned anew
//! habits.state    what programs of all workloads usually do, likewise
//! audit/          the audit chain
//! policy.state    what goes on by the policy, renewed with every change, before a command leaves
//! alerts.state    who was told of what; without it what stands is told again
//! alerts/         what nobody could be told of yet
//! wal/ history/ quarantine/
//! ```

mod endpoint;

mod identity;

mod lock;

mod place;

use std::path::{Path, PathBuf};

use skep_seglog::SegmentId;
use thiserror::Error;

use crate::history::Location;
use crate::history::location::LocationError;

pub use endpoint::{Announced, Endpoint};
pub use identity::Identity;
pub use lock::Lock;
pub use place::location;

/// Why the folder cannot be used.
#[derive(Debug, Error)]
pub enum FolderError {
    /// There is none.
    #[error("there is no data folder {}", path.display())]
    Absent {
        /// Where it should be.
        path: PathBuf,
    },
    /// Nothing was ever stored in it.
    #[error("{} holds no skep data", path.display())]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process uses it.
    #[error("{} is in use by a running collector{}", path.display(), at(endpoint.as_ref()))]
    InUse {
        /// Which folder.
        path: PathBuf,
        /// Where that collector listens, if it says so.
        endpoint: Option<Endpoint>,
    },
    /// A file of ours does not parse.
    #[error("{} does not parse", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The WAL's rows and the history's cannot be told apart: the name that ties them together is gone.
    #[error("{} holds a WAL but no collector.json; put it back, or move the WAL away", path.display())]
    Nameless {
        /// Which folder.
        path: PathBuf,
    },
    /// No randomness.
    #[error("the system gives no random bytes")]
    Random(getrandom::Error),
    /// The history is not where it is looked for.
    #[error(
        "the history of {} is in {found}, not in {wanted}; stop the collector, copy what is there (`aws s3 sync` or cp -a), \
         remove what you copied and {}/history.json, and start again",
        path.display(), path.display()
    )]
    Elsewhere {
        /// The data folder.
        path: PathBuf,
        /// Where its history is.
        found: Box<Location>,
        /// Where it was to be.
        wanted: Box<Location>,
    },
    /// Where the history is does not parse.
    #[error("{} does not parse", path.display())]
    Place {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: Box<LocationError>,
    },
}

fn at(endpoint: Option<&Endpoint>) -> String {
    endpoint.map_or_else(String::new, |e| format!(" (pid {}); connect to it at https://{}", e.pid, e.grpc))
}

/// A data folder this process may use.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: Option<Lock>,
}

impl Folder {
    /// Takes the folder for a collector, making it if need be.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn open_exclusive(path: &Path) -> Result<Self, FolderError> {
        crate::history::parquet_file::create_dir_durably(path).map_err(|source| io("create", path, source))?;
        let lock = Lock::exclusive(path)?;
        Ok(Self { path: absolute(path)?, _lock: Some(lock) })
    }

    /// Takes the folder for reading, beside other readers. Changes nothing in it.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn open_shared(path: &Path) -> Result<Self, FolderError> {
        if !path.is_dir() {
            return Err(FolderError::Absent { path: path.to_owned() });
        }
        let lock = Lock::shared(path)?;
        let folder = Self { path: absolute(path)?, _lock: lock };
        if !folder.wal().is_dir() && !folder.history().is_dir() {
            return Err(FolderError::Empty { path: path.to_owned() });
        }
        Ok(folder)
    }

    /// The WAL's segments.
    pub fn wal(&self) -> PathBuf {
        self.path.join("wal")
    }

    /// The tables, unless they are elsewhere: see [`Folder::location`].
    pub fn history(&self) -> PathBuf {
        self.path.join("history")
    }

    /// What was learned of all series.
    pub fn learned(&self) -> PathBuf {
        self.path.join("series.state")
    }

    /// What goes on by the policy.
    pub fn under_way(&self) -> PathBuf {
        self.path.join("policy.state")
    }

    /// The journal of what was done to the cluster.
    pub fn cluster(&self) -> PathBuf {
        self.path.join("cluster")
    }

    /// The audit chain.
    pub fn audit(&self) -> PathBuf {
        self.path.join("audit")
    }

    /// Alerts that nobody was told of yet.
    pub fn alerts(&self) -> PathBuf {
        self.path.join("alerts")
    }

    /// Who was told of what.
    pub fn told(&self) -> PathBuf {
        self.path.join("alerts.state")
    }

    /// What was learned of what workloads usually do.
    pub fn habits(&self) -> PathBuf {
        self.path.join("habits.state")
    }

    /// Files that are used only while they are open.
    pub fn scratch(&self) -> PathBuf {
        self.path.join("scratch")
    }

    /// What could not be used.
    pub fn quarantine(&self) -> PathBuf {
        self.path.join("quarantine")
    }

    /// Who stores here, if anybody ever did.
    ///
    /// # Errors
    /// [`FolderError::Malformed`], [`FolderError::Io`], [`FolderError::Nameless`].
    pub fn identity(&self) -> Result<Option<Identity>, FolderError> {
        let identity = Identity::read(&self.path)?;
        if identity.is_none() && self.has_segments()? {
            return Err(FolderError::Nameless { path: self.path.clone() });
        }
        Ok(identity)
    }

    fn has_segments(&self) -> Result<bool, FolderError> {
        let wal = self.wal();
        let entries = match std::fs::read_dir(&wal) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(io("list", &wal, source)),
        };
        for entry in entries {
            let name = entry.map_err(|source| io("list", &wal, source))?.file_name();
            if name.to_str().is_some_and(|name| SegmentId::parse(name).is_some()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Who stores here; a new name in a new folder.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn identity_or_new(&self) -> Result<Identity, FolderError> {
        match self.identity()? {
            Some(identity) => Ok(identity),
            None => Identity::make(&self.path),
        }
    }

    /// Says where the collector listens; unsaid when the value is dropped.
    ///
    /// # Errors
    /// [`FolderError::Io`].
    pub fn announce(&self, grpc: std::net::SocketAddr) -> Result<Announced, FolderError> {
        endpoint::announce(&self.path, grpc)
    }
}

fn io(action: &'static str, path: &Path, source: std::io::Error) -> FolderError {
    FolderError::Io { action, path: path.to_owned(), source }
}

/// Puts a small file in place whole and durable.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let temporary = path.with_extension("tmp");
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    crate::history::parquet_file::sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// The query engine names files by whole paths only.
fn absolute(path: &Path) -> Result<PathBuf, FolderError> {
    path.canonicalize().map_err(|source| io("resolve", path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_collector_or_many_readers() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("data");
        let collector = Folder::open_exclusive(&path).unwrap();
        let announced = collector.announce("127.0.0.1:7443".parse().unwrap()).unwrap();
        std::fs::create_dir(collector.wal()).unwrap();
        let refused = Folder::open_exclusive(&path).unwrap_err().to_string();
        assert!(refused.ends_with("connect to it at https://127.0.0.1:7443"), "{refused}");
        assert!(matches!(Folder::open_shared(&path), Err(FolderError::InUse { .. })));
        drop(announced);
        assert!(!path.join("endpoint.json").exists());
        drop(collector);
        let (one, two) = (Folder::open_shared(&path).unwrap(), Folder::open_shared(&path).unwrap());
        let waiting = std::thread::spawn(move || Folder::open_exclusive(&path));
        drop(one);
        drop(two);
        assert!(waiting.join().unwrap().is_ok(), "a collector waits for readers");
    }

    #[test]
    fn a_folder_keeps_its_name() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::open_exclusive(temp.path()).unwrap();
        assert_eq!(folder.identity().unwrap(), None);
        let made = folder.identity_or_new().unwrap();
        assert_eq!(folder.identity_or_new().unwrap(), made);
        assert_eq!((made.collector.len(), made.stream.len()), (12, 32));
        assert!(folder.wal().is_absolute());
    }

    #[test]
    fn a_wal_whose_collector_has_no_name_is_not_counted_twice() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::open_exclusive(temp.path()).unwrap();
        let made = folder.identity_or_new().unwrap();
        std::fs::create_dir(folder.wal()).unwrap();
        std::fs::write(SegmentId(3).path(&folder.wal()), b"").unwrap();
        assert_eq!(folder.identity().unwrap(), Some(made));
        std::fs::remove_file(temp.path().join("collector.json")).unwrap();
        assert!(matches!(folder.identity(), Err(FolderError::Nameless { .. })));
        let refused = folder.identity_or_new().unwrap_err().to_string();
        assert!(refused.contains("holds a WAL but no collector.json"), "{refused}");
        assert!(!temp.path().join("collector.json").exists());
    }

    #[test]
    fn what_is_no_data_folder_is_said() {
        let temp = tempfile::tempdir().unwrap();
        assert!(matches!(Folder::open_shared(&temp.path().join("x")), Err(FolderError::Absent { .. })));
        assert!(matches!(Folder::open_shared(temp.path()), Err(FolderError::Empty { .. })));
    }
}
