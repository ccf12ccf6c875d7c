//! The chain as one Parquet file: a column for each part of an entry, the head in the file's own metadata.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use ed25519_dalek::VerifyingKey;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use skep_audit::{Entry, Head, Report, Verifier};

use crate::exit::Failure;
use crate::output::OutputError;

/// Under this name the head is in the file's metadata.
const HEAD: &str = "skep.audit.head";

/// Columns that hold text, in order; facts are one JSON object.
const TEXTS: [&str; 11] =
    ["chain", "actor", "step", "subject", "node", "detail", "facts", "previous", "hash", "key", "signature"];

/// Writes all entries.
pub(super) fn write(path: &Path, entries: &[Entry], head: Option<&Head>) -> Result<(), Failure> {
    let batch = batch(entries).map_err(OutputError::Arrow)?;
    let head = head.and_then(|head| head.text().ok());
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_key_value_metadata(head.map(|head| vec![KeyValue::new(HEAD.to_owned(), head)]))
        .build();
    let mut bytes = Vec::new();
    let mut writer =
        ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).map_err(OutputError::Parquet)?;
    writer.write(&batch).map_err(OutputError::Parquet)?;
    writer.close().map_err(OutputError::Parquet)?;
    Ok(crate::output::replace_file(path, &bytes)?)
}

fn batch(entries: &[Entry]) -> Result<RecordBatch, ArrowError> {
    let numbers = entries.iter().map(|entry| entry.number as i64);
    let times = TimestampMicrosecondArray::from_iter_values(entries.iter().map(|entry| entry.time_us));
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("number", Arc::new(Int64Array::from_iter_values(numbers))),
        ("time", Arc::new(times.with_timezone("UTC"))),
    ];
    for name in TEXTS {
        let texts: StringArray = entries.iter().map(|entry| Some(text(entry, name))).collect();
        columns.push((name, Arc::new(texts)));
    }
    RecordBatch::try_from_iter(columns)
}

fn text(entry: &Entry, column: &str) -> String {
    match column {
        "chain" => entry.chain.clone(),
        "actor" => entry.actor.clone(),
        "step" => entry.step.clone(),
        "subject" => entry.subject.clone(),
        "node" => entry.node.clone(),
        "detail" => entry.detail.clone(),
        "facts" => serde_json::json!(entry.facts).to_string(),
        "previous" => entry.previous.clone(),
        "hash" => entry.hash.clone(),
        "key" => entry.key.clone(),
        _ => entry.signature.clone(),
    }
}

/// Verifies what [`write`] wrote, or another program made of it.
pub(super) fn verify(path: &Path, keys: Vec<VerifyingKey>, expect: Option<(u64, &str)>) -> Result<Report, Failure> {
    let unreadable = |source| OutputError::File { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(OutputError::Parquet)?;
    let mut verifier = Verifier::new(keys);
    if let Some((number, hash)) = expect {
        verifier.expect(number, hash);
    }
    let values = reader.metadata().file_metadata().key_value_metadata().into_iter().flatten();
    let head = values.filter(|value| value.key == HEAD).find_map(|value| Head::parse(value.value.as_deref()?));
    verifier.head(head.ok_or_else(|| "the file has no head, or not the one that was written".to_owned()));
    let mut row = 0_u64;
    for batch in reader.build().map_err(OutputError::Parquet)? {
        let batch = batch.map_err(OutputError::Arrow)?;
        for at in 0..batch.num_rows() {
            row += 1;
            match entry(&batch, at) {
                Some(entry) => verifier.take(&entry),
                None => verifier.unreadable(format!("row {row} of {}", path.display())),
            }
        }
    }
    Ok(verifier.finish())
}

fn entry(batch: &RecordBatch, at: usize) -> Option<Entry> {
    let column = |name: &str| batch.column_by_name(name).filter(|column| column.is_valid(at));
    let text = |name: &str| column(name)?.as_string_opt::<i32>().map(|texts| texts.value(at).to_owned());
    Some(Entry {
        chain: text("chain")?,
        number: column("number")?.as_primitive_opt::<Int64Type>()?.value(at).try_into().ok()?,
        time_us: column("time")?.as_primitive_opt::<TimestampMicrosecondType>()?.value(at),
        actor: text("actor")?,
        step: text("step")?,
        subject: text("subject")?,
        node: text("node")?,
        detail: text("detail")?,
        facts: serde_json::from_str(&text("facts")?).ok()?,
        previous: text("previous")?,
        hash: text("hash")?,
        key: text("key")?,
        signature: text("signature")?,
    })
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use skep_audit::{Fault, Record};

    use super::*;

    fn entries(key: &SigningKey) -> Vec<Entry> {
        let mut previous = skep_audit::entry::NOTHING.to_owned();
        (1..=4)
            .map(|number| {
                let record = Record {
                    time_us: number,
                    step: "sent".to_owned(),
                    facts: [("verb".to_owned(), "freeze \"x\"".to_owned())].into(),
                    ..Record::default()
                };
                let entry = Entry::seal(record, "c", number as u64, &previous, key);
                previous.clone_from(&entry.hash);
                entry
            })
            .collect()
    }

    #[test]
    fn an_export_verifies_like_the_chain_and_so_does_what_was_done_to_it() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("audit.parquet");
        let key = SigningKey::from_bytes(&[7; 32]);
        let all = entries(&key);
        let head = Head::sign("c", 4, &all[3].hash, 9, &key);
        let verified = |entries: &[Entry], head: Option<&Head>| {
            write(&path, entries, head).unwrap();
            verify(&path, vec![key.verifying_key()], None).unwrap()
        };
        let whole = verified(&all, Some(&head));
        assert_eq!((whole.entries, whole.faulty), (4, 0), "{whole:?}");
        assert_eq!(verified(&all[..3], Some(&head)).faults, [Fault::CutOff { last: 3, head: 4 }]);
        assert!(matches!(verified(&all, None).faults[..], [Fault::NoHead { .. }]));
        let mut changed = all.clone();
        changed[1].facts.insert("verb".to_owned(), "kill".to_owned());
        assert_eq!(verified(&changed, Some(&head)).faults, [Fault::Changed { number: 2 }]);
    }
}
