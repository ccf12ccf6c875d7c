//! A consistent copy of a data folder, while a collector runs on it or not.
//!
//! Rows go from the WAL into Parquet and then leave the WAL. So the tables' logs are read first, each up to its newest
//! version, and the WAL is copied after them: every row is then in one of the two, or in both, which a start tells apart
//! by the segments a table's log names. What breaks this is a WAL segment that went in between; then it is all done again.
//! The WAL's newest snapshot is not older than the logs, so the streams' numbers fit too.
//!
//! Parquet files never change once they have their name: on the same file system they become second names of the same
//! bytes, and those in an object store are fetched. What the log no longer calls live is left out.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use skep_seglog::SegmentId;

use super::{ArchiveError, io_error};
use crate::folder::location;
use crate::history::parquet_file::{create_dir_durably, sync_dir};
use crate::history::{DataFile, History, Place};

/// Written last: a folder without it is no finished backup.
pub const MANIFEST: &str = "backup.json";

/// Who stores in the folder; see [`crate::folder::Identity`].
const IDENTITY: &str = "collector.json";

/// How often it is tried while segments go.
const ATTEMPTS: u32 = 20;

/// What a backup holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Program that made it.
    pub made_by: String,
    /// When, UTC.
    pub made_at: String,
    /// Versions in each table's Delta log.
    pub versions: BTreeMap<String, u64>,
    /// Live Parquet files.
    pub files: u64,
    /// Of those, how many are second names of the original's bytes.
    pub linked: u64,
    /// Bytes of Parquet.
    pub bytes: u64,
    /// Rows in Parquet.
    pub rows: u64,
    /// WAL segments.
    pub wal_segments: u64,
    /// Bytes of WAL.
    pub wal_bytes: u64,
    /// How often it had to begin again because the WAL moved on.
    pub retries: u32,
}

