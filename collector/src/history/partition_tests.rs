use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch};
use skep_wire::chunk::Builder;
use skep_wire::envelope::Origin;
use skep_wire::tables::{CPU, Kind, LOSS, PROCESSES, TABLES};

use super::*;
use crate::buffer::{convert, schema};

const HOUR_US: i64 = 3_600_000_000;

fn batch(node: &str, seq: u64, rows: &[(i64, &str)]) -> RecordBatch {
    let mut builder = Builder::new(&LOSS);
    for (time, probe) in rows {
        builder.int("time", *time).int("until", *time).text("probe", probe).text("reason", "none").end_row().unwrap();
    }
    let origin = Origin { node: node.to_owned(), boot: "b".to_owned(), stream: "s".to_owned(), seq };
    convert::record_batch(&origin, &LOSS, &builder.finish().unwrap()).unwrap()
}

/// The same by comparing rows column by column.
fn plainly(table: &'static Table, batches: &[RecordBatch], hour: Hour) -> RecordBatch {
    let all = concat_batches(&schema::held(table), batches).unwrap();
    let all = schema::plain(&all).unwrap();
    let times = all.column_by_name("time").unwrap().as_primitive::<TimestampMicrosecondType>().clone();
    let of_hour = (0..all.num_rows()).filter(|row| Hour::of(times.value(*row)) == hour).map(|row| row as u32);
    let part = take_record_batch(&all, &UInt32Array::from_iter_values(of_hour)).unwrap();
    // Their number last, so that the order of equals is one only.
    let number: ArrayRef = std::sync::Arc::new(UInt32Array::from_iter_values(0..part.num_rows() as u32));
    let sorted = table.sort.iter().map(|name| std::sync::Arc::clone(part.column_by_name(name).unwrap()));
    let columns: Vec<_> = sorted.chain([number]).map(|values| SortColumn { values, options: None }).collect();
    take_record_batch(&part, &lexsort_to_indices(&columns, None).unwrap()).unwrap()
}

#[test]
fn rows_are_where_comparing_them_column_by_column_puts_them() {
    let mut batches = Vec::new();
    for seq in 0..40u64 {
        let node = ["b", "a", "a/b", ""][seq as usize % 4];
        let rows: Vec<_> = (0..25)
            .map(|row| {
                let noise = (seq * 25 + row).wrapping_mul(2_654_435_761) % 97;
                let time = if noise < 30 { HOUR_US + noise as i64 } else { 2 * HOUR_US + noise as i64 % 7 };
                (time, ["tcp", "cpu", "exec"][noise as usize % 3])
            })
            .collect();
        batches.push(batch(node, seq, &rows));
    }
    let parts = partition(&LOSS, &batches).unwrap();
    assert_eq!(parts.iter().map(|part| part.hour).collect::<Vec<_>>(), [Hour::of(HOUR_US), Hour::of(2 * HOUR_US)]);
    for part in &parts {
        assert_eq!(whole(&LOSS, part), plainly(&LOSS, &batches, part.hour));
    }
    assert_eq!(parts.iter().map(Partition::rows).sum::<usize>(), 1000);
    assert_eq!((parts[1].first_us, parts[1].last_us), (2 * HOUR_US, 2 * HOUR_US + 6));
}

#[test]
fn rows_of_one_key_that_came_out_of_order_are_sorted_by_time() {
    let rows: Vec<_> = (0..100).rev().map(|time| (time, "cpu")).collect();
    let batches = [batch("a", 1, &rows), batch("a", 2, &rows)];
    let parts = partition(&LOSS, &batches).unwrap();
    assert_eq!(whole(&LOSS, &parts[0]), plainly(&LOSS, &batches, parts[0].hour));
    let few = [batch("a", 1, &[(7, "tcp"), (3, "cpu")]), batch("a", 2, &[(HOUR_US, "exec"), (3, "cpu")])];
    for part in partition(&LOSS, &few).unwrap() {
        assert_eq!(whole(&LOSS, &part), plainly(&LOSS, &few, part.hour));
    }
}

#[test]
fn a_column_of_every_kind_is_gathered() {
    let mut batches = Vec::new();
    for seq in 0..6i64 {
        let mut rows = Builder::new(&PROCESSES);
        let mut cpu = Builder::new(&CPU);
        for row in 0..5 {
            for (builder, table) in [(&mut rows, &PROCESSES), (&mut cpu, &CPU)] {
                for (at, column) in table.columns().enumerate() {
                    let number = (seq * 31 + row * 7 + at as i64) % 11;
                    if column.nullable && number < 4 {
                        continue;
                    }
                    let texts = vec!["t".repeat(number as usize); number as usize % 3];
                    match column.kind {
                        Kind::Int | Kind::Time => builder.int(column.name, number),
                        Kind::Bool => builder.bool(column.name, number % 2 == 0),
                        Kind::Float => builder.float(column.name, number as f64),
                        Kind::Text => builder.text(column.name, &"x".repeat(number as usize)),
                        Kind::TextList => builder.text_list(column.name, &texts),
                        Kind::Histogram => {
                            builder.histogram(column.name, (0..number as u16).map(|at| (at, 1 + u64::from(at))))
                        }
                    };
                }
                builder.end_row().unwrap();
            }
        }
        let origin = Origin { node: "n".to_owned(), boot: "b".to_owned(), stream: "s".to_owned(), seq: seq as u64 };
        let batch = |table, rows: Builder| convert::record_batch(&origin, table, &rows.finish().unwrap()).unwrap();
        batches.push([batch(&PROCESSES, rows), batch(&CPU, cpu)]);
    }
    for (at, table) in [&PROCESSES, &CPU].into_iter().enumerate() {
        let batches: Vec<_> = batches.iter().map(|both| both[at].clone()).collect();
        for part in partition(table, &batches).unwrap() {
            assert_eq!(whole(table, &part), plainly(table, &batches, part.hour), "{}", table.name);
        }
    }
}

/// Gathered in two pieces.
fn whole(table: &'static Table, part: &Partition<'_>) -> RecordBatch {
    let schema = schema::schema(table);
    let cut = part.rows() / 2;
    let pieces = [0..cut, cut..part.rows()].map(|rows| {
        let column = |index| schema::plain_column(&part.column(index, rows.clone()).unwrap()).unwrap();
        RecordBatch::try_new(Arc::clone(&schema), (0..schema.fields().len()).map(column).collect()).unwrap()
    });
    concat_batches(&schema, &pieces).unwrap()
}

#[test]
fn every_table_can_be_sorted() {
    for table in TABLES {
        let empty = [RecordBatch::new_empty(schema::held(table))];
        assert!(partition(table, &empty).unwrap().is_empty(), "{}", table.name);
        assert_eq!(table.sort.last(), Some(&"time"), "{}: time is sorted by last", table.name);
    }
}
