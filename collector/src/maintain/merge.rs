//! Sorted files to one sorted file.
//!
//! The files are read page by page and merged as they come; what is in memory is a few pages of each.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{cast, max, min};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, UnboundedMemoryPool};
use datafusion::physical_expr::expressions::col;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet};
use datafusion::physical_plan::sorts::streaming_merge::StreamingMergeBuilder;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, stream};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use skep_wire::tables::Table;
use thiserror::Error;

use crate::buffer::{convert, schema};
use crate::history::Place;
use crate::history::batches::Batches;

/// Rows read of each file at once, and rows that come out at once.
const BATCH_ROWS: usize = 1024;

/// Why files could not be merged.
#[derive(Debug, Error)]
pub enum MergeError {
    /// A file is missing or damaged.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The rows do not merge.
    #[error("rows do not merge")]
    Merge(#[source] Box<DataFusionError>),
    /// Rows are missing or too many.
    #[error("{found} rows came out of the files, {expected} are in them")]
    Rows {
        /// By the files' footers.
        expected: u64,
        /// Read.
        found: u64,
    },
}

/// One file's rows as of a table, in order.
#[derive(Debug)]
pub struct Source {
    table: &'static Table,
    path: PathBuf,
    reader: ParquetRecordBatchReader,
    left_out: Batches,
    /// By its footer.
    pub rows: u64,
    /// Rows that came by and were left out.
    pub without: Arc<AtomicU64>,
}

impl Source {
    /// Opens a file.
    ///
    /// # Errors
    /// [`MergeError::Read`].
    pub fn open(place: &dyn Place, table: &'static Table, path: &Path) -> Result<Self, MergeError> {
        let file = place.fetch(path).map_err(|error| read_error(path, error))?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| read_error(path, error))?;
        let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
        let reader = builder.with_batch_size(BATCH_ROWS).build().map_err(|error| read_error(path, error))?;
        let (left_out, without) = (Batches::default(), Arc::default());
        Ok(Self { table, path: path.to_owned(), reader, left_out, rows, without })
    }

    /// The same without the rows of some batches.
    pub fn without(self, left_out: Batches) -> Self {
        Self { left_out, ..self }
    }

    /// All of it, batch by batch.
    pub fn batches(self) -> impl Iterator<Item = Result<RecordBatch, MergeError>> + Send {
        let Self { table, path, reader, left_out, without, .. } = self;
        reader.map(move |batch| {
            let batch = batch.and_then(|batch| of_table(table, &batch)).map_err(|error| read_error(&path, error))?;
            if left_out.is_empty() {
                return Ok(batch);
            }
            let rest = left_out.leave_out(&batch).map_err(|error| read_error(&path, error))?;
            without.fetch_add((batch.num_rows() - rest.num_rows()) as u64, Ordering::Relaxed);
            Ok(rest)
        })
    }
}

/// The rows of `sources` in the table's order, as a stream.
///
/// # Errors
/// [`MergeError::Merge`].
pub fn merged(table: &'static Table, sources: Vec<Source>) -> Result<SendableRecordBatchStream, MergeError> {
    let schema = schema::schema(table);
    let streams = sources.into_iter().map(|source| {
        let batches = source.batches().map(|batch| batch.map_err(|error| DataFusionError::External(Box::new(error))));
        let stream = RecordBatchStreamAdapter::new(Arc::clone(&schema), stream::iter(batches));
        Box::pin(stream) as SendableRecordBatchStream
    });
    let failed = |error| MergeError::Merge(Box::new(error));
    let order = order(table, &schema).map_err(failed)?;
    // Bounded by the number of files and the size of a batch, not by a pool.
    let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
    StreamingMergeBuilder::new()
        .with_streams(streams.collect())
        .with_schema(Arc::clone(&schema))
        .with_expressions(&order)
        .with_metrics(BaselineMetrics::new(&ExecutionPlanMetricsSet::new(), 0))
        .with_batch_size(BATCH_ROWS)
        .with_reservation(MemoryConsumer::new("merge").register(&pool))
        .build()
        .map_err(failed)
}

fn order(table: &'static Table, schema: &SchemaRef) -> Result<LexOrdering, DataFusionError> {
    let keys: Result<Vec<_>, _> =
        table.sort.iter().map(|name| col(name, schema).map(PhysicalSortExpr::new_default)).collect();
    LexOrdering::new(keys?).ok_or_else(|| DataFusionError::Plan(format!("{} has no order", table.name)))
}

/// The batch with exactly the table's columns: older files lack some.
fn of_table(table: &'static Table, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = schema::schema(table);
    let column = |column: &'static skep_wire::tables::Column| -> Result<ArrayRef, ArrowError> {
        match batch.column_by_name(column.name) {
            Some(array) => cast(array, &schema::data_type(column.kind)),
            None => convert::absent(column, batch.num_rows()),
        }
    };
    RecordBatch::try_new(schema, table.stored_columns().map(column).collect::<Result<_, _>>()?)
}

/// The next rows of a stream. The thread waits; there is nothing else for it to do.
///
/// # Errors
/// [`MergeError`].
pub fn next(
    runtime: &tokio::runtime::Runtime,
    stream: &mut SendableRecordBatchStream,
) -> Result<Option<RecordBatch>, MergeError> {
    runtime.block_on(stream.next()).transpose().map_err(|error| match error {
        DataFusionError::External(error) => match error.downcast::<MergeError>() {
            Ok(error) => *error,
            Err(error) => MergeError::Merge(Box::new(DataFusionError::External(error))),
        },
        error => MergeError::Merge(Box::new(error)),
    })
}

/// `times` widened by those of a batch.
pub fn widen(times: Option<(i64, i64)>, batch: &RecordBatch) -> Option<(i64, i64)> {
    use arrow::array::AsArray;
    let column = batch.column_by_name("time").and_then(|array| array.as_primitive_opt::<TimestampMicrosecondType>());
    let here = column.and_then(|column| Some((min(column)?, max(column)?)));
    match (times, here) {
        (Some((first, last)), Some((from, to))) => Some((first.min(from), last.max(to))),
        (times, here) => times.or(here),
    }
}

fn read_error(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> MergeError {
    MergeError::Read { path: path.to_owned(), source: Box::new(error) }
}
