//! The files below `data/` of a folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// All CSV files, as `GROUP/FILE.csv`, in order.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let data = folder.join("data");
    let mut found = Vec::new();
    for group in std::fs::read_dir(&data).with_context(|| format!("cannot list {}", data.display()))? {
        let group = group?.path();
        if !group.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(&group)? {
            let file = file?.path();
            if file.extension().is_some_and(|extension| extension == "csv") {
                found.push(file.strip_prefix(&data)?.to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The text of one of them.
pub(crate) fn text(folder: &Path, file: &Path) -> Result<String> {
    let path = folder.join("data").join(file);
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}
