//! The data folder as a whole: copied, put back, checked, described.
//!
//! * [`backup`]: a consistent copy, while a collector runs or not.
//! * [`restore`]: a backup becomes a data folder.
//! * [`verify`]: every byte is looked at.
//! * [`inspect`]: what there is.
//! * [`walk`]: what the folder's parts say.
//! * [`command`]: the subcommands.

pub mod walk;

pub mod backup;

pub mod restore;

pub mod verify;

pub mod inspect;

pub mod command;

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::folder::FolderError;
use crate::history::HistoryError;
use crate::history::location::LocationError;

/// Why a data folder cannot be copied, put back, or looked at.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// The folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Where the tables are.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The tables.
    #[error(transparent)]
    History(#[from] HistoryError),
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
    /// The target is in use.
    #[error("{} is not empty; name a folder that is, or that is not there yet", path.display())]
    NotEmpty {
        /// Which.
        path: PathBuf,
    },
    /// Files moved under the backup again and again.
    #[error("{} changes faster than it can be copied ({attempts} attempts); try again when less comes in", path.display())]
    Restless {
        /// The data folder.
        path: PathBuf,
        /// How often it was tried.
        attempts: u32,
    },
    /// Not a backup, or only a part of one.
    #[error("{} has no {}: it is no finished backup", path.display(), backup::MANIFEST)]
    Unfinished {
        /// The folder.
        path: PathBuf,
    },
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ArchiveError {
    move |source| ArchiveError::Io { action, path: path.to_owned(), source }
}
