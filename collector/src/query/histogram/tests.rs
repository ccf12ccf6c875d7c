//! What this reader makes of a file is what the engine's reader makes of it.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, ListArray, NullBufferBuilder, RecordBatch, StructArray, UInt64Array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::DefaultParquetFileReaderFactory;
use datafusion::error::Result;
use datafusion::execution::memory_pool::UnboundedMemoryPool;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use proptest::prelude::*;

use super::file::{File, Opener, spans};
use super::search::search;
use super::shape::{Kept, kept};
use crate::buffer::schema;

const NAME: &str = "latency";

/// Rows of a file: `None` is null.
type Rows = Vec<Option<Vec<(i64, i64)>>>;

/// How a file is written.
#[derive(Debug, Clone)]
struct Way {
    /// Whether the column may be null at all.
    nullable: bool,
    /// Whether buckets and their parts may be, as other programs write them.
    loose: bool,
    version_2: bool,
    dictionary: bool,
    dictionary_bytes: usize,
    page_rows: usize,
    group_rows: usize,
}

fn way() -> impl Strategy<Value = Way> {
    let sizes = (prop_oneof![Just(1usize << 20), 8usize..200], 1usize..40, 5usize..80);
    (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), sizes).prop_map(
        |(nullable, loose, version_2, dictionary, (dictionary_bytes, page_rows, group_rows))| Way {
            nullable,
            loose,
            version_2,
            dictionary,
            dictionary_bytes,
            page_rows,
            group_rows,
        },
    )
}

/// Values are few in some files and many in others.
fn rows() -> impl Strategy<Value = Rows> {
    (1i64..3000).prop_flat_map(|most| {
        let bucket = (0..most, prop_oneof![4 => 0..most, 1 => Just(1i64), 1 => any::<i64>()]);
        let buckets = prop_oneof![
            1 => Just(Vec::new()),
            4 => prop::collection::vec(bucket.clone(), 1..12),
            1 => prop::collection::vec(bucket, 60..130),
        ];
        prop::collection::vec(prop::option::weighted(0.9, buckets), 0..150)
    })
}

fn column(rows: &Rows, way: &Way) -> (FieldRef, ArrayRef) {
    let part = |name: &str| Field::new(name, DataType::Int64, way.loose);
    let parts = Fields::from(vec![part("value_ns"), part("count")]);
    let item = Arc::new(Field::new("element", DataType::Struct(parts.clone()), way.loose));
    let buckets: Vec<(i64, i64)> = rows.iter().flatten().flatten().copied().collect();
    let number = |of: fn(&(i64, i64)) -> i64| -> ArrayRef { Arc::new(buckets.iter().map(of).collect::<Int64Array>()) };
    let buckets = StructArray::new(parts, vec![number(|bucket| bucket.0), number(|bucket| bucket.1)], None);
    let offsets = OffsetBuffer::from_lengths(rows.iter().map(|row| row.as_ref().map_or(0, Vec::len)));
    let mut nulls = NullBufferBuilder::new(rows.len());
    rows.iter().for_each(|row| nulls.append(row.is_some() || !way.nullable));
    let lists = ListArray::new(Arc::clone(&item), offsets, Arc::new(buckets), nulls.finish());
    (Arc::new(Field::new(NAME, DataType::List(item), way.nullable)), Arc::new(lists))
}

fn write(field: FieldRef, column: ArrayRef, way: &Way) -> Vec<u8> {
    let version = if way.version_2 { WriterVersion::PARQUET_2_0 } else { WriterVersion::PARQUET_1_0 };
    let properties = WriterProperties::builder()
        .set_writer_version(version)
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_dictionary_enabled(way.dictionary)
        .set_dictionary_page_size_limit(way.dictionary_bytes)
        .set_write_batch_size(16)
        .set_data_page_row_count_limit(way.page_rows)
        .set_max_row_group_row_count(Some(way.group_rows))
        .build();
    let rows = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![column]).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties)).unwrap();
    writer.write(&rows).unwrap();
    writer.into_inner().unwrap()
}

/// The column as the engine reads it.
fn expected(file: &[u8], target: &DataType) -> ArrayRef {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::copy_from_slice(file)).unwrap().build().unwrap();
    let arrays: Vec<ArrayRef> = reader.map(|rows| Arc::clone(rows.unwrap().column(0))).collect();
    let arrays: Vec<ArrayRef> = arrays.iter().map(|array| arrow::compute::cast(array, target).unwrap()).collect();
    if arrays.is_empty() {
        return arrow::array::new_empty_array(target);
    }
    concat(&arrays.iter().map(AsRef::as_ref).collect::<Vec<_>>()).unwrap()
}

fn target(nullable: bool) -> FieldRef {
    Arc::new(Field::new(NAME, DataType::List(schema::bucket_item()), nullable))
}

/// Reads batches of rows by their numbers.
async fn read(file: Vec<u8>, field: FieldRef, batches: &[Vec<i64>]) -> Result<Vec<ArrayRef>> {
    let (store, at) = (Arc::new(InMemory::new()), Path::from("file.parquet"));
    let bytes = file.len() as u64;
    store.put(&at, PutPayload::from(file)).await.unwrap();
    let opener = Opener {
        factory: Arc::new(DefaultParquetFileReaderFactory::new(store)),
        metrics: ExecutionPlanMetricsSet::new(),
        partition: 0,
        memory: Arc::new(UnboundedMemoryPool::default()),
    };
    let mut file = File::open(opener, &PartitionedFile::new(at.to_string(), bytes), &[field]).await?;
    let mut arrays = Vec::new();
    for rows in batches {
        arrays.push(file.read(&spans(rows)).await?.remove(0));
    }
    Ok(arrays)
}

