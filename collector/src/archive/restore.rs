//! A backup becomes a data folder.

use std::path::Path;

use super::backup::{self, MANIFEST, Manifest};
use super::{ArchiveError, io_error};
use crate::history::parquet_file::{create_dir_durably, sync_dir};

/// Copies the backup in `from` to `data`, which must be empty or absent. A collector may be started on it then.
///
/// Everything is copied, nothing shares its bytes with the backup: a collector goes on writing some of it.
///
/// # Errors
/// [`ArchiveError`]; remove `data` before the next attempt.
pub fn restore(from: &Path, data: &Path) -> Result<Manifest, ArchiveError> {
    let path = from.join(MANIFEST);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(ArchiveError::Unfinished { path: from.to_owned() });
        }
        Err(source) => return Err(ArchiveError::Io { action: "read", path, source }),
    };
    let manifest =
        serde_json::from_slice(&bytes).map_err(std::io::Error::other).map_err(io_error("understand", &path))?;
    backup::refuse_content(data)?;
    create_dir_durably(data).map_err(io_error("create", data))?;
    for file in backup::files_below(from)? {
        let Ok(relative) = file.strip_prefix(from) else { continue };
        if relative == Path::new(MANIFEST) {
            continue;
        }
        let target = data.join(relative);
        let folder = target.parent().unwrap_or(data);
        create_dir_durably(folder).map_err(io_error("create", folder))?;
        backup::put(&file, &target, true)?;
        sync_dir(folder).map_err(io_error("sync", folder))?;
    }
    Ok(manifest)
}
