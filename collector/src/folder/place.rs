//! Where the history of this data folder is, if it is not in it.

use std::path::Path;

use serde::{Deserialize, Serialize};
use skep_wire::tables::TABLES;

use super::{Folder, FolderError, absolute, io, write_whole};
use crate::history::Location;

const FILE: &str = "history.json";

/// Written by the first start that names a place, so that every program that is given the folder finds it.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    location: String,
}

impl Folder {
    /// Where the tables are.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn location(&self) -> Result<Location, FolderError> {
        location(&self.path)
    }

    /// Where the tables are to be: where they are already, or in `wanted` if there are none yet.
    ///
    /// # Errors
    /// [`FolderError::Elsewhere`] when they are somewhere else.
    pub fn settle(&self, wanted: Option<&Location>) -> Result<Location, FolderError> {
        let kept = kept(&self.path)?;
        let own = self.own();
        let Some(wanted) = wanted else { return Ok(kept.unwrap_or(own)) };
        let holds_tables = || TABLES.iter().any(|table| self.history().join(table.name).join("_delta_log").is_dir());
        let found = kept.or_else(|| holds_tables().then(|| own.clone()));
        match found {
            Some(found) if found != *wanted => Err(FolderError::Elsewhere {
                path: self.path.clone(),
                found: Box::new(found),
                wanted: Box::new(wanted.clone()),
            }),
            Some(_) => Ok(wanted.clone()),
            None => {
                if *wanted != own {
                    keep(&self.path, wanted)?;
                }
                Ok(wanted.clone())
            }
        }
    }

    fn own(&self) -> Location {
        Location::Folder(self.history())
    }
}

/// Where the tables of the data folder `folder` are, whoever uses it.
///
/// # Errors
/// [`FolderError`].
pub fn location(folder: &Path) -> Result<Location, FolderError> {
    match kept(folder)? {
        Some(location) => Ok(location),
        None => Ok(Location::Folder(absolute(folder)?.join("history"))),
    }
}

fn kept(folder: &Path) -> Result<Option<Location>, FolderError> {
    let path = folder.join(FILE);
    match std::fs::read(&path) {
        Ok(bytes) => {
            let kept: Kept = serde_json::from_slice(&bytes)
                .map_err(|source| FolderError::Malformed { path: path.clone(), source })?;
            Ok(Some(kept.location.parse().map_err(|source| FolderError::Place { path, source: Box::new(source) })?))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io("read", &path, source)),
    }
}

fn keep(folder: &Path, location: &Location) -> Result<(), FolderError> {
    let path = folder.join(FILE);
    let bytes = serde_json::to_vec(&Kept { location: location.to_string() })
        .map_err(|source| FolderError::Malformed { path: path.clone(), source })?;
    write_whole(&path, &bytes).map_err(|source| io("write", &path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_remembers_where_its_history_is() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::open_exclusive(temp.path()).unwrap();
        let own = folder.location().unwrap();
        assert_eq!((folder.settle(None).unwrap(), folder.settle(Some(&own)).unwrap()), (own.clone(), own.clone()));
        let (there, elsewhere): (Location, Location) = ("s3://b/a".parse().unwrap(), "s3://b/c".parse().unwrap());
        assert_eq!(folder.settle(Some(&there)).unwrap(), there);
        assert_eq!((folder.settle(None).unwrap(), folder.location().unwrap()), (there.clone(), there));
        let refused = folder.settle(Some(&elsewhere)).unwrap_err().to_string();
        assert!(refused.contains("s3://b/a") && refused.contains("s3://b/c"), "{refused}");
    }

    #[test]
    fn tables_in_the_folder_are_not_left_behind() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::open_exclusive(temp.path()).unwrap();
        std::fs::create_dir_all(folder.history().join("cpu/_delta_log")).unwrap();
        let there = "s3://b/a".parse().unwrap();
        assert!(matches!(folder.settle(Some(&there)), Err(FolderError::Elsewhere { .. })));
        assert_eq!(folder.settle(None).unwrap(), Location::Folder(folder.history()));
    }
}
