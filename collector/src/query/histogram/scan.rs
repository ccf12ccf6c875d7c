//! The operator: rows of a scan without their histograms, and then with them.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, FieldRef, Int32Type, Int64Type, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::exec_datafusion_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetFileReaderFactory;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{CardinalityEffect, ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::filter_pushdown::{FilterDescription, FilterPushdownPhase};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;
use parquet::arrow::RowNumber;

use super::file::{File, Opener, spans};

/// Buckets that are handed on at once, about: what a core's own cache holds while they are added up.
const BUCKETS_AT_ONCE: usize = 64 << 10;

/// Rows that are handed on at once: few at first, since it is not known how many buckets they have.
const ROWS_AT_ONCE: Range<usize> = 256..8192;

/// The column of the scan below that says which of [`Source::files`] a row is of; no statement can name it.
const FILE: &str = "#file";

/// The column of the scan below that says which row of its file a row is; no statement can name it.
const ROW: &str = "#row";

/// [`FILE`] as a column that is the same in all of a file.
pub fn file_column() -> FieldRef {
    Arc::new(Field::new(FILE, DataType::Int32, false))
}

/// [`ROW`] as a column that the engine's reader counts.
pub fn row_column() -> FieldRef {
    Arc::new(Field::new(ROW, DataType::Int64, false).with_extension_type(RowNumber))
}

/// Where histograms are read from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The files, by the number in [`FILE`].
    pub files: Arc<[PartitionedFile]>,
    /// Reads them.
    pub factory: Arc<dyn ParquetFileReaderFactory>,
}

