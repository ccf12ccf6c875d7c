//! Sealed segments to files.

use std::sync::Arc;

use skep_wire::tables;

use super::table::HistoryError;
use super::tables::History;
use crate::buffer::Store;

/// What one flush did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Rows written.
    pub rows: usize,
    /// Files written.
    pub files: usize,
}

/// Writes every sealed segment, oldest first. Blocks; call it from one thread at a time.
///
/// # Errors
/// The first [`HistoryError`]. What was written before it stays; call again later for the rest.
pub fn flush(store: &Arc<Store>, history: &History) -> (Flushed, Result<(), HistoryError>) {
    let mut flushed = Flushed::default();
    while let Some((segment, parts)) = store.oldest_frozen() {
        for (name, batches) in parts {
            let Some(table) = tables::find(name) else { continue };
            let appended = history.with(table.name, |folder| {
                let written = folder.append(segment, &batches)?;
                // Under the folder's lock, so that nobody sees the files without the rows having left the buffer.
                store.committed(segment, table.name, folder.files());
                Ok(written)
            });
            match appended {
                Some(Ok((rows, files))) => {
                    flushed.rows += rows;
                    flushed.files += files;
                }
                Some(Err(error)) => return (flushed, Err(error)),
                None => {}
            }
        }
        store.release(segment);
    }
    (flushed, Ok(()))
}
