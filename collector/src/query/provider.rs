//! One table at one moment: its unflushed rows and its live files, as one.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExecBuilder;
use datafusion::physical_plan::union::UnionExec;
use skep_wire::tables::Table;

use super::files::{Unreadable, Verifier};
use super::held::Held;
use super::leave_out;
use super::once::{self, Reads};
use super::prune::{Bound, Span, TIME};
use super::scan::Scan;
use crate::buffer::{TableSnapshot, schema};
use crate::history::batches::{Batches, KnownBatches};
use crate::history::{DataFile, SharedPlace};

/// Which files a statement reads and which it cannot, filled while it is planned.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    faults: Arc<Mutex<Vec<Unreadable>>>,
    files: Arc<Mutex<Vec<(&'static str, DataFile)>>>,
}

impl Reading {
    /// Files that cannot be read.
    pub fn faults(&self) -> Vec<Unreadable> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Files that are read.
    pub fn files(&self) -> Vec<(&'static str, DataFile)> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, table: &'static str, good: &[DataFile], bad: Vec<Unreadable>) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        for fault in bad {
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.extend(good.iter().map(|file| (table, file.clone())));
    }
}

/// One table at one moment.
#[derive(Debug)]
pub struct Provider {
    table: &'static Table,
    snapshot: TableSnapshot,
    knowledge: Knowledge,
    reading: Reading,
}

/// What is known about files from one statement to the next.
#[derive(Debug, Clone)]
pub struct Knowledge {
    /// Which are whole.
    pub verifier: Arc<Verifier>,
    /// Which batches they hold.
    pub batches: Arc<KnownBatches>,
    /// Whose the rows in memory are.
    pub collector: Arc<str>,
}

impl Knowledge {
    /// Nothing yet, of files in this place and of the rows that `collector` has in memory.
    pub fn new(place: &SharedPlace, collector: &str) -> Self {
        Self {
            verifier: Arc::new(Verifier::new(Arc::clone(place))),
            batches: Arc::new(KnownBatches::new(Arc::clone(place))),
            collector: Arc::from(collector),
        }
    }
}

impl Provider {
    /// Reads `snapshot`; `reading` hears which files.
    pub fn new(table: &'static Table, snapshot: TableSnapshot, knowledge: Knowledge, reading: Reading) -> Self {
        Self { table, snapshot, knowledge, reading }
    }

    /// The files to read: those a filter can touch and that are whole.
    async fn files(&self, filters: &[Expr]) -> Result<Vec<DataFile>> {
        let span = Span::of(filters);
        let wanted: Vec<DataFile> = self.snapshot.files.iter().filter(|file| span.may_touch(file)).cloned().collect();
        if wanted.is_empty() {
            return Ok(wanted);
        }
        let (verifier, table) = (Arc::clone(&self.knowledge.verifier), self.table.name);
        let split = tokio::task::spawn_blocking(move || verifier.split(table, wanted)).await;
        let (good, bad) = split.map_err(|error| DataFusionError::External(Box::new(error)))?;
        self.reading.add(table, &good, bad);
        Ok(good)
    }

    /// How to read them so that nothing comes twice.
    async fn reads(&self, files: Vec<DataFile>) -> Result<Reads> {
        if files.is_empty() {
            return Ok(Reads::default());
        }
        let memory = self.snapshot.batches.clone();
        if !once::is_needed(&files, &self.knowledge.collector, !memory.is_empty()) {
            return Ok(Reads { files: vec![(files, Batches::default())], memory: Batches::default() });
        }
        let known = Arc::clone(&self.knowledge.batches);
        let reads = tokio::task::spawn_blocking(move || once::reads(&known, files, &memory)).await;
        reads.map_err(|error| DataFusionError::External(Box::new(error)))?
    }

