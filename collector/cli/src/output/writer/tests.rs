use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, ListBuilder, StringBuilder, TimestampMicrosecondArray};
use arrow::ipc::reader::StreamReader;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::*;

fn sample() -> RecordBatch {
    let time: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1_700_000_000_000_000]).with_timezone("UTC"));
    let count: ArrayRef = Arc::new(Int64Array::from(vec![3]));
    let mut argv = ListBuilder::new(StringBuilder::new());
    argv.append_value([Some("sh"), Some("a \"b\", c")]);
    let argv: ArrayRef = Arc::new(argv.finish());
    RecordBatch::try_from_iter([("time", time), ("count", count), ("argv", argv)]).unwrap()
}

fn write(format: DataFormat, batches: &[RecordBatch]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let mut writer = Writer::start(format, &sample().schema(), Some(&path)).unwrap();
    for batch in batches {
        writer.push(batch).unwrap();
    }
    assert_eq!(writer.finish().unwrap(), batches.len() as u64);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no partial file may stay");
    std::fs::read(path).unwrap()
}

#[test]
fn json_is_an_array_of_objects() {
    let text = String::from_utf8(write(DataFormat::Json, &[sample()])).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value[0]["count"], 3);
    assert_eq!(value[0]["argv"][1], "a \"b\", c");
    assert_eq!(value[0]["time"], "2023-11-14T22:13:20Z");
    assert_eq!(String::from_utf8(write(DataFormat::Json, &[])).unwrap().trim(), "[]");
}

#[test]
fn ndjson_is_an_object_a_line() {
    let text = String::from_utf8(write(DataFormat::Ndjson, &[sample(), sample()])).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[1]["count"]), (2, &serde_json::json!(3)));
    assert_eq!(write(DataFormat::Ndjson, &[]), b"");
}

#[test]
fn a_table_has_its_head_once_however_its_rows_come() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let mut writer = Writer::start(DataFormat::Table, &sample().schema(), Some(&path)).unwrap();
    for _ in 0..PAGE_ROWS + 2 {
        writer.push(&sample()).unwrap();
    }
    std::thread::sleep(PAGE_WITHIN);
    writer.idle().unwrap();
    let partial = folder.path().join("out.partial");
    assert_eq!(std::fs::read_to_string(&partial).unwrap().lines().count(), PAGE_ROWS + 4, "all rows are out");
    writer.push(&sample()).unwrap();
    assert!(!path.exists(), "a file appears when it is whole");
    writer.finish().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("time")).count(), 1);
    assert_eq!(text.lines().count(), PAGE_ROWS + 5);
}

#[test]
fn csv_has_a_header_and_nested_values_as_json() {
    let text = String::from_utf8(write(DataFormat::Csv, &[sample()])).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("time,count,argv"));
    let row = lines.next().unwrap();
    assert!(row.ends_with(r#","[""sh"",""a \""b\"", c""]""#), "{row}");
    assert_eq!(String::from_utf8(write(DataFormat::Csv, &[])).unwrap(), "time,count,argv\n");
}

#[test]
fn arrow_and_parquet_read_back_as_they_were() {
    let bytes = write(DataFormat::Arrow, &[sample()]);
    let back: Vec<RecordBatch> = StreamReader::try_new(bytes.as_slice(), None).unwrap().map(Result::unwrap).collect();
    assert_eq!(back, [sample()]);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.parquet");
    std::fs::write(&path, write(DataFormat::Parquet, &[sample()])).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap().build().unwrap();
    let back: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    assert_eq!(back, [sample()]);
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let error = Writer::start(DataFormat::Json, &sample().schema(), Some(Path::new("/nowhere/out"))).unwrap_err();
    assert!(error.to_string().contains("/nowhere/out"), "{error}");
}
