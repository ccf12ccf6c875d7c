//! Files of history that are gone: counted, said, and entered in the ledger, each once.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use skep_runtime::clock::Clock;
use skep_wire::chunk::{Builder, ChunkError};
use skep_wire::tables::LOSS;
use skep_wire::v1;
use tokio::sync::mpsc;

use crate::query::Unreadable;
use crate::respond::Ask;

/// `loss.probe` of rows that were stored and are gone.
pub const PROBE: &str = "history";

/// `loss.reason` of a file that cannot be read.
pub const REASON: &str = "file_missing";

/// Remembers which files the ledger has.
#[derive(Debug)]
pub struct Missing {
    told: Mutex<HashSet<PathBuf>>,
    ledger: mpsc::Sender<Ask>,
    clock: Clock,
}

impl Missing {
    /// `told` are the files the ledger has already.
    pub fn new(told: HashSet<PathBuf>, ledger: mpsc::Sender<Ask>, clock: Clock) -> Self {
        Self { told: Mutex::new(told), ledger, clock }
    }

    /// Enters the files that are new here, and not those that only cannot be reached for now. Does not wait: what does not fit now is told the next time.
    pub fn report(&self, files: &[Unreadable]) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<&Unreadable> = files.iter().filter(|file| file.lost && !told.contains(&file.path)).collect();
        if new.is_empty() {
            return;
        }
        for file in &new {
            tracing::error!(table = file.table, file = %file.path.display(), rows = file.rows, reason = %file.reason,
                "a file of history cannot be read");
        }
        let rows = match ledger_rows(&new, self.clock.wall_us()) {
            Ok(Some(rows)) => rows,
            Ok(None) => return,
            Err(error) => {
                tracing::error!(%error, "the ledger cannot say so");
                return;
            }
        };
        if self.ledger.try_send(Ask::Record(vec![rows])).is_ok() {
            told.extend(new.into_iter().map(|file| file.path.clone()));
        }
    }
}

fn ledger_rows(files: &[&Unreadable], now_us: i64) -> Result<Option<v1::Chunk>, ChunkError> {
    let mut builder = Builder::new(&LOSS);
    for file in files {
        let rows = file.rows.and_then(|rows| i64::try_from(rows).ok());
        builder.int("time", now_us).int("until", now_us).text("probe", PROBE).text("reason", REASON);
        builder.maybe_int("attempted", rows).maybe_int("delivered", rows.map(|_| 0)).maybe_int("lost", rows);
        builder.text("detail", &file.path.to_string_lossy()).end_row()?;
    }
    Ok(builder.finish())
}
