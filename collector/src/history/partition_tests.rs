use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch};
use skep_wire::chunk::Builder;
use skep_wire::envelope::Origin;
use skep_wire::tables::{LOSS, TABLES};

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
        assert_eq!(whole(part), plainly(&LOSS, &batches, part.hour));
    }
    assert_eq!(parts.iter().map(Partition::rows).sum::<usize>(), 1000);
    assert_eq!((parts[1].first_us, parts[1].last_us), (2 * HOUR_US, 2 * HOUR_US + 6));
}

#[test]
fn pieces_follow_one_another() {
    let rows: Vec<_> = (0..PIECE_ROWS as i64).rev().map(|time| (time, "cpu")).collect();
    let batches = [batch("a", 1, &rows), batch("a", 2, &rows)];
    let parts = partition(&LOSS, &batches).unwrap();
    let pieces: Vec<_> = parts[0].pieces().map(Result::unwrap).collect();
    assert_eq!(pieces.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [PIECE_ROWS, PIECE_ROWS]);
    assert_eq!(whole(&parts[0]), plainly(&LOSS, &batches, parts[0].hour));
}

fn whole(part: &Partition<'_>) -> RecordBatch {
    let pieces: Vec<_> = part.pieces().map(Result::unwrap).collect();
    schema::plain(&concat_batches(&pieces[0].schema(), &pieces).unwrap()).unwrap()
}

#[test]
fn every_table_can_be_sorted() {
    for table in TABLES {
        let empty = [RecordBatch::new_empty(schema::held(table))];
        assert!(partition(table, &empty).unwrap().is_empty(), "{}", table.name);
        assert_eq!(table.sort.last(), Some(&"time"), "{}: time is sorted by last", table.name);
    }
}
