//! Rows for tests.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use skep_wire::chunk::Builder;
use skep_wire::envelope::Origin;
use skep_wire::tables::{CPU, Kind};

use super::convert;

/// One row of cpu with nothing in it.
pub(crate) fn blank() -> RecordBatch {
    let mut rows = Builder::new(&CPU);
    for column in CPU.columns().filter(|column| !column.nullable) {
        match column.kind {
            Kind::Int | Kind::Time | Kind::Bool => rows.int(column.name, 0),
            Kind::Float => rows.float(column.name, 1.0),
            Kind::Text => rows.text(column.name, "x"),
            Kind::TextList => rows.text_list::<&str>(column.name, &[]),
            Kind::Histogram => rows.histogram(column.name, []),
        };
    }
    rows.end_row().unwrap();
    let origin = Origin { node: "n".to_owned(), boot: "b".to_owned(), stream: "s".to_owned(), seq: 1 };
    convert::record_batch(&origin, &CPU, &rows.finish().unwrap()).unwrap()
}

/// Rows of cpu at the beginning of 1970, one of each batch of a stream; `on_cpu_ns` and `pid` are the batch's number.
pub(crate) fn cpu(stream: &str, seqs: RangeInclusive<i64>) -> RecordBatch {
    let count = seqs.clone().count();
    let all = take_record_batch(&blank(), &UInt32Array::from(vec![0; count])).unwrap();
    let mut columns: Vec<ArrayRef> = all.columns().to_vec();
    for name in ["seq", "on_cpu_ns", "pid"] {
        columns[all.schema().index_of(name).unwrap()] = Arc::new(Int64Array::from_iter_values(seqs.clone()));
    }
    let at = all.schema().index_of("stream").unwrap();
    columns[at] = cast(&StringArray::from(vec![stream; count]), columns[at].data_type()).unwrap();
    RecordBatch::try_new(all.schema(), columns).unwrap()
}
