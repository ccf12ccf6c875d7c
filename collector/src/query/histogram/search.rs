//! Whether all histograms of a file decode: what the engine's reader passes over may be what a statement broke at.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use parquet::errors::Result;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

use super::column::{Column, Lists};
use super::runs::broken;
use super::shape::{Kept, Leaves, kept};

/// Rows that are decoded at a time.
const ROWS_AT_ONCE: usize = 1024;

/// Decodes every histogram there is. Blocks.
///
/// # Errors
/// What does not decode, or cannot be read.
pub fn search(file: &File) -> Result<()> {
    let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional);
    let footer = reader.parse_and_finish(file)?;
    for field in footer.file_metadata().schema_descr().root_schema().get_fields() {
        // What is kept in another way is the engine's to read.
        let Kept::Plainly(leaves) = kept(&footer, field.name()) else { continue };
        for group in 0..footer.num_row_groups() {
            decode(file, &footer, group, &leaves)?;
        }
    }
    Ok(())
}

fn decode(file: &File, footer: &ParquetMetaData, group: usize, leaves: &Leaves) -> Result<()> {
    let mut column = Column::new(footer, group, leaves)?;
    let rows = usize::try_from(footer.row_group(group).num_rows())?;
    for start in (0..rows).step_by(ROWS_AT_ONCE) {
        let span = start..rows.min(start + ROWS_AT_ONCE);
        let span = std::slice::from_ref(&span);
        let (missing, of_values) = column.missing(span);
        let bytes = missing.iter().map(|range| read(file, range)).collect::<Result<_>>()?;
        column.give(&missing, of_values, bytes);
        let mut lists = Lists::default();
        column.take(span, &mut lists)?;
        lists.finish()?;
    }
    Ok(())
}

fn read(file: &File, range: &Range<u64>) -> Result<Bytes> {
    // Before there is memory for it.
    if range.end > file.metadata()?.len() {
        return Err(broken("it is not in the file"));
    }
    let mut bytes = vec![0; usize::try_from(range.end.saturating_sub(range.start))?];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes.into())
}
