//! A statement to a stream of rows.

use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder};
use datafusion::logical_expr::TableType;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;
use skep_wire::tables::TABLES;
use tokio::time::Instant;

use super::error::QueryError;
use super::files::Unreadable;
use super::interrupt::Interruptible;
use super::memory::Capped;
use super::provider::{Knowledge, Provider, Reading};
use super::turn::{Turn, Turns};
use super::{catalog, function, readonly};
use crate::buffer::Snapshot;
use crate::history::batches::KnownBatches;
use crate::history::location::Opened;
use crate::history::{DataFile, Folders, SharedPlace};

/// What a statement may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Memory of all statements together, in bytes.
    pub memory_bytes: usize,
    /// Memory of one of them, in bytes.
    pub memory_each_bytes: usize,
    /// How many run at once; others wait.
    pub at_once: usize,
    /// Time of one statement.
    pub timeout: Duration,
    /// How many threads one statement may keep busy.
    pub partitions: usize,
}

impl Limits {
    /// For a program that runs one statement: it has everything, and all cores.
    pub fn of_one(memory_bytes: usize, timeout: Duration) -> Self {
        let partitions = std::thread::available_parallelism().map_or(2, NonZero::get);
        Self { memory_bytes, memory_each_bytes: memory_bytes, at_once: 1, timeout, partitions }
    }
}

/// Answers statements over snapshots.
#[derive(Debug)]
pub struct Engine {
    runtime: Arc<RuntimeEnv>,
    knowledge: Knowledge,
    turns: Turns,
    limits: Limits,
}

/// The rows of one statement. To drop it is to end the statement.
pub struct Answer {
    schema: SchemaRef,
    first: Option<RecordBatch>,
    stream: SendableRecordBatchStream,
    reading: Reading,
    /// Files that must not go while this is read; see [`crate::buffer::Store::is_read`].
    _held: Vec<Arc<Vec<DataFile>>>,
    deadline: Instant,
    limit: Duration,
    _turn: Turn,
}

