//! Rows in memory as the engine reads them: made plain batch by batch, since all of them at once would take several times
//! the memory that the buffer may.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use futures::stream;

use crate::buffer::schema;
use crate::history::batches::Batches;

/// Some columns of rows in memory.
#[derive(Debug, Clone)]
pub(super) struct Held {
    /// As [`schema::held`] says.
    pub(super) rows: Arc<[RecordBatch]>,
    /// Which columns.
    pub(super) projection: Vec<usize>,
    /// These as they are handed on.
    pub(super) schema: SchemaRef,
    /// Rows of these are not handed on.
    pub(super) left_out: Batches,
}

impl Held {
    /// The scan of at most `limit` rows.
    pub(super) fn plan(self, limit: Option<usize>) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = Arc::clone(&self.schema);
        Ok(Arc::new(StreamingTableExec::try_new(schema, vec![Arc::new(self)], None, None, false, limit)?))
    }

    fn read(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let rows = if self.left_out.is_empty() { rows } else { &self.left_out.leave_out(rows)? };
        Ok(schema::plain(&rows.project(&self.projection)?)?)
    }
}

impl PartitionStream for Held {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let held = self.clone();
        let read = (0..held.rows.len()).map(move |number| held.read(&held.rows[number]));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream::iter(read)))
    }
}