/// Copies the data folder `data` into `to`, which must be empty or absent. With `copy`, files are copied even where a
/// second name would do.
///
/// # Errors
/// [`ArchiveError`]; `to` then has no [`MANIFEST`] and may be removed.
pub fn backup(data: &Path, to: &Path, copy: bool) -> Result<Manifest, ArchiveError> {
    if !data.is_dir() {
        return Err(crate::folder::FolderError::Absent { path: data.to_owned() }.into());
    }
    refuse_content(to)?;
    create_dir_durably(to).map_err(io_error("create", to))?;
    for attempt in 0..ATTEMPTS {
        match try_backup(data, to, copy) {
            Ok(Some(manifest)) => return finish(to, Manifest { retries: attempt, ..manifest }),
            Ok(None) => {}
            // A file that was live when the log was read and is gone now: somebody tidied up.
            Err(ArchiveError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        clear(to)?;
    }
    Err(ArchiveError::Restless { path: data.to_owned(), attempts: ATTEMPTS })
}

/// `None` when a segment went while the logs were read.
fn try_backup(data: &Path, to: &Path, copy: bool) -> Result<Option<Manifest>, ArchiveError> {
    let wal = data.join("wal");
    let before = segments(&wal)?;
    let opened = location(data)?.open(&std::env::temp_dir())?;
    let (place, root) = (opened.place.as_ref(), opened.root.as_path());
    let history = History::open_at(Arc::clone(&opened.place), root, "")?;
    let mut manifest = Manifest::default();
    copy_wal(&wal, &to.join("wal"), &mut manifest)?;
    if !before.iter().all(|id| id.path(&to.join("wal")).is_file()) {
        return Ok(None);
    }
    for (table, version) in history.versions() {
        manifest.versions.insert(table.to_owned(), version);
        let target = to.join("history").join(table).join("_delta_log");
        copy_log(place, &root.join(table).join("_delta_log"), &target, version)?;
    }
    for file in history.files().values().flatten() {
        copy_file((place, root), &to.join("history"), file, copy, &mut manifest)?;
    }
    if data.join(IDENTITY).is_file() {
        put(&data.join(IDENTITY), &to.join(IDENTITY), true)?;
    }
    copy_audit(&data.join("audit"), &to.join("audit"))?;
    copy_quarantine(&data.join("quarantine"), &to.join("quarantine"))?;
    Ok(Some(manifest))
}

fn segments(wal: &Path) -> Result<Vec<SegmentId>, ArchiveError> {
    let mut found: Vec<SegmentId> = names(wal)?.iter().filter_map(|name| SegmentId::parse(name)).collect();
    found.sort_unstable();
    Ok(found)
}

/// The segment being written may end in the middle of an entry: nobody was told that one is durable.
fn copy_wal(wal: &Path, to: &Path, manifest: &mut Manifest) -> Result<(), ArchiveError> {
    create_dir_durably(to).map_err(io_error("create", to))?;
    for id in segments(wal)? {
        match put(&id.path(wal), &id.path(to), true) {
            Ok((bytes, _)) => {
                manifest.wal_segments += 1;
                manifest.wal_bytes += bytes;
            }
            // Its rows are in Parquet now; whether in what was read of it, the caller finds out.
            Err(ArchiveError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    sync_dir(to).map_err(io_error("sync", to))
}

/// Commits and checkpoints before `version`.
fn copy_log(place: &dyn Place, log: &Path, to: &Path, version: u64) -> Result<(), ArchiveError> {
    if version == 0 {
        return Ok(());
    }
    create_dir_durably(to).map_err(io_error("create", to))?;
    for name in place.list(log).map_err(io_error("list", log))? {
        let number = name.get(..20).and_then(|digits| digits.parse::<u64>().ok());
        let whole = !name.ends_with(".tmp");
        if whole && number.is_some_and(|number| number < version) {
            let bytes = place.read(&log.join(&name)).map_err(io_error("read", &log.join(&name)))?;
            lay(&mut &bytes[..], &to.join(&name))?;
        }
    }
    sync_dir(to).map_err(io_error("sync", to))
}

fn copy_file(
    (place, root): (&dyn Place, &Path),
    to: &Path,
    file: &DataFile,
    copy: bool,
    manifest: &mut Manifest,
) -> Result<(), ArchiveError> {
    let Ok(relative) = file.path.strip_prefix(root) else { return Ok(()) };
    let target = to.join(relative);
    let folder = target.parent().unwrap_or(to);
    create_dir_durably(folder).map_err(io_error("create", folder))?;
    let (bytes, linked) = if place.is_remote() {
        let mut fetched = place.fetch(&file.path).map_err(io_error("read", &file.path))?;
        (lay(&mut fetched, &target)?, false)
    } else {
        put(&file.path, &target, copy)?
    };
    sync_dir(folder).map_err(io_error("sync", folder))?;
    manifest.files += 1;
    manifest.linked += u64::from(linked);
    manifest.bytes += bytes;
    manifest.rows += file.rows.unwrap_or(0);
    Ok(())
}

/// The head first: entries behind it are none too few.
fn copy_audit(from: &Path, to: &Path) -> Result<(), ArchiveError> {
    let mut names = names(from)?;
    names.sort_by_key(|name| name != "head.json");
    for name in names.iter().filter(|name| !name.ends_with(".tmp")) {
        create_dir_durably(to).map_err(io_error("create", to))?;
        put(&from.join(name), &to.join(name), true)?;
    }
    Ok(())
}

fn copy_quarantine(from: &Path, to: &Path) -> Result<(), ArchiveError> {
    for name in names(from)? {
        let path = from.join(&name);
        if path.is_dir() {
            copy_quarantine(&path, &to.join(&name))?;
        } else {
            create_dir_durably(to).map_err(io_error("create", to))?;
            put(&path, &to.join(&name), true)?;
        }
    }
    Ok(())
}

/// Gives `from` a second name, or copies it and syncs the copy. Returns its size, and whether it was linked.
pub(super) fn put(from: &Path, to: &Path, copy: bool) -> Result<(u64, bool), ArchiveError> {
    if !copy && fs::hard_link(from, to).is_ok() {
        let size = fs::metadata(to).map_err(io_error("examine", to))?.len();
        return Ok((size, true));
    }
    let mut source = fs::File::open(from).map_err(io_error("read", from))?;
    Ok((lay(&mut source, to)?, false))
}

/// Writes a new file of what `source` holds, and syncs it. Returns its size.
fn lay(source: &mut dyn io::Read, to: &Path) -> Result<u64, ArchiveError> {
    let mut target = fs::File::create(to).map_err(io_error("create", to))?;
    let bytes = io::copy(source, &mut target).map_err(io_error("write", to))?;
    target.sync_all().map_err(io_error("sync", to))?;
    Ok(bytes)
}

fn finish(to: &Path, manifest: Manifest) -> Result<Manifest, ArchiveError> {
    let made_by = concat!("skep-collector ", env!("CARGO_PKG_VERSION")).to_owned();
    let manifest = Manifest { made_by, made_at: jiff::Timestamp::now().to_string(), ..manifest };
    let path = to.join(MANIFEST);
    let bytes = serde_json::to_vec_pretty(&manifest).map_err(io::Error::other).map_err(io_error("write", &path))?;
    crate::folder::write_whole(&path, &bytes).map_err(io_error("write", &path))?;
    Ok(manifest)
}

pub(super) fn refuse_content(folder: &Path) -> Result<(), ArchiveError> {
    if names(folder)?.is_empty() { Ok(()) } else { Err(ArchiveError::NotEmpty { path: folder.to_owned() }) }
}

/// Takes away what an attempt left in a folder that was empty before it.
fn clear(folder: &Path) -> Result<(), ArchiveError> {
    for name in names(folder)? {
        let path = folder.join(name);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(io_error("remove", &path))?;
    }
    Ok(())
}

/// What is in a folder; nothing where there is none.
pub(super) fn names(folder: &Path) -> Result<Vec<String>, ArchiveError> {
    use skep_seglog::Storage;
    skep_seglog::Disk.list(folder).map_err(io_error("list", folder))
}

/// Every file below `folder`.
pub(super) fn files_below(folder: &Path) -> Result<Vec<PathBuf>, ArchiveError> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for name in names(&folder)? {
            let path = folder.join(name);
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}