/// Something a statement can name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// First part of its full name.
    pub catalog: String,
    /// Second part.
    pub schema: String,
    /// Last part, which is enough.
    pub name: String,
    /// Whether it is a statement under a name.
    pub is_view: bool,
    /// Its columns.
    pub columns: SchemaRef,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine with its own memory.
    ///
    /// # Errors
    /// [`QueryError::Failed`] when the engine does not start.
    pub fn new(limits: Limits) -> Result<Self, QueryError> {
        let place: SharedPlace = Arc::new(Folders::default());
        Self::over(limits, &Opened { place, root: PathBuf::new(), store: None }, "")
    }

    /// As [`Engine::new`], for a history in this place; `collector` is whose the rows in memory are.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn over(limits: Limits, opened: &Opened, collector: &str) -> Result<Self, QueryError> {
        let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(limits.memory_bytes)))
            .with_disk_manager_builder(disk)
            .build_arc()
            .map_err(|error| QueryError::from_engine(&error))?;
        if let Some((url, store)) = &opened.store {
            let url = ObjectStoreUrl::parse(url).map_err(|error| QueryError::from_engine(&error))?;
            runtime.register_object_store(url.as_ref(), Arc::clone(store));
        }
        let (knowledge, turns) = (Knowledge::new(&opened.place, collector), Turns::new(limits.at_once));
        Ok(Self { runtime, knowledge, turns, limits })
    }

    /// Which batches files hold, as far as it was looked.
    pub fn batches(&self) -> &Arc<KnownBatches> {
        &self.knowledge.batches
    }

    /// Plans `sql` over `snapshot` and runs it up to its first rows. `timeout` shortens the engine's own limit.
    ///
    /// If it breaks there, the files it reads are searched for damage, and it is run again without those.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn ask(&self, snapshot: Snapshot, sql: &str, timeout: Option<Duration>) -> Result<Answer, QueryError> {
        let limit = timeout.map_or(self.limits.timeout, |timeout| timeout.min(self.limits.timeout));
        let deadline = Instant::now() + limit;
        let held = snapshot.tables.values().map(|table| Arc::clone(&table.files)).collect();
        let turn = self.turns.take(deadline).await?;
        let answered = tokio::time::timeout_at(deadline, async {
            let reading = Reading::default();
            match self.begin(snapshot.clone(), sql, &reading).await {
                Err(QueryError::Failed { .. }) if self.found_damage(&reading).await => {
                    let reading = Reading::default();
                    self.begin(snapshot, sql, &reading).await.map(|begun| (begun, reading))
                }
                begun => begun.map(|begun| (begun, reading)),
            }
        });
        let ((stream, first), reading) = answered.await.map_err(|_| QueryError::Timeout { limit })??;
        let schema = stream.schema();
        Ok(Answer { schema, first, stream, reading, _held: held, deadline, limit, _turn: turn })
    }

    /// The columns `sql` would have, without running it.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn columns(&self, snapshot: Snapshot, sql: &str) -> Result<SchemaRef, QueryError> {
        let (limit, reading) = (self.limits.timeout, Reading::default());
        let planned = tokio::time::timeout(limit, self.plan(snapshot, sql, &reading)).await;
        Ok(planned.map_err(|_| QueryError::Timeout { limit })??.schema())
    }

    /// Everything a statement can name.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn tables(&self, snapshot: Snapshot) -> Result<Vec<Listed>, QueryError> {
        let context = self.context(snapshot, &Reading::default())?;
        catalog::add_all_views(&context).await?;
        let mut listed = Vec::new();
        for catalog in context.catalog_names() {
            let Some(schemas) = context.catalog(&catalog) else { continue };
            for schema in schemas.schema_names() {
                let Some(tables) = schemas.schema(&schema) else { continue };
                for name in tables.table_names() {
                    let table = tables.table(&name).await.map_err(|error| QueryError::from_engine(&error))?;
                    let Some(table) = table else { continue };
                    let (catalog, schema) = (catalog.clone(), schema.clone());
                    let is_view = table.table_type() == TableType::View;
                    listed.push(Listed { catalog, schema, name, is_view, columns: table.schema() });
                }
            }
        }
        Ok(listed)
    }

    async fn begin(
        &self,
        snapshot: Snapshot,
        sql: &str,
        reading: &Reading,
    ) -> Result<(SendableRecordBatchStream, Option<RecordBatch>), QueryError> {
        let mut stream = self.plan(snapshot, sql, reading).await?;
        let first = stream.next().await.transpose().map_err(|error| QueryError::from_engine(&error))?;
        Ok((stream, first))
    }

    /// Whether one of the files read is damaged; later statements leave it out.
    async fn found_damage(&self, reading: &Reading) -> bool {
        let (verifier, files) = (Arc::clone(&self.knowledge.verifier), reading.files());
        tokio::task::spawn_blocking(move || verifier.search(&files) > 0).await.unwrap_or(false)
    }

    async fn plan(
        &self,
        snapshot: Snapshot,
        sql: &str,
        reading: &Reading,
    ) -> Result<SendableRecordBatchStream, QueryError> {
        let engine = |error: DataFusionError| QueryError::from_engine(&error);
        let context = self.context(snapshot, reading)?;
        let state = context.state();
        let statement = readonly::parse(sql)?;
        let references = state.resolve_table_references(&statement).map_err(engine)?;
        catalog::check(&references)?;
        catalog::add_views(&context, &references).await?;
        let plan = state.statement_to_plan(statement).await.map_err(engine)?;
        let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        options.verify_plan(&plan).map_err(|_| QueryError::NotReadOnly { kind: plan.display().to_string() })?;
        let frame = context.execute_logical_plan(plan).await.map_err(engine)?;
        frame.execute_stream().await.map_err(engine)
    }

    /// What one statement runs in: the engine's own, but for the cap on its memory.
    fn capped(&self) -> Arc<RuntimeEnv> {
        let all = Arc::clone(&self.runtime.memory_pool);
        let memory_pool = Arc::new(Capped::new(all, self.limits.memory_each_bytes));
        Arc::new(RuntimeEnv { memory_pool, ..RuntimeEnv::clone(&self.runtime) })
    }

    fn context(&self, mut snapshot: Snapshot, reading: &Reading) -> Result<SessionContext, QueryError> {
        let mut config = SessionConfig::new()
            .with_information_schema(true)
            .with_target_partitions(self.limits.partitions)
            .with_create_default_catalog_and_schema(true);
        config.options_mut().execution.parquet.pushdown_filters = true;
        // Views say in which order their rows are read.
        config.options_mut().sql_parser.enable_subquery_sort_elimination = false;
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(self.capped())
            .with_default_features()
            .with_physical_optimizer_rule(Arc::new(Interruptible))
            .build();
        let context = SessionContext::new_with_state(state);
        function::register(&context);
        for table in TABLES {
            let rows = snapshot.tables.remove(table.name).unwrap_or_default();
            let provider = Provider::new(table, rows, self.knowledge.clone(), reading.clone());
            context.register_table(table.name, Arc::new(provider)).map_err(|error| QueryError::from_engine(&error))?;
        }
        Ok(context)
    }
}

impl Answer {
    /// Columns of the result.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// When its time is over.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What to say when it is over.
    pub fn too_late(&self) -> QueryError {
        QueryError::Timeout { limit: self.limit }
    }

    /// The next rows; `None` after the last.
    ///
    /// # Errors
    /// [`QueryError`]; what came before is good.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        match tokio::time::timeout_at(self.deadline, self.stream.next()).await {
            Err(_) => Err(self.too_late()),
            Ok(None) => Ok(None),
            Ok(Some(Ok(batch))) => Ok(Some(batch)),
            Ok(Some(Err(error))) => Err(QueryError::from_engine(&error)),
        }
    }

    /// Files whose rows are not in the answer; known once there are no more rows.
    pub fn unreadable(&self) -> Vec<Unreadable> {
        self.reading.faults()
    }

    /// All rows.
    ///
    /// # Errors
    /// As [`Answer::next`].
    pub async fn collect(&mut self) -> Result<Vec<RecordBatch>, QueryError> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await? {
            batches.push(batch);
        }
        Ok(batches)
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