fn blocking<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

proptest! {
    #[test]
    fn any_rows_of_any_file_are_those_the_engine_reads(
        rows in rows(),
        way in way(),
        steps in prop::collection::vec((0usize..9, prop_oneof![3 => Just(0usize), 1 => 1usize..30]), 1..150),
        batch in 1usize..40,
    ) {
        let (field, column) = column(&rows, &way);
        let file = write(field, Arc::clone(&column), &way);
        let field = target(way.nullable);
        let expected = expected(&file, field.data_type());
        // Spans of rows with gaps between them, in batches.
        let (mut numbers, mut row) = (Vec::new(), 0);
        for (length, gap) in steps {
            numbers.extend((row..row + length).filter(|row| *row < rows.len()).map(|row| row as i64));
            row += length + gap;
        }
        let batches: Vec<Vec<i64>> = numbers.chunks(batch).map(<[i64]>::to_vec).collect();
        let arrays = blocking(read(file, field, &batches)).unwrap();
        for (array, batch) in arrays.iter().zip(&batches) {
            let wanted = UInt64Array::from_iter_values(batch.iter().map(|row| *row as u64));
            let wanted = take(&expected, &wanted, None).unwrap();
            prop_assert_eq!(array.as_ref(), wanted.as_ref());
        }
    }

    /// Whatever a page holds, it is rows or an error that a search finds as well, and never more than were asked for.
    #[test]
    fn a_damaged_file_is_an_error_or_rows(rows in rows(), way in way(), at in any::<prop::sample::Index>(), flip in 1u8..) {
        let (field, column) = column(&rows, &way);
        let count = column.len();
        let mut file = write(field, column, &way);
        // The engine's reader may panic.
        prop_assume!(is_plain(&file));
        // Not the footer: nobody reads a file whose footer does not decode.
        let footer = u32::from_le_bytes(*file[..file.len() - 4].last_chunk().unwrap()) as usize;
        let pages = file.len() - 8 - footer;
        prop_assume!(pages > 4);
        file[4 + at.index(pages - 4)] ^= flip;
        let all: Vec<i64> = (0..count as i64).collect();
        let mut on_disk = tempfile::tempfile().unwrap();
        on_disk.write_all(&file).unwrap();
        match blocking(read(file, target(way.nullable), &[all])) {
            Ok(arrays) => prop_assert_eq!(arrays[0].len(), count),
            Err(error) => prop_assert!(search(&on_disk).is_err(), "{}", error),
        }
    }
}

/// Whether the file is this reader's to read.
fn is_plain(file: &[u8]) -> bool {
    let footer = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional);
    let footer = footer.parse_and_finish(&Bytes::copy_from_slice(file)).unwrap();
    matches!(kept(&footer, NAME), Kept::Plainly(_))
}

fn plain() -> Way {
    let (page_rows, group_rows) = (10, 1000);
    Way {
        nullable: false,
        loose: false,
        version_2: false,
        dictionary: true,
        dictionary_bytes: 1 << 20,
        page_rows,
        group_rows,
    }
}

#[test]
fn rows_of_a_row_group_can_be_read_again_from_its_start() {
    let rows: Rows = (0..100).map(|row| Some((0..row % 7).map(|n| (n, row)).collect())).collect();
    let (field, column) = column(&rows, &plain());
    let file = write(field, Arc::clone(&column), &Way { group_rows: 50, ..plain() });
    let batches = [(60..90).collect(), (10..30).collect(), (5..8).collect::<Vec<i64>>(), vec![99]];
    let arrays = blocking(read(file, target(false), &batches)).unwrap();
    for (array, batch) in arrays.iter().zip(&batches) {
        assert_eq!(array.as_ref(), column.slice(batch[0] as usize, batch.len()).as_ref());
    }
}

#[test]
fn a_column_that_is_not_there_is_null_where_it_may_be() {
    let rows: Rows = vec![Some(vec![(1, 2)]); 5];
    let (_, column) = column(&rows, &plain());
    let other = Arc::new(Field::new("other", column.data_type().clone(), false));
    let file = write(other, column, &plain());
    let arrays = blocking(read(file.clone(), target(true), &[vec![0, 2, 3]])).unwrap();
    assert_eq!((arrays[0].len(), arrays[0].null_count()), (3, 3));
    let error = blocking(read(file, target(false), &[vec![0]])).unwrap_err();
    assert!(error.to_string().contains("file.parquet has no column latency"), "{error}");
}

#[test]
fn a_file_without_an_index_is_left_to_the_engine() {
    let rows: Rows = (0..40).map(|row| Some(vec![(row, row + 1); row as usize % 3])).collect();
    let (field, column) = column(&rows, &plain());
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::clone(&column)]).unwrap();
    let properties = WriterProperties::builder().set_offset_index_disabled(true);
    let properties = properties.set_statistics_enabled(EnabledStatistics::None).set_max_row_group_row_count(Some(15));
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties.build())).unwrap();
    writer.write(&batch).unwrap();
    let arrays = blocking(read(writer.into_inner().unwrap(), target(false), &[(3..35).collect(), vec![39]])).unwrap();
    assert_eq!(arrays[0].as_ref(), column.slice(3, 32).as_ref());
    assert_eq!(arrays[1].as_ref(), column.slice(39, 1).as_ref());
}
