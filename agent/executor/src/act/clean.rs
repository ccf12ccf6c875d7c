//! Removes old files of a folder that the configuration names.
//!
//! Every folder is opened beneath that one, by `openat2` with `RESOLVE_BENEATH`, `RESOLVE_NO_SYMLINKS` and
//! `RESOLVE_NO_XDEV`, and every file is looked at and removed by its name in that open folder: whatever is renamed or
//! linked meanwhile, nothing outside is reached. Folders stay, and so do links and whatever is no plain file.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, statat, unlinkat};
use rustix::io::Errno;
use skep_wire::v1::{self, Step};

use super::gauge::Reading;
use super::host::Host;
use super::kind::{Act, ActError, Captured, Outcome};
use crate::verify::Refusal;

/// Folders deeper than this are left alone.
const MAX_DEPTH: usize = 64;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Nothing outside, no link, no other file system.
const BELOW: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_XDEV);

/// Cleaning a folder.
#[derive(Debug, Clone)]
pub struct Clean {
    folder: PathBuf,
    older_than_s: u64,
}

/// What was found and done.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    files: usize,
    bytes: u64,
    /// Could not be removed.
    failed: usize,
    /// There was more than one command may remove.
    is_full: bool,
}

impl Clean {
    /// As a command asks for it.
    pub fn new(clean: &v1::Clean) -> Self {
        Self { folder: PathBuf::from(&clean.folder), older_than_s: clean.older_than_s }
    }

    fn may(&self, host: &Host) -> Result<(), Refusal> {
        let policy = |why| Err(Refusal::Policy { why });
        let Some(folder) = host.policy.clean.folders.iter().find(|folder| folder.path == self.folder) else {
            return policy(format!("{} is not among clean.folder", self.folder.display()));
        };
        if self.older_than_s < folder.min_age_s {
            return policy(format!("files of {} s, the least is {} s", self.older_than_s, folder.min_age_s));
        }
        Ok(())
    }

    fn open(&self) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        openat2(rustix::fs::CWD, &self.folder, FOLDER, Mode::empty(), resolve)
    }

    /// Goes through all of it, deepest last.
    fn sweep(&self, host: &Host, mut remove: impl FnMut(&OwnedFd, &CStr) -> Result<(), Errno>) -> Result<Tally, Errno> {
        let now_s = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
        let before_s = now_s.saturating_sub(i64::try_from(self.older_than_s).unwrap_or(i64::MAX));
        let top = self.open()?;
        let mut tally = Tally::default();
        let mut waiting = vec![PathBuf::from(".")];
        while let Some(path) = waiting.pop() {
            // What went away meanwhile, or gave way to a link, is passed over.
            let Ok(folder) = openat2(&top, &path, FOLDER, Mode::empty(), BELOW) else { continue };
            for name in names(&folder) {
                if tally.files >= host.policy.clean.max_files || host.is_stopping() {
                    return Ok(Tally { is_full: true, ..tally });
                }
                let Ok(found) = statat(&folder, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
                match FileType::from_raw_mode(found.st_mode) {
                    FileType::Directory if path.components().count() < MAX_DEPTH => {
                        waiting.push(path.join(OsStr::from_bytes(name.to_bytes())));
                    }
                    FileType::RegularFile if found.st_mtime <= before_s => match remove(&folder, &name) {
                        Ok(()) => {
                            tally.files += 1;
                            tally.bytes += u64::try_from(found.st_blocks).unwrap_or(0) * 512;
                        }
                        Err(Errno::NOENT) => {}
                        Err(_) => tally.failed += 1,
                    },
                    _ => {}
                }
            }
        }
        Ok(tally)
    }
}

/// The names in a folder, all of them before anything is removed: removing while reading may pass some over.
fn names(folder: &OwnedFd) -> Vec<CString> {
    let entries = Dir::read_from(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_owned());
    names.filter(|name| !matches!(name.to_bytes(), b"." | b"..")).collect()
}

impl Act for Clean {
    fn subject(&self) -> String {
        format!("folder {}", self.folder.display())
    }

    fn is_leased(&self) -> bool {
        false
    }

    fn check(&self, host: &Host) -> Result<(), Refusal> {
        self.may(host)
    }

    fn capture(&self, host: &Host) -> Result<Captured, Refusal> {
        self.may(host)?;
        let unreadable = |error: Errno| Refusal::unreadable(format!("{}: {error}", self.folder.display()));
        let found = self.sweep(host, |_, _| Ok(())).map_err(unreadable)?;
        if found.files == 0 {
            let (folder, age) = (self.folder.display(), self.older_than_s);
            return Err(Refusal::Moot { reading: format!("{folder} holds no file of {age} s or older") });
        }
        Ok(Captured { previous: format!("{} files, {} bytes", found.files, found.bytes), ..Captured::default() })
    }

    /// The work is [`Act::follow`]'s: a folder may be large.
    fn apply(&self, _host: &Host, _captured: &Captured) -> Result<(), ActError> {
        Ok(())
    }

    fn told(&self, _before: Option<&Reading>) -> String {
        format!("{} is to be rid of files of {} s and older", self.folder.display(), self.older_than_s)
    }

    fn follow(&self, host: &Host, _before: Option<&Reading>) -> Outcome {
        match self.sweep(host, |folder, name| unlinkat(folder, name, AtFlags::empty())) {
            Ok(Tally { files, bytes, failed, is_full }) => {
                let mut detail = format!("{files} files removed, {bytes} bytes");
                if failed > 0 {
                    detail.push_str(&format!("; {failed} could not be removed"));
                }
                if is_full {
                    detail.push_str("; there are more");
                }
                Outcome::of(if files == 0 && failed > 0 { Step::Failed } else { Step::Done }, detail)
            }
            Err(error) => Outcome::of(Step::Failed, format!("{}: {error}", self.folder.display())),
        }
    }

    fn undo(&self, _host: &Host, _captured: &Captured) -> Result<String, ActError> {
        Ok("what was removed stays so".to_owned())
    }
}
