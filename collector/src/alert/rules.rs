//! Asks the statements of rules, one after the other, each as often as it says.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use skep_alerts::rule::{Row, Rule, Watcher};
use skep_runtime::clock::Clock;
use skep_runtime::shutdown::Token;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::task::Word;
use crate::buffer::Store;
use crate::query::{Engine, QueryError};

/// How long a statement may take.
const WITHIN: Duration = Duration::from_secs(30);

/// Rows of one answer that are looked at.
const MAX_ROWS: usize = 1000;

/// All rules.
#[derive(Debug)]
pub struct Rules {
    /// As the settings have them.
    pub rules: Vec<Rule>,
    /// Answers.
    pub engine: Arc<Engine>,
    /// What is asked.
    pub store: Arc<Store>,
    /// Where what they find goes.
    pub words: mpsc::Sender<Word>,
    /// When to stop.
    pub stop: Token,
    /// The clock.
    pub clock: Clock,
}

impl Rules {
    /// Runs until told to stop.
    pub async fn run(self) {
        let Self { rules, engine, store, words, mut stop, clock } = self;
        let begun = Instant::now();
        let mut watchers: Vec<(Instant, Watcher)> = rules.into_iter().map(|rule| (begun, Watcher::new(rule))).collect();
        while let Some((due, watcher)) = watchers.iter_mut().min_by_key(|(due, _)| *due) {
            tokio::select! {
                () = tokio::time::sleep_until(*due) => {}
                () = stop.stopped() => return,
            }
            *due = Instant::now() + watcher.rule().every;
            let rows = tokio::select! {
                rows = ask(&engine, &store, &watcher.rule().sql) => rows,
                () = stop.stopped() => return,
            };
            let rows = match rows {
                Ok(rows) => rows,
                Err(error) => {
                    // What it found before stands: not to know is not to be well.
                    tracing::warn!(rule = %watcher.rule().name, error = %crate::error::chain(&error), "a rule cannot be asked");
                    continue;
                }
            };
            let mut news: Vec<Word> = watcher.take(rows, clock.wall_us()).into_iter().map(Word::Report).collect();
            news.push(Word::Standing { rule: watcher.rule().name.clone(), keys: watcher.keys() });
            for word in news {
                if words.send(word).await.is_err() {
                    return;
                }
            }
            let dropped = watcher.take_dropped();
            if dropped > 0 {
                tracing::warn!(rule = %watcher.rule().name, rows = dropped, "a rule finds more than is remembered");
            }
        }
    }
}

async fn ask(engine: &Engine, store: &Store, sql: &str) -> Result<Vec<Row>, QueryError> {
    let mut answer = engine.ask(store.snapshot(), sql, Some(WITHIN)).await?;
    let batches = answer.collect().await?;
    Ok(batches.iter().flat_map(rows).take(MAX_ROWS).collect())
}

/// Numbers are values, all else is a label. What does not become a text has none.
fn rows(batch: &RecordBatch) -> Vec<Row> {
    let mut rows = vec![Row::default(); batch.num_rows()];
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let is_number = column.data_type().is_numeric();
        let kind = if is_number { DataType::Float64 } else { DataType::Utf8 };
        let Ok(column) = cast(column, &kind) else { continue };
        for (at, row) in rows.iter_mut().enumerate() {
            if column.is_null(at) {
                continue;
            }
            if is_number {
                row.values.insert(field.name().clone(), column.as_primitive::<Float64Type>().value(at));
            } else {
                row.labels.insert(field.name().clone(), column.as_string::<i32>().value(at).to_owned());
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::{ArrayRef, BooleanArray, Int64Array, StringArray};

    use super::*;
    use crate::query::engine::Limits;

    #[tokio::test]
    async fn rules_of_our_own_can_be_asked_of_a_history_without_rows() {
        let (mut top, noted) = skep_runtime::settings::parse("").unwrap();
        let settings = skep_alerts::settings::read(&mut top.section("alerts"), crate::alert::DEFAULT_RULES);
        assert_eq!(noted.into_result(), Ok(()));
        assert_eq!(settings.rules.len(), 26);
        let engine = Engine::new(Limits { partitions: 1, ..Limits::of_one(64 << 20, WITHIN) }).unwrap();
        let snapshot = Store::new(1 << 20, BTreeMap::new()).snapshot();
        for rule in settings.rules {
            let mut answer = engine.ask(snapshot.clone(), &rule.sql, None).await.unwrap_or_else(|error| {
                panic!("{}: {}", rule.name, crate::error::chain(&error));
            });
            let rows = answer.collect().await.unwrap();
            assert_eq!(rows.iter().flat_map(super::rows).count(), 0, "{}", rule.name);
            let columns = answer.schema();
            for word in rule.title.split('{').skip(1).filter_map(|part| part.split_once('}')) {
                assert!(columns.field_with_name(word.0).is_ok(), "{}: no column {}", rule.name, word.0);
            }
        }
    }

    #[test]
    fn texts_are_labels_and_numbers_are_values() {
        let columns: [(&str, ArrayRef); 3] = [
            ("node", Arc::new(StringArray::from(vec![Some("a"), None]))),
            ("critical", Arc::new(BooleanArray::from(vec![true, false]))),
            ("count", Arc::new(Int64Array::from(vec![3, 4]))),
        ];
        let rows = super::rows(&RecordBatch::try_from_iter(columns).unwrap());
        assert_eq!(rows[0].values, BTreeMap::from([("count".to_owned(), 3.0)]));
        let labels: Vec<_> = rows[0].labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(labels, ["critical=true", "node=a"]);
        assert_eq!(rows[1].labels.len(), 1, "what is not known is no label");
    }
}
