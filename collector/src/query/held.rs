//! Rows in memory as the engine reads them: made plain batch by batch, since all of them at once would take several times
//! the memory that the buffer may. How many they are is known, which is what an order of joins goes by.

use std::fmt::{Formatter, Result as Written};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source::{DataSource, DataSourceExec};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayFormatType, ExecutionPlan, SendableRecordBatchStream, Statistics};
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
    /// No more are needed.
    pub(super) limit: Option<usize>,
}

impl Held {
    /// The scan.
    pub(super) fn plan(self) -> Arc<dyn ExecutionPlan> {
        DataSourceExec::from_data_source(self)
    }

    fn read(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let rows = if self.left_out.is_empty() { rows } else { &self.left_out.leave_out(rows)? };
        Ok(schema::plain(&rows.project(&self.projection)?)?)
    }
}

impl DataSource for Held {
    fn open(&self, _partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (held, mut number, mut left) = (self.clone(), 0, self.limit.unwrap_or(usize::MAX));
        let read = std::iter::from_fn(move || {
            let rows = held.rows.get(number).filter(|_| left > 0)?;
            number += 1;
            Some(held.read(rows).map(|rows| {
                let rows = rows.slice(0, rows.num_rows().min(left));
                left -= rows.num_rows();
                rows
            }))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream::iter(read))))
    }

    fn fmt_as(&self, _: DisplayFormatType, out: &mut Formatter<'_>) -> Written {
        write!(out, "memory, {} batches", self.rows.len())?;
        self.limit.map_or(Ok(()), |limit| write!(out, ", fetch={limit}"))
    }

    fn output_partitioning(&self) -> Partitioning {
        Partitioning::UnknownPartitioning(1)
    }

    fn eq_properties(&self) -> EquivalenceProperties {
        EquivalenceProperties::new(Arc::clone(&self.schema))
    }

    fn partition_statistics(&self, _: Option<usize>) -> Result<Arc<Statistics>> {
        let all: usize = self.rows.iter().map(RecordBatch::num_rows).sum();
        let rows = all.min(self.limit.unwrap_or(usize::MAX));
        let num_rows = if self.left_out.is_empty() { Precision::Exact(rows) } else { Precision::Inexact(rows) };
        Ok(Arc::new(Statistics { num_rows, ..Statistics::new_unknown(&self.schema) }))
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn DataSource>> {
        Some(Arc::new(Self { limit, ..self.clone() }))
    }

    fn fetch(&self) -> Option<usize> {
        self.limit
    }

    fn try_swapping_with_projection(&self, _: &ProjectionExprs) -> Result<Option<Arc<dyn DataSource>>> {
        Ok(None)
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }
}
