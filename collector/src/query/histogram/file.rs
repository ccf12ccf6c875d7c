//! The histograms of one file, by the numbers of its rows.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, new_null_array};
use arrow::compute::{cast, concat};
use arrow::datatypes::FieldRef;
use datafusion::common::exec_datafusion_err;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetFileReaderFactory;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::TryStreamExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};

use super::column::{Column, Spare};
use super::shape::{Kept, Leaves, kept};

/// How a file is opened.
#[derive(Debug, Clone)]
pub struct Opener {
    /// Knows the footers of files that were read before.
    pub factory: Arc<dyn ParquetFileReaderFactory>,
    /// What was read.
    pub metrics: ExecutionPlanMetricsSet,
    /// Of the plan, for the metrics.
    pub partition: usize,
    /// What the statement may use.
    pub memory: Arc<dyn MemoryPool>,
}

impl Opener {
    fn open(&self, file: &PartitionedFile) -> Result<Box<dyn AsyncFileReader>> {
        Ok(self.factory.create_reader(self.partition, file.clone(), None, &self.metrics)?)
    }
}

/// An open file.
pub struct File {
    opener: Opener,
    at: PartitionedFile,
    reader: Box<dyn AsyncFileReader>,
    footer: Arc<ParquetMetaData>,
    /// The first row of each row group, and the end.
    groups: Vec<usize>,
    columns: Vec<State>,
    /// For pages; what is handed on is the next operator's to account for.
    memory: MemoryReservation,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File").field("at", &self.at.object_meta.location).finish_non_exhaustive()
    }
}

/// How far a column was read.
struct State {
    field: FieldRef,
    kept: Kept,
    /// The row group that is being read.
    open: Option<(usize, Column)>,
    spare: Spare,
}

impl File {
    /// Opens the file to read these columns of it.
    ///
    /// # Errors
    /// It does not open, or has no column where there must be one.
    pub async fn open(opener: Opener, at: &PartitionedFile, columns: &[FieldRef]) -> Result<Self> {
        let mut reader = opener.open(at)?;
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let footer = reader.get_metadata(Some(&options)).await?;
        let mut row = 0;
        let mut groups = vec![0];
        for group in footer.row_groups() {
            row += usize::try_from(group.num_rows()).unwrap_or(0);
            groups.push(row);
        }
        let column = |field: &FieldRef| {
            let kept = kept(&footer, field.name());
            if kept == Kept::Not && !field.is_nullable() {
                return Err(exec_datafusion_err!("{} has no column {}", at.object_meta.location, field.name()));
            }
            Ok(State { field: Arc::clone(field), kept, open: None, spare: Spare::default() })
        };
        let columns = columns.iter().map(column).collect::<Result<_>>()?;
        let memory = MemoryConsumer::new("HistogramExec").register(&opener.memory);
        Ok(Self { opener, at: at.clone(), reader, footer, groups, columns, memory })
    }

    /// These rows of every column; `rows` are spans in the file, ascending but between row groups.
    ///
    /// # Errors
    /// What is there does not decode, or is not there.
    pub async fn read(&mut self, rows: &[Range<usize>]) -> Result<Vec<ArrayRef>> {
        let mut arrays = Vec::with_capacity(self.columns.len());
        for number in 0..self.columns.len() {
            let column = &self.columns[number];
            arrays.push(match column.kept {
                Kept::Not => new_null_array(column.field.data_type(), rows.iter().map(Range::len).sum()),
                Kept::Plainly(leaves) => self.read_plain(number, &leaves, rows).await?,
                Kept::Otherwise => self.read_other(number, rows).await?,
            });
        }
        let open = self.columns.iter().filter_map(|column| column.open.as_ref());
        self.memory.try_resize(open.map(|(_, column)| column.bytes()).sum())?;
        Ok(arrays)
    }

    async fn read_plain(&mut self, number: usize, leaves: &Leaves, rows: &[Range<usize>]) -> Result<ArrayRef> {
        let state = &mut self.columns[number];
        let mut lists = state.spare.lists();
        for (group, spans) in by_group(&self.groups, rows)? {
            let first = spans.first().map_or(0, |first| first.start);
            let (_, column) = match state.open.take().filter(|(open, column)| *open == group && column.is_before(first))
            {
                Some(open) => state.open.insert(open),
                None => state.open.insert((group, Column::new(&self.footer, group, leaves)?)),
            };
            let (missing, of_values) = column.missing(&spans);
            if !missing.is_empty() {
                let wanted: u64 = missing.iter().map(|range| range.end.saturating_sub(range.start)).sum();
                self.memory.try_grow(usize::try_from(wanted).unwrap_or(usize::MAX))?;
                let bytes = self.reader.get_byte_ranges(missing.clone()).await?;
                column.give(&missing, of_values, bytes);
            }
            column.take(&spans, &mut lists)?;
        }
        let lists = lists.finish()?;
        state.spare.remember(&lists);
        Ok(lists)
    }

    /// As the engine reads it, which takes its time.
    async fn read_other(&mut self, number: usize, rows: &[Range<usize>]) -> Result<ArrayRef> {
        let field = &self.columns[number].field;
        let metadata = ArrowReaderMetadata::try_new(Arc::clone(&self.footer), ArrowReaderOptions::new())?;
        let mask = ProjectionMask::columns(metadata.parquet_schema(), [field.name().as_str()]);
        let mut arrays = Vec::new();
        for (group, spans) in by_group(&self.groups, rows)? {
            let length = self.footer.row_group(group).num_rows();
            let reader: Box<dyn AsyncFileReader> = self.opener.open(&self.at)?;
            let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, metadata.clone());
            let selection =
                RowSelection::from_consecutive_ranges(spans.into_iter(), usize::try_from(length).unwrap_or(0));
            let stream =
                builder.with_projection(mask.clone()).with_row_groups(vec![group]).with_row_selection(selection);
            let batches: Vec<_> = stream.build()?.try_collect().await?;
            for batch in batches {
                arrays.push(cast(batch.column(0), field.data_type())?);
            }
        }
        let arrays: Vec<_> = arrays.iter().map(AsRef::as_ref).collect();
        Ok(concat(&arrays)?)
    }
}

/// Spans of rows in the file by the row group they are in, in which they are counted anew.
fn by_group(groups: &[usize], rows: &[Range<usize>]) -> Result<Vec<(usize, Vec<Range<usize>>)>> {
    let mut parts: Vec<(usize, Vec<Range<usize>>)> = Vec::new();
    if rows.iter().any(|rows| groups.last().is_none_or(|end| rows.end > *end)) {
        return Err(exec_datafusion_err!("rows behind the end of a file"));
    }
    for rows in rows {
        let mut from = rows.start;
        while from < rows.end {
            let group = groups.partition_point(|first| *first <= from) - 1;
            let end = rows.end.min(groups[group + 1]);
            let span = from - groups[group]..end - groups[group];
            match parts.last_mut() {
                Some((last, spans)) if *last == group && spans.last().is_some_and(|last| last.end <= span.start) => {
                    spans.push(span);
                }
                _ => parts.push((group, vec![span])),
            }
            from = end;
        }
    }
    Ok(parts)
}

/// Numbers of rows as spans.
pub fn spans(rows: &[i64]) -> Vec<Range<usize>> {
    let mut spans: Vec<Range<usize>> = Vec::new();
    for row in rows {
        let row = usize::try_from(*row).unwrap_or(usize::MAX - 1);
        match spans.last_mut() {
            Some(span) if span.end == row => span.end += 1,
            _ => spans.push(row..row + 1),
        }
    }
    spans
}
