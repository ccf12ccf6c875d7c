//! The data folder: who puts what where.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::UpError;

/// Where a host has its bpf file system. Where it has none, the agent says so and counts only as long as it runs; it is
/// not for `skep up` to mount one.
const BPF_FS: &str = "/sys/fs/bpf";

/// Paths below the data folder.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// Makes the folder and those below it that belong to `skep up`; only the owner may look inside.
    ///
    /// # Errors
    /// [`UpError::Folder`].
    pub fn create(root: &Path) -> Result<Self, UpError> {
        let make = |path: &Path| {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| UpError::Folder {
                what: "create",
                path: path.to_owned(),
                source,
            })
        };
        make(root)?;
        // Children get absolute paths: they may be started from anywhere.
        let root =
            root.canonicalize().map_err(|source| UpError::Folder { what: "read", path: root.to_owned(), source })?;
        for name in ["agent", "executor", "keys", "log", "run", "tls"] {
            make(&root.join(name))?;
        }
        Ok(Self { root })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `tls/NAME`.
    pub fn tls(&self, name: &str) -> PathBuf {
        self.root.join("tls").join(name)
    }

    /// `keys/NAME`.
    pub fn keys(&self, name: &str) -> PathBuf {
        self.root.join("keys").join(name)
    }

    /// The agent's own folder.
    pub fn agent(&self) -> PathBuf {
        self.root.join("agent")
    }

    /// The executor's own folder.
    pub fn executor(&self) -> PathBuf {
        self.root.join("executor")
    }

    /// Where the executor listens.
    pub fn executor_socket(&self) -> PathBuf {
        self.executor().join("executor.sock")
    }

    /// Where the probes are pinned, so that they count on while the agent is started again.
    pub fn pins(&self) -> PathBuf {
        pins_of(&self.root)
    }

    /// A program's log.
    pub fn log(&self, part: &str) -> PathBuf {
        self.root.join("log").join(format!("{part}.log"))
    }

    /// A program's process id.
    pub fn pid(&self, part: &str) -> PathBuf {
        self.root.join("run").join(format!("{part}.pid"))
    }

    /// Holds the folder for this `skep up` as long as the file is open.
    ///
    /// # Errors
    /// [`UpError::Running`], [`UpError::Folder`].
    pub fn lock(&self) -> Result<File, UpError> {
        let path = self.root.join("run").join("up.lock");
        let fail = |source| UpError::Folder { what: "write", path: path.clone(), source };
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let who = match file.read_to_string(&mut pid) {
                    Ok(bytes) if bytes > 0 => format!(" (pid {})", pid.trim()),
                    _ => String::new(),
                };
                return Err(UpError::Running { data: self.root.clone(), who });
            }
            Err(TryLockError::Error(source)) => return Err(fail(source)),
        }
        file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(fail)?;
        Ok(file)
    }
}

/// Where the probes of the `skep up` on the data folder `root` are pinned: a folder of its own, for they are its own.
pub fn pins_of(root: &Path) -> PathBuf {
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    Path::new(BPF_FS).join(format!("skep-up-{:08x}", crc32c::crc32c(root.as_os_str().as_encoded_bytes())))
}

/// Writes a file whole under its name, with exactly this mode from its first byte on.
///
/// # Errors
/// [`UpError::Folder`]; what stood there before still does.
pub fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) -> Result<(), UpError> {
    let fail = |source| UpError::Folder { what: "write", path: path.to_owned(), source };
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    // A left-over of a crash may have another mode.
    match std::fs::remove_file(&partial) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(fail(source)),
    }
    let mut file = File::options().write(true).create_new(true).mode(mode).open(&partial).map_err(fail)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(fail)?;
    std::fs::rename(&partial, path).map_err(fail)
}

/// Reads a file; `None` when it does not exist.
///
/// # Errors
/// [`UpError::Folder`].
pub fn read_if_there(path: &Path) -> Result<Option<String>, UpError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(UpError::Folder { what: "read", path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_second_up_is_told_who_holds_the_folder() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::create(&temp.path().join("new")).unwrap();
        let held = folder.lock().unwrap();
        let error = folder.lock().unwrap_err().to_string();
        assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
        drop(held);
        folder.lock().unwrap();
    }

    #[test]
    fn secrets_are_for_the_owner_only() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("key");
        write_with_mode(&path, b"old", 0o600).unwrap();
        write_with_mode(&path, b"new", 0o600).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_if_there(&path).unwrap().as_deref(), Some("new"));
        assert_eq!(read_if_there(&temp.path().join("none")).unwrap(), None);
    }
}
