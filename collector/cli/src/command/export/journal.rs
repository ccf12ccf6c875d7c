//! What an export into a folder was asked for and which files are done, so that one that was broken off goes on.
//!
//! `export.json` in the folder holds both from the start of the export to its end, when it goes.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::command::span;
use crate::exit::Failure;
use crate::output::{DataFormat, OutputError, replace_file};

const NAME: &str = "export.json";

/// What is copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) tables: Vec<String>,
    pub(super) since_us: Option<i64>,
    pub(super) until_us: i64,
    pub(super) format: DataFormat,
}

impl Request {
    /// The condition on a table's time, with its WHERE.
    pub(super) fn filter(&self, table: &str) -> String {
        let column = time_column(table);
        let since = self.since_us.map_or(String::new(), |us| format!("{column} >= {} AND ", span::moment(us)));
        format!(" WHERE {since}{column} < {}", span::moment(self.until_us))
    }
}

/// The one view without `time` says since when.
pub(super) fn time_column(table: &str) -> &'static str {
    if table == "listeners" { "since" } else { "time" }
}

/// A file that is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) table: String,
    pub(super) file: PathBuf,
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    request: Request,
    done: Vec<Done>,
}

/// An export under way.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    content: Content,
}

impl Journal {
    /// Begins an export into a folder that is there; one that was broken off is forgotten.
    pub(super) fn begin(folder: &Path, request: Request) -> Result<Self, Failure> {
        let journal = Self { path: folder.join(NAME), content: Content { request, done: Vec::new() } };
        journal.write()?;
        Ok(journal)
    }

    /// The export that was broken off, if there is one.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, Failure> {
        let path = folder.join(NAME);
        let fail = |source| OutputError::File { path: path.clone(), source };
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail(error).into()),
        };
        let content: Content = serde_json::from_slice(&text).map_err(|error| fail(error.into()))?;
        Ok(Some(Self { path, content }))
    }

    pub(super) fn request(&self) -> &Request {
        &self.content.request
    }

    /// Tables that are not done, or whose file is no longer as it was written.
    pub(super) fn left(&self) -> Vec<String> {
        let whole = |done: &&Done| std::fs::metadata(&done.file).is_ok_and(|meta| meta.len() == done.bytes);
        let is_done = |table: &String| self.content.done.iter().filter(whole).any(|done| done.table == *table);
        self.content.request.tables.iter().filter(|table| !is_done(table)).cloned().collect()
    }

    pub(super) fn add(&mut self, done: Done) -> Result<(), Failure> {
        self.content.done.retain(|before| before.table != done.table);
        self.content.done.push(done);
        self.write()
    }

    /// All is done: what was copied, all runs together.
    pub(super) fn end(self) -> Result<Vec<Done>, Failure> {
        std::fs::remove_file(&self.path).map_err(|source| OutputError::File { path: self.path, source })?;
        Ok(self.content.done)
    }

    fn write(&self) -> Result<(), Failure> {
        let fail = |source| OutputError::File { path: self.path.clone(), source };
        let text = serde_json::to_vec_pretty(&self.content).map_err(|error| fail(error.into()))?;
        Ok(replace_file(&self.path, &text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        let tables = ["cpu", "loss"].map(str::to_owned).into();
        Request { tables, since_us: Some(5), until_us: 9, format: DataFormat::Csv }
    }

    #[test]
    fn an_export_goes_on_behind_what_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Journal::read(folder.path()).unwrap().is_none());
        let mut journal = Journal::begin(folder.path(), request()).unwrap();
        let file = folder.path().join("cpu.csv");
        std::fs::write(&file, "123").unwrap();
        journal.add(Done { table: "cpu".to_owned(), file: file.clone(), rows: 1, bytes: 3 }).unwrap();
        drop(journal);

        let journal = Journal::read(folder.path()).unwrap().unwrap();
        assert_eq!((journal.request(), journal.left()), (&request(), vec!["loss".to_owned()]));
        std::fs::write(&file, "12").unwrap();
        assert_eq!(journal.left(), ["cpu", "loss"], "a file that is not as it was written is copied again");
        assert_eq!(journal.end().unwrap().len(), 1);
        assert!(Journal::read(folder.path()).unwrap().is_none());
    }

    #[test]
    fn both_ends_of_the_span_are_conditions() {
        let filter = request().filter("cpu");
        assert!(filter.starts_with(" WHERE time >= arrow_cast(5, ") && filter.contains(" AND time < arrow_cast(9, "));
        assert!(!Request { since_us: None, ..request() }.filter("listeners").contains(">="));
    }
}
