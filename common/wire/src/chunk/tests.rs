use super::*;
use crate::tables;

fn loss_row(builder: &mut Builder, probe: &str, lost: Option<i64>) {
    builder.int("time", 1).int("until", 2).text("probe", probe).text("reason", "none").maybe_int("lost", lost);
}

fn two_rows() -> v1::Chunk {
    let mut builder = Builder::new(&tables::LOSS);
    loss_row(&mut builder, "syscall", Some(7));
    builder.end_row().unwrap();
    loss_row(&mut builder, "tcp", None);
    builder.end_row().unwrap();
    builder.finish().unwrap()
}

#[test]
fn rows_come_back_as_they_went_in() {
    let chunk = two_rows();
    assert_eq!(check(&chunk, &tables::LOSS), Ok(0));
    let rows: Vec<_> = rows(&chunk).collect();
    assert_eq!(rows[0].int("lost"), Some(7));
    assert_eq!(rows[1].int("lost"), None);
    assert_eq!(rows[1].text("probe"), Some("tcp"));
    assert_eq!(rows[1].text("no such column"), None);
}

#[test]
fn lists_and_histograms_come_back() {
    let mut builder = Builder::new(&tables::PROCESSES);
    builder.int("time", 1).text("event", "exec").int("pid", 1).int("start_ns", 2).text("comm", "sh");
    builder.text("workload", "host").text("attribution", "exact").int("parent_pid", 0);
    builder.text_list("argv", &["sh", "-c", "sh"]).bool("argv_truncated", false);
    builder.end_row().unwrap();
    let chunk = builder.finish().unwrap();
    check(&chunk, &tables::PROCESSES).unwrap();
    assert_eq!(rows(&chunk).next().unwrap().text_list("argv"), Some(vec!["sh", "-c", "sh"]));

    let histogram = v1::Histograms { lengths: vec![2, 1], buckets: vec![3, 9, 5], counts: vec![1, 2, 3] };
    let chunk = v1::Chunk {
        table: "cpu".to_owned(),
        rows: 2,
        columns: vec![v1::ColumnData {
            name: "run_queue_delay".to_owned(),
            validity: Vec::new(),
            data: Some(Data::Histograms(histogram)),
        }],
    };
    check(&chunk, &tables::CPU).unwrap();
    let read: Vec<_> = rows(&chunk).map(|row| row.histogram("run_queue_delay").unwrap()).collect();
    assert_eq!(read, vec![vec![(3, 1), (12, 2)], vec![(5, 3)]]);
}

#[test]
fn a_row_without_a_required_value_is_refused() {
    let mut builder = Builder::new(&tables::LOSS);
    builder.int("time", 1).int("until", 2).text("reason", "none");
    let refused = builder.end_row().unwrap_err();
    assert_eq!(refused, ChunkError::Missing { table: "loss", column: "probe".to_owned(), row: 0 });
}

#[test]
fn a_value_of_the_wrong_kind_is_refused() {
    let mut builder = Builder::new(&tables::LOSS);
    loss_row(&mut builder, "tcp", None);
    builder.text("attempted", "many");
    assert!(matches!(builder.end_row(), Err(ChunkError::WrongKind { .. })));
}

#[test]
fn a_column_shorter_than_the_chunk_is_refused() {
    let mut chunk = two_rows();
    chunk.rows = 3;
    assert!(matches!(check(&chunk, &tables::LOSS), Err(ChunkError::WrongLength { .. })));
}

#[test]
fn an_index_outside_the_dictionary_is_refused() {
    let mut chunk = two_rows();
    for column in &mut chunk.columns {
        if let Some(Data::Texts(texts)) = &mut column.data {
            texts.index[1] = 99;
        }
    }
    assert!(matches!(check(&chunk, &tables::LOSS), Err(ChunkError::OutOfRange { value: 99, .. })));
}

#[test]
fn texts_that_no_value_names_are_refused() {
    let mut chunk = two_rows();
    for column in &mut chunk.columns {
        if let Some(Data::Texts(texts)) = &mut column.data {
            texts.dictionary.resize(3, String::new());
        }
    }
    let refused = check_dictionaries(&chunk, &tables::LOSS);
    assert!(matches!(refused, Err(ChunkError::LargeDictionary { texts: 3, values: 2, .. })));
    assert_eq!(check_dictionaries(&two_rows(), &tables::LOSS), Ok(()));
}

#[test]
fn columns_that_come_again_and_again_are_refused() {
    let mut chunk = two_rows();
    let again = chunk.columns[0].clone();
    chunk.columns.resize(tables::LOSS.columns().count() + 1, again);
    assert_eq!(check(&chunk, &tables::LOSS), Err(ChunkError::Twice { table: "loss" }));
}

#[test]
fn a_bucket_outside_the_layout_is_refused() {
    let histogram = v1::Histograms { lengths: vec![1], buckets: vec![60_000], counts: vec![1] };
    let chunk = v1::Chunk {
        table: "cpu".to_owned(),
        rows: 1,
        columns: vec![v1::ColumnData {
            name: "run_queue_delay".to_owned(),
            validity: Vec::new(),
            data: Some(Data::Histograms(histogram)),
        }],
    };
    assert!(matches!(check(&chunk, &tables::CPU), Err(ChunkError::OutOfRange { .. })));
}

#[test]
fn an_unknown_column_is_counted_and_let_be() {
    let mut chunk = two_rows();
    chunk.columns.push(v1::ColumnData { name: "of tomorrow".to_owned(), ..Default::default() });
    assert_eq!(check(&chunk, &tables::LOSS), Ok(1));
}
