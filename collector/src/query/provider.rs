//! One table at one moment: its unflushed rows and its live files, as one.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExecBuilder;
use datafusion::physical_plan::union::UnionExec;
use skep_wire::tables::Table;

use super::files::{Unreadable, Verifier};
use super::held::Held;
use super::leave_out;
use super::once::{self, Reads};
use super::prune::Span;
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

    fn projected(&self, projection: Option<&Vec<usize>>) -> Result<SchemaRef> {
        Ok(match projection {
            Some(columns) => Arc::new(self.schema().project(columns)?),
            None => self.schema(),
        })
    }

    /// The same rows without some batches: their columns are read as well, and not handed on.
    fn scan_without(
        &self,
        state: &dyn Session,
        files: &[DataFile],
        projection: Option<&Vec<usize>>,
        left_out: Batches,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all = self.schema();
        let wanted = projection.cloned().unwrap_or_else(|| (0..all.fields().len()).collect());
        let mut columns = wanted.clone();
        let mut place = |name: &str| -> Result<usize> {
            let index = all.index_of(name)?;
            Ok(columns.iter().position(|column| *column == index).unwrap_or_else(|| {
                columns.push(index);
                columns.len() - 1
            }))
        };
        let (stream, seq) = (place("stream")?, place("seq")?);
        let scan = self.scan_files(state, files, Some(&columns), None)?;
        let others = leave_out::predicate(left_out, (stream, seq), &scan.schema(), state)?;
        let filter = FilterExecBuilder::new(others, scan).apply_projection(Some((0..wanted.len()).collect()))?;
        Ok(Arc::new(filter.build()?))
    }

    fn scan_files(
        &self,
        state: &dyn Session,
        files: &[DataFile],
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let scan = Scan { schema: self.schema(), verifier: &self.knowledge.verifier, state };
        scan.plan(files, projection, limit)
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
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut parts: Vec<Arc<dyn ExecutionPlan>> = Vec::with_capacity(2);
        let files = self.files(filters).await?;
        let reads = self.reads(files).await?;
        for (files, left_out) in reads.files {
            parts.push(if left_out.is_empty() {
                self.scan_files(state, &files, projection, limit)?
            } else {
                self.scan_without(state, &files, projection, left_out)?
            });
        }
        if !self.snapshot.batches.is_empty() {
            let rows = self.snapshot.batches.as_slice().into();
            let (projection, schema) = (projection.cloned(), self.projected(projection)?);
            parts.push(Held { rows, projection, schema, left_out: reads.memory }.plan(limit)?);
        }
        if parts.len() > 1 {
            return UnionExec::try_new(parts);
        }
        match parts.pop() {
            Some(only) => Ok(only),
            None => Ok(Arc::new(EmptyExec::new(self.projected(projection)?))),
        }
    }
}
