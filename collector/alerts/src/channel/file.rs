//! A line of JSON at the end of a file, synced: what a webhook gets.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{TellError, webhook};
use crate::report::Notice;

pub(super) async fn append(path: &Path, notice: &Notice) -> Result<(), TellError> {
    let (own, line) = (path.to_owned(), format!("{}\n", webhook::body(notice)));
    let written = tokio::task::spawn_blocking(move || write(&own, &line))
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)));
    written.map_err(|source| TellError::File { path: PathBuf::from(path), source })
}

fn write(path: &Path, line: &str) -> io::Result<()> {
    let mut file = File::options().create(true).append(true).open(path)?;
    file.write_all(line.as_bytes())?;
    file.sync_data()
}
