//! Live files as the engine reads them.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::{CachedParquetFileReaderFactory, ParquetFileReaderFactory};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::scalar::ScalarValue;

use super::files::Verifier;
use super::histogram::scan::{HistogramExec, Source, file_column, is_histogram, row_column};
use super::prune::Bound;
use crate::history::DataFile;

/// What a scan of some of a table's files needs.
pub(super) struct Scan<'a> {
    /// The table's.
    pub(super) schema: SchemaRef,
    /// Knows the files.
    pub(super) verifier: &'a Verifier,
    /// The statement's.
    pub(super) state: &'a dyn Session,
    /// What the times of rows have to be within, where that is not known of whole files.
    pub(super) bounds: &'a [Bound],
}

impl Scan<'_> {
    /// Reads `files`: histograms by our own reader, and all else by the engine's.
    pub(super) fn plan(
        &self,
        files: &[DataFile],
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all = self.schema.fields().len();
        let wanted = projection.cloned().unwrap_or_else(|| (0..all).collect());
        let (histograms, mut columns): (Vec<_>, Vec<_>) =
            wanted.iter().copied().partition(|column| is_histogram(self.schema.field(*column)));
        let (url, files) = self.files(files, !histograms.is_empty())?;
        let runtime = self.state.runtime_env();
        // A file never changes under its name: its footer and page index are decoded once and kept, within bounds.
        let footers = runtime.cache_manager.get_file_metadata_cache();
        let factory: Arc<dyn ParquetFileReaderFactory> =
            Arc::new(CachedParquetFileReaderFactory::new(runtime.object_store(&url)?, footers));
        if histograms.is_empty() {
            return self.rows(TableSchema::from(&self.schema), url, &files, factory, columns, limit);
        }
        // Which file and which row follow the table's own columns.
        columns.extend([all, all + 1]);
        let schema = TableSchema::builder(Arc::clone(&self.schema));
        let schema =
            schema.with_table_partition_cols(vec![file_column()]).with_virtual_columns(vec![row_column()]).build();
        let rows = self.rows(schema, url, &files, Arc::clone(&factory), columns, limit)?;
        let source = Source { files: files.into(), factory };
        Ok(Arc::new(HistogramExec::new(rows, source, Arc::new(self.schema.project(&wanted)?))))
    }

    /// The engine's scan.
    fn rows(
        &self,
        schema: TableSchema,
        url: ObjectStoreUrl,
        files: &[PartitionedFile],
        factory: Arc<dyn ParquetFileReaderFactory>,
        columns: Vec<usize>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut source = ParquetSource::new(schema)
            .with_table_parquet_options(self.state.table_options().parquet.clone())
            .with_parquet_file_reader_factory(factory);
        if let Some(within) = Bound::condition(self.bounds, &self.schema)? {
            // Only so is it for the scan to leave rows out.
            source = source.with_pushdown_filters(true).with_predicate(within);
        }
        let partitions = self.state.config().target_partitions().max(1).min(files.len());
        let mut groups: Vec<Vec<PartitionedFile>> = vec![Vec::new(); partitions];
        for (index, file) in files.iter().enumerate() {
            groups[index % partitions].push(file.clone());
        }
        let config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(groups.into_iter().map(FileGroup::new).collect())
            .with_projection_indices(Some(columns))?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    /// Files as the engine has them, with their numbers as [`file_column`] if so told, and where they all are.
    fn files(&self, files: &[DataFile], numbered: bool) -> Result<(ObjectStoreUrl, Vec<PartitionedFile>)> {
        let mut url = ObjectStoreUrl::local_filesystem();
        let mut found = Vec::with_capacity(files.len());
        for (number, file) in files.iter().enumerate() {
            let path = file.path.to_string_lossy();
            let key = match store_and_key(&path) {
                Some((store, key)) => {
                    // All files of a history are in one place.
                    url = ObjectStoreUrl::parse(store)?;
                    key.to_owned()
                }
                None => path.into_owned(),
            };
            let mut partitioned = PartitionedFile::new(key, file.bytes);
            if numbered {
                partitioned.partition_values = vec![ScalarValue::Int32(i32::try_from(number).ok())];
            }
            // Not before it has its number, which is among them.
            found.push(match self.verifier.alike(&file.path).statistics(&self.schema) {
                Some(statistics) => partitioned.with_statistics(statistics),
                None => partitioned,
            });
        }
        Ok((url, found))
    }
}

/// The parts of a URL the engine wants apart; `None` for a path of the file system.
fn store_and_key(path: &str) -> Option<(&str, &str)> {
    let host = path.find("://")? + "://".len();
    let end = host + path[host..].find('/')?;
    Some((&path[..end], &path[end + 1..]))
}
