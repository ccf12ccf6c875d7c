//! Texts that are the same in every row of a file.
//!
//! An hour of one node, or of few, has many a column of one value. The engine asks no row of a file for what is known of
//! all of them: neither the condition on it is looked at nor the column read.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Statistics};
use datafusion::scalar::ScalarValue;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics as Written;
use skep_wire::tables;

use crate::buffer::schema;

/// Such columns, by their number in the table, and what is in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alike(Arc<[(usize, String)]>);

impl Alike {
    /// What the footer of a file of `table` says.
    pub fn of(table: &str, footer: &ParquetMetaData) -> Self {
        let Some(table) = tables::find(table) else { return Self::default() };
        let columns = footer.file_metadata().schema_descr().columns();
        let text = |name: &str| {
            let leaf = columns.iter().position(|column| column.path().parts() == [name])?;
            let mut texts = footer.row_groups().iter().map(|group| only_text(group, leaf));
            let first = texts.next()??;
            texts.all(|text| text == Some(first)).then(|| first.to_owned())
        };
        let schema = schema::schema(table);
        let fields = schema.fields().iter().enumerate().filter(|(_, field)| field.data_type() == &DataType::Utf8);
        Self(fields.filter_map(|(number, field)| Some((number, text(field.name())?))).collect())
    }

    /// As the engine wants to be told; `None` where there is nothing to tell.
    pub fn statistics(&self, schema: &Schema) -> Option<Arc<Statistics>> {
        if self.0.is_empty() {
            return None;
        }
        let mut statistics = Statistics::new_unknown(schema);
        for (number, text) in self.0.iter() {
            let text = Precision::Exact(ScalarValue::Utf8(Some(text.clone())));
            let column = ColumnStatistics { null_count: Precision::Exact(0), ..ColumnStatistics::new_unknown() };
            statistics.column_statistics[*number] = column.with_min_value(text.clone()).with_max_value(text);
        }
        Some(Arc::new(statistics))
    }
}

/// The text that all rows of a row group have in a column.
fn only_text(group: &RowGroupMetaData, leaf: usize) -> Option<&str> {
    let Some(Written::ByteArray(written)) = group.column(leaf).statistics() else { return None };
    // Of a long text the statistics have only the beginning, and say so.
    let is_whole = written.min_is_exact() && written.max_is_exact() && written.null_count_opt() == Some(0);
    let (least, most) = (written.min_opt()?, written.max_opt()?);
    let text = std::str::from_utf8(least.data()).ok()?;
    (is_whole && least == most).then_some(text)
}

#[cfg(test)]
mod tests {
    use parquet::file::metadata::ParquetMetaDataReader;
    use skep_wire::tables::CPU;

    use super::*;
    use crate::buffer::sample;
    use crate::history::{Folders, parquet_file};

    #[test]
    fn a_text_is_known_where_all_rows_have_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        let known = |rows: arrow::array::RecordBatch| {
            parquet_file::write(&Folders::default(), &path, &CPU, &rows).unwrap();
            let file = std::fs::File::open(&path).unwrap();
            Alike::of("cpu", &ParquetMetaDataReader::new().parse_and_finish(&file).unwrap())
        };
        let schema = schema::schema(&CPU);
        let node = schema.index_of("node").unwrap();
        let rows = sample::cpu("s", 1..=5);
        let alike = known(rows.clone());
        let text = alike.0.iter().find(|(number, _)| *number == node).map(|(_, text)| text.as_str());
        let held = crate::buffer::schema::plain(&rows).unwrap();
        let expected = arrow::array::AsArray::as_string::<i32>(held.column(node)).value(0);
        assert_eq!(text, Some(expected));
        let told = alike.statistics(&schema).unwrap();
        assert_eq!(told.column_statistics[node].min_value, told.column_statistics[node].max_value);
        let time = schema.index_of("time").unwrap();
        assert_eq!(told.column_statistics[time].null_count, Precision::Absent, "a time is no text");
        // Two nodes in one file: nothing is known of it.
        let mut columns = held.columns().to_vec();
        let nodes: Vec<String> = (0..rows.num_rows()).map(|row| format!("n{row}")).collect();
        columns[node] = Arc::new(arrow::array::StringArray::from(nodes));
        let rows = arrow::array::RecordBatch::try_new(held.schema(), columns).unwrap();
        assert!(!known(rows).0.iter().any(|(number, _)| *number == node));
    }
}