    /// The rows in memory without some batches and within `bounds`, as everybody knows them.
    fn memory(
        &self,
        projection: Option<&Vec<usize>>,
        left_out: Batches,
        bounds: &[Bound],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut columns = Columns::of(self.schema(), projection);
        if !bounds.is_empty() {
            columns.also(TIME)?;
        }
        let (rows, schema) = (self.snapshot.batches.as_slice().into(), columns.schema()?);
        let within = Bound::condition(bounds, &schema)?;
        // A limit is one of rows within the bounds.
        let limit = limit.filter(|_| within.is_none());
        let held = Held { rows, projection: columns.all.clone(), schema, left_out, limit }.plan();
        match within {
            Some(within) => columns.filter(held, within),
            None => Ok(held),
        }
    }

    /// The rows of files without some batches: their columns are read as well, and not handed on.
    fn files_without(
        &self,
        scan: &Scan<'_>,
        files: &[DataFile],
        projection: Option<&Vec<usize>>,
        left_out: Batches,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut columns = Columns::of(self.schema(), projection);
        let (stream, seq) = (columns.also("stream")?, columns.also("seq")?);
        let rows = scan.plan(files, Some(&columns.all), None)?;
        let others = leave_out::predicate(left_out, (stream, seq), &rows.schema(), scan.state)?;
        columns.filter(rows, others)
    }
}

/// Columns that are asked for and, behind them, those that a condition needs and nobody above.
struct Columns {
    table: SchemaRef,
    all: Vec<usize>,
    asked_for: usize,
}

impl Columns {
    fn of(table: SchemaRef, projection: Option<&Vec<usize>>) -> Self {
        let all = projection.cloned().unwrap_or_else(|| (0..table.fields().len()).collect());
        Self { table, asked_for: all.len(), all }
    }

    /// Where the column `name` stands among them.
    fn also(&mut self, name: &str) -> Result<usize> {
        let index = self.table.index_of(name)?;
        Ok(self.all.iter().position(|column| *column == index).unwrap_or_else(|| {
            self.all.push(index);
            self.all.len() - 1
        }))
    }

    fn schema(&self) -> Result<SchemaRef> {
        Ok(Arc::new(self.table.project(&self.all)?))
    }

    /// Those rows that `condition` is true of, with what is asked for.
    fn filter(&self, rows: Arc<dyn ExecutionPlan>, condition: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn ExecutionPlan>> {
        let filter = FilterExecBuilder::new(condition, rows);
        Ok(Arc::new(filter.apply_projection(Some((0..self.asked_for).collect()))?.build()?))
    }
}

#[tonic::async_trait]
impl TableProvider for Provider {
    fn schema(&self) -> SchemaRef {
        schema::schema(self.table)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // Bounds on time are ours alone: of files that lie within them nobody has to look at a row's time.
        let exact = |filter: &&Expr| match Bound::of(filter) {
            Some(_) => TableProviderFilterPushDown::Exact,
            None => TableProviderFilterPushDown::Inexact,
        };
        Ok(filters.iter().map(exact).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let bounds: Vec<Bound> = filters.iter().filter_map(Bound::of).collect();
        let mut parts: Vec<Arc<dyn ExecutionPlan>> = Vec::with_capacity(2);
        let files = self.files(filters).await?;
        let reads = self.reads(files).await?;
        for (files, left_out) in reads.files {
            let (within, others): (Vec<_>, Vec<_>) =
                files.into_iter().partition(|file| bounds.iter().all(|bound| bound.holds_for(file)));
            for (files, bounds) in [(within, [].as_slice()), (others, bounds.as_slice())] {
                if files.is_empty() {
                    continue;
                }
                let scan = Scan { schema: self.schema(), verifier: &self.knowledge.verifier, state, bounds };
                parts.push(if left_out.is_empty() {
                    scan.plan(&files, projection, limit)?
                } else {
                    self.files_without(&scan, &files, projection, left_out.clone())?
                });
            }
        }
        if !self.snapshot.batches.is_empty() {
            parts.push(self.memory(projection, reads.memory, &bounds, limit)?);
        }
        if parts.len() > 1 {
            return UnionExec::try_new(parts);
        }
        match parts.pop() {
            Some(only) => Ok(only),
            None => Ok(Arc::new(EmptyExec::new(Columns::of(self.schema(), projection).schema()?))),
        }
    }
}
