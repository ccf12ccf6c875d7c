//! What other collectors wrote to the same history, for statements of this one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::table::HistoryError;
use super::tables::History;
use crate::buffer::Store;

/// The refresher's state.
#[derive(Debug)]
pub struct Refresher {
    /// What is read anew.
    pub history: Arc<History>,
    /// Who has to know which files are live.
    pub store: Arc<Store>,
    /// Time between two looks; `None` where nobody else writes.
    pub interval: Option<Duration>,
}

impl Refresher {
    /// Looks again and again. What keeps it from looking is said once, until it is gone.
    pub async fn run(self) {
        let Some(interval) = self.interval else { return std::future::pending().await };
        let mut failing = false;
        let shown = Arc::new(Shown::default());
        loop {
            tokio::time::sleep(interval).await;
            let (history, store, shown) = (Arc::clone(&self.history), Arc::clone(&self.store), Arc::clone(&shown));
            let looked = tokio::task::spawn_blocking(move || refresh(&history, &store, &shown)).await;
            let failed = match looked {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(crate::error::chain(&error)),
                Err(error) => Some(error.to_string()),
            };
            match &failed {
                Some(reason) if !failing => {
                    tracing::error!(%reason, "cannot see what other collectors write; tried again all the time");
                }
                None if failing => tracing::info!("sees again what other collectors write"),
                _ => {}
            }
            failing = failed.is_some();
        }
    }
}

/// Up to which version each table was shown to statements, by the refresher: others read the logs too, and do not say so.
#[derive(Debug, Default)]
pub struct Shown(Mutex<BTreeMap<&'static str, u64>>);

/// Takes in what is new in every table's log. A table that does not answer does not hold up the others' but for its time.
///
/// # Errors
/// The first [`HistoryError`].
pub fn refresh(history: &History, store: &Store, shown: &Shown) -> Result<(), HistoryError> {
    let looked = history.ask_each(|table| {
        table.refresh()?;
        let (name, version) = (table.table.name, table.log.version());
        let before = shown.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, version);
        if before != Some(version) {
            // Under the table's lock, as a flush does it.
            store.refiled(name, table.files(), table.progress());
        }
        Ok::<(), HistoryError>(())
    });
    looked.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use skep_seglog::SegmentId;

    use super::*;
    use crate::buffer::sample;

    #[test]
    fn what_others_wrote_is_shown_whoever_read_of_it_first() {
        let temp = tempfile::tempdir().unwrap();
        let [own, other] = ["aa", "bb"].map(|name| History::open(temp.path(), name).unwrap());
        let (store, shown) = (Store::new(1 << 20, own.files()), Shown::default());
        let files = || store.snapshot().tables["cpu"].files.len();
        refresh(&own, &store, &shown).unwrap();
        let append = |segment| {
            let rows = [sample::cpu("s", 1..=2)];
            other.with("cpu", |table| table.append(SegmentId(segment), &rows)).unwrap().unwrap();
        };
        append(1);
        refresh(&own, &store, &shown).unwrap();
        assert_eq!(files(), 1);
        append(2);
        own.with("cpu", |table| table.own_files()).unwrap().unwrap();
        assert_eq!(files(), 1);
        refresh(&own, &store, &shown).unwrap();
        assert_eq!(files(), 2);
    }

    #[test]
    fn rows_of_a_commit_whose_answer_was_lost_are_not_there_twice() {
        let temp = tempfile::tempdir().unwrap();
        let history = History::open(temp.path(), "aa").unwrap();
        let (store, shown) = (Store::new(1 << 20, history.files()), Shown::default());
        let rows = sample::cpu("s", 1..=2);
        store.insert(SegmentId(3), vec![(&skep_wire::tables::CPU, rows.clone())], None);
        store.freeze();
        history.with("cpu", |table| table.append(SegmentId(3), &[rows])).unwrap().unwrap();
        // The flush that did it did not hear of it.
        refresh(&history, &store, &shown).unwrap();
        let snapshot = store.snapshot();
        let cpu = &snapshot.tables["cpu"];
        assert_eq!((cpu.files.len(), cpu.batches.len()), (1, 0));
    }
}
