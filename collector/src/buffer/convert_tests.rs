use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use proptest::prelude::*;
use skep_common::bucket;
use skep_wire::chunk::{Builder, check};
use skep_wire::tables::{self, TABLES};

use super::*;
use crate::buffer::restore;

fn origin() -> Origin {
    Origin { node: "n1".to_owned(), boot: "b".to_owned(), stream: "s".to_owned(), seq: 7 }
}

/// A value of every kind, drawn from a seed, or nothing.
#[derive(Debug, Clone)]
struct Draw {
    present: bool,
    number: i64,
    texts: Vec<String>,
    buckets: Vec<(u16, u64)>,
}

fn draw() -> impl Strategy<Value = Draw> {
    let texts = prop::collection::vec("[a-z\u{e9}]{0,6}", 0..4);
    let buckets = prop::collection::btree_map(0u16..bucket::BUCKETS as u16, 1u64..1 << 40, 0..6);
    (any::<bool>(), any::<i64>(), texts, buckets).prop_map(|(present, number, texts, buckets)| Draw {
        present,
        number,
        texts,
        buckets: buckets.into_iter().collect(),
    })
}

fn build(table: &'static Table, rows: &[Vec<Draw>]) -> v1::Chunk {
    let mut builder = Builder::new(table);
    for row in rows {
        for (column, draw) in table.columns().zip(row.iter().cycle()) {
            if column.nullable && !draw.present {
                continue;
            }
            match column.kind {
                Kind::Int | Kind::Time => builder.int(column.name, draw.number),
                Kind::Bool => builder.bool(column.name, draw.number % 2 == 0),
                Kind::Float => builder.float(column.name, draw.number as f64 / 3.0),
                Kind::Text => builder.text(column.name, draw.texts.first().map_or("", String::as_str)),
                Kind::TextList => builder.text_list(column.name, &draw.texts),
                Kind::Histogram => builder.histogram(column.name, draw.buckets.iter().copied()),
            };
        }
        builder.end_row().unwrap();
    }
    builder.finish().unwrap()
}

proptest! {
    #[test]
    fn every_table_comes_back_as_it_went_in(
        table in prop::sample::select(TABLES),
        rows in prop::collection::vec(prop::collection::vec(draw(), 11), 1..12),
    ) {
        let chunk = build(table, &rows);
        check(&chunk, table).unwrap();
        let batch = record_batch(&origin(), table, &chunk).unwrap();
        prop_assert_eq!(batch.num_rows(), rows.len());
        prop_assert_eq!(batch.schema(), schema::held(table));
        let batch = schema::plain(&batch).unwrap();
        prop_assert_eq!(batch.schema(), schema::schema(table));
        prop_assert_eq!(restore::chunk(table, &batch).unwrap(), Some(chunk));
    }
}

#[test]
fn the_envelope_stands_in_front_of_every_row() {
    let mut builder = Builder::new(&tables::LOSS);
    for probe in ["cpu", "tcp"] {
        builder.int("time", 5).int("until", 6).text("probe", probe).text("reason", "none").end_row().unwrap();
    }
    let batch = schema::plain(&record_batch(&origin(), &tables::LOSS, &builder.finish().unwrap()).unwrap()).unwrap();
    let nodes: Vec<_> = batch["node"].as_string::<i32>().iter().flatten().collect();
    assert_eq!(nodes, ["n1", "n1"]);
    assert_eq!(batch["seq"].as_primitive::<Int64Type>().values(), &[7, 7]);
    assert_eq!(batch["time"].as_primitive::<TimestampMicrosecondType>().values(), &[5, 5]);
    assert_eq!(batch["attempted"].null_count(), 2);
}

#[test]
fn a_column_of_a_newer_table_reads_as_null_or_zero() {
    let chunk = v1::Chunk { table: "processes".to_owned(), rows: 2, columns: Vec::new() };
    let batch = schema::plain(&record_batch(&origin(), &tables::PROCESSES, &chunk).unwrap()).unwrap();
    assert_eq!(batch["argv"].null_count(), 2);
    assert_eq!(batch["pid"].as_primitive::<Int64Type>().values(), &[0, 0]);
    assert_eq!(batch["event"].as_string::<i32>().value(1), "");
    let chunk = v1::Chunk { table: "cpu".to_owned(), rows: 2, columns: Vec::new() };
    let batch = record_batch(&origin(), &tables::CPU, &chunk).unwrap();
    assert_eq!(batch["run_queue_delay"].as_binary::<i32>().value(0).len(), 0);
}

#[test]
fn a_dictionary_bomb_is_refused_before_it_unfolds() {
    let bomb = |rows: usize| {
        let long = "x".repeat(1 << 20);
        let mut builder = Builder::new(&tables::LOSS);
        for _ in 0..rows {
            builder.int("time", 1).int("until", 2).text("probe", "tcp").text("reason", "none").text("detail", &long);
            builder.end_row().unwrap();
        }
        builder.finish().unwrap()
    };
    assert_eq!(record_batch(&origin(), &tables::LOSS, &bomb(3)).unwrap().num_rows(), 3);
    let error = record_batch(&origin(), &tables::LOSS, &bomb(129)).unwrap_err().to_string();
    assert!(error.contains("unfolds to"), "{error}");
    let named = Origin { stream: "s".repeat(64 << 20), ..origin() };
    assert!(record_batch(&named, &tables::LOSS, &bomb(3)).is_err());
    let lists = v1::TextLists {
        lengths: vec![200],
        items: Some(v1::Texts { dictionary: vec!["x".repeat(1 << 20)], index: vec![0; 200] }),
    };
    assert!(text_lists(&lists, None).is_err());
}