/// Adds histograms to rows.
#[derive(Debug)]
pub struct HistogramExec {
    /// All columns but histograms, in order, then [`FILE`] and [`ROW`].
    input: Arc<dyn ExecutionPlan>,
    source: Source,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// Whether a column is one that this operator adds.
pub fn is_histogram(field: &Field) -> bool {
    matches!(field.data_type(), DataType::List(item) if matches!(item.data_type(), DataType::Struct(_)))
}

impl HistogramExec {
    /// Rows of `input` with the histograms that are in `schema` and not in them.
    pub fn new(input: Arc<dyn ExecutionPlan>, source: Source, schema: SchemaRef) -> Self {
        let properties = PlanProperties::clone(input.properties());
        let properties = properties.with_eq_properties(EquivalenceProperties::new(Arc::clone(&schema)));
        Self { input, source, schema, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl DisplayAs for HistogramExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.schema.fields().iter().filter(|field| is_histogram(field)).map(|field| field.name().as_str());
        write!(f, "HistogramExec: columns=[{}]", names.collect::<Vec<_>>().join(", "))
    }
}

impl ExecutionPlan for HistogramExec {
    fn name(&self) -> &str {
        "HistogramExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        // It does, but nobody shall sort below: rows are found fastest in the order of their file.
        vec![false]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        // A file's rows are to come in their order.
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().ok_or_else(|| exec_datafusion_err!("histograms of no scan"))?;
        Ok(Arc::new(Self::new(input, self.source.clone(), Arc::clone(&self.schema))))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (factory, memory) = (Arc::clone(&self.source.factory), Arc::clone(context.memory_pool()));
        let input = self.input.execute(partition, context)?;
        let opener = Opener { factory, metrics: self.metrics.clone(), partition, memory };
        let adder = Adder {
            opener,
            files: Arc::clone(&self.source.files),
            columns: self.schema.fields().iter().filter(|field| is_histogram(field)).cloned().collect(),
            schema: Arc::clone(&self.schema),
            open: None,
            waiting: None,
            rows_at_once: ROWS_AT_ONCE.start,
        };
        let rows = futures::stream::try_unfold((input, adder), |(mut input, mut adder)| async move {
            let waiting = match adder.waiting.take() {
                Some(waiting) => waiting,
                None => match input.next().await {
                    Some(rows) => rows?,
                    None => return Ok(None),
                },
            };
            let rows = adder.next(waiting).await?;
            Ok(Some((rows, (input, adder))))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn supports_limit_pushdown(&self) -> bool {
        true
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }

    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterDescription> {
        // Those over histograms stay above, since the input does not have their columns.
        FilterDescription::from_children(filters, &self.children())
    }
}

/// What adds histograms to the rows of one partition.
struct Adder {
    opener: Opener,
    files: Arc<[PartitionedFile]>,
    /// The histograms.
    columns: Vec<FieldRef>,
    schema: SchemaRef,
    /// The file that was read last, and its number.
    open: Option<(i32, File)>,
    /// Rows of the scan that were not handed on yet.
    waiting: Option<RecordBatch>,
    rows_at_once: usize,
}

impl Adder {
    /// The first of these rows; the others wait.
    async fn next(&mut self, mut rows: RecordBatch) -> Result<RecordBatch> {
        if rows.num_rows() > self.rows_at_once {
            self.waiting = Some(rows.slice(self.rows_at_once, rows.num_rows() - self.rows_at_once));
            rows = rows.slice(0, self.rows_at_once);
        }
        let added = self.add(&rows).await?;
        let lists = added.columns().iter().filter_map(|column| column.as_list_opt::<i32>());
        let buckets: usize = lists.map(|lists| lists.values().len()).sum();
        let rows = rows.num_rows().max(1);
        self.rows_at_once = (BUCKETS_AT_ONCE * rows / buckets.max(1)).clamp(ROWS_AT_ONCE.start, ROWS_AT_ONCE.end);
        Ok(added)
    }

    async fn add(&mut self, rows: &RecordBatch) -> Result<RecordBatch> {
        let added = self.histograms(rows).await?;
        let mut added = added.into_iter();
        let mut others = rows.columns().iter();
        let place = |field: &FieldRef| if is_histogram(field) { added.next() } else { others.next().cloned() };
        let columns = self.schema.fields().iter().map(place).collect::<Option<Vec<_>>>();
        let columns = columns.ok_or_else(|| exec_datafusion_err!("a scan without its columns"))?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }

    /// One array a histogram column.
    async fn histograms(&mut self, rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let (file, row) = (rows.column_by_name(FILE), rows.column_by_name(ROW));
        let files = file.and_then(|column| column.as_primitive_opt::<Int32Type>());
        let numbers = row.and_then(|column| column.as_primitive_opt::<Int64Type>());
        let (Some(files), Some(numbers)) = (files, numbers) else {
            return Err(exec_datafusion_err!("rows without their numbers"));
        };
        let (files, numbers) = (files.values(), numbers.values());
        let mut parts = Vec::with_capacity(1);
        let mut from = 0;
        for of_one in files.chunk_by(|one, next| one == next) {
            let to = from + of_one.len();
            parts.push(self.of_file(of_one[0], &spans(&numbers[from..to])).await?);
            from = to;
        }
        match (parts.len(), parts.pop()) {
            (1, Some(only)) => Ok(only),
            (0, _) => Ok(self.columns.iter().map(|field| arrow::array::new_empty_array(field.data_type())).collect()),
            (_, last) => {
                parts.extend(last);
                let whole = |column: usize| concat(&parts.iter().map(|part| part[column].as_ref()).collect::<Vec<_>>());
                Ok((0..self.columns.len()).map(whole).collect::<Result<_, _>>()?)
            }
        }
    }

    async fn of_file(&mut self, number: i32, rows: &[Range<usize>]) -> Result<Vec<ArrayRef>> {
        let (_, file) = match self.open.take().filter(|(open, _)| *open == number) {
            Some(open) => self.open.insert(open),
            None => {
                let at = usize::try_from(number).ok().and_then(|number| self.files.get(number));
                let at = at.ok_or_else(|| exec_datafusion_err!("rows of no file"))?;
                let file = File::open(self.opener.clone(), at, &self.columns).await?;
                self.open.insert((number, file))
            }
        };
        file.read(rows).await
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
