//! Answers to bytes: tables for people, json and csv for pipes, arrow and parquet for tools.
//!
//! [`Writer`] takes batches one at a time and writes them as they come in; a table waits for its first page.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use arrow::error::ArrowError;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use thiserror::Error;

mod cell;

mod flat;

mod progress;

mod row;

mod sheet;

mod style;

mod words;

mod writer;

mod zone;

pub use cell::{Distribution, escape};
pub use progress::Progress;
pub use row::{Row, rows};
pub use sheet::{Layout, TextColumn, cut, render, render_columns};
pub use style::{Paint, Style};
pub use words::{count, duration_ns, quoted, rfc3339_us, share, since, time_us};
pub use writer::{Writer, to_json};

/// How a listing is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ListFormat {
    /// For people
    #[default]
    Table,
    /// One array of objects
    Json,
    /// With a header line
    Csv,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataFormat {
    /// For people; histograms are shortened to count and percentiles
    #[default]
    Table,
    /// One array of objects
    Json,
    /// One object a line
    Ndjson,
    /// With a header line; lists and histograms as JSON text
    Csv,
    /// One Arrow IPC stream
    Arrow,
    /// One Parquet file
    Parquet,
}

impl From<ListFormat> for DataFormat {
    fn from(format: ListFormat) -> Self {
        match format {
            ListFormat::Table => Self::Table,
            ListFormat::Json => Self::Json,
            ListFormat::Csv => Self::Csv,
        }
    }
}

/// Why an answer could not be written.
#[derive(Debug, Error)]
pub enum OutputError {
    /// Standard output.
    #[error("cannot write the answer")]
    Stdout(#[source] io::Error),
    /// A file.
    #[error("cannot write {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The format cannot hold it.
    #[error("cannot encode the answer")]
    Arrow(#[source] ArrowError),
    /// The format cannot hold it.
    #[error("cannot encode the answer")]
    Parquet(#[source] parquet::errors::ParquetError),
    /// Bytes that are not text would scramble the terminal.
    #[error("{format} is not for a terminal: pass --out FILE or send the output somewhere")]
    Terminal {
        /// Which.
        format: &'static str,
    },
}

impl OutputError {
    /// Whether the reader of our standard output went away.
    pub fn is_closed_pipe(&self) -> bool {
        let mut cause: Option<&dyn std::error::Error> = Some(self);
        while let Some(error) = cause {
            if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
                return true;
            }
            if let Some(ArrowError::IoError(_, error)) = error.downcast_ref::<ArrowError>() {
                return error.kind() == io::ErrorKind::BrokenPipe;
            }
            cause = error.source();
        }
        false
    }
}

/// Prints text to standard output.
///
/// # Errors
/// [`OutputError::Stdout`].
pub fn print(text: &str) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(OutputError::Stdout)
}

/// Prints a line to standard output.
///
/// # Errors
/// [`OutputError::Stdout`].
pub fn print_line(line: &str) -> Result<(), OutputError> {
    print(&format!("{line}\n"))
}

/// A remark for people, on standard error and only when they look at it.
pub fn remark(text: &str) {
    if io::stderr().is_terminal() {
        eprintln!("{text}");
    }
}

/// Writes a small file whole: what stands under `path` is the old or the new content, never half of it.
///
/// # Errors
/// [`OutputError::File`].
pub fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), OutputError> {
    let fail = |source| OutputError::File { path: path.to_owned(), source };
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    std::fs::write(&partial, bytes).map_err(fail)?;
    std::fs::rename(&partial, path).map_err(fail)
}
