//! What skep has found and done so far, read again and again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use crate::skep::Reader;

/// How often it is read. Times are those of the rows.
const READ_EVERY: Duration = Duration::from_millis(700);

const SQL: &str = "SELECT arrow_cast(time, 'Int64') AS time_us, 'finding' AS what, finding AS id, rule AS name, \
                   workload AS whom, title AS detail FROM findings WHERE severity <> 'info' \
                   UNION ALL SELECT arrow_cast(time, 'Int64'), 'end', subject, step, '', detail FROM audit \
                   WHERE actor = 'policy' AND step IN ('recovered', 'unproven', 'escalated', 'dropped') \
                   UNION ALL SELECT arrow_cast(time, 'Int64'), 'action', action, verb || ' ' || state, workload, \
                   parameters FROM actions ORDER BY 1";

/// One row.
#[derive(Debug, Clone)]
pub(crate) struct Happened {
    pub(crate) time_us: i64,
    pub(crate) what: String,
    pub(crate) id: String,
    /// Rule, step, or verb and state.
    pub(crate) name: String,
    pub(crate) whom: String,
    pub(crate) detail: String,
}

/// What came of one fault.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    /// The first finding.
    pub(crate) found_us: Option<i64>,
    /// The last case that ended well, where nothing was found after it.
    pub(crate) recovered_us: Option<i64>,
    /// People were called.
    pub(crate) escalated_us: Option<i64>,
}

/// Everything so far. Dropping this ends the reading.
#[derive(Debug)]
pub(crate) struct Record {
    rows: Arc<Mutex<Vec<Happened>>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

fn read(reader: &Reader) -> Option<Vec<Happened>> {
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let happened = |row: &Value| Happened {
        time_us: row["time_us"].as_i64().unwrap_or_default(),
        what: text(row, "what"),
        id: text(row, "id"),
        name: text(row, "name"),
        whom: text(row, "whom"),
        detail: text(row, "detail"),
    };
    match reader.query(SQL) {
        Ok(rows) => Some(rows.iter().map(happened).collect()),
        Err(error) => {
            eprintln!("not read: {error:#}");
            None
        }
    }
}

impl Record {
    /// Begins.
    pub(crate) fn begin(reader: Reader) -> Self {
        let (rows, ends) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<AtomicBool>::default());
        let (into, until) = (Arc::clone(&rows), Arc::clone(&ends));
        let thread = thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                if let Some(rows) = read(&reader) {
                    *into.lock().unwrap_or_else(PoisonError::into_inner) = rows;
                }
                thread::sleep(READ_EVERY);
            }
        });
        Self { rows, ends, thread: Some(thread) }
    }

    /// All of it.
    pub(crate) fn all(&self) -> Vec<Happened> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was found about a workload since then, and how that ended.
    pub(crate) fn since(&self, from_us: i64, workload: &str) -> Seen {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = Seen::default();
        let mut findings = BTreeSet::new();
        for row in rows.iter().filter(|row| row.time_us >= from_us) {
            match row.what.as_str() {
                "finding" if row.whom == workload && row.name != "action-escalated" => {
                    findings.insert(row.id.as_str());
                    seen.found_us = seen.found_us.or(Some(row.time_us));
                    seen.recovered_us = None;
                }
                "end" if findings.contains(row.id.as_str()) => match row.name.as_str() {
                    "recovered" => seen.recovered_us = Some(row.time_us),
                    "escalated" => seen.escalated_us = Some(row.time_us),
                    _ => {}
                },
                _ => {}
            }
        }
        seen
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        // Its own panic is told already.
        let _told = self.thread.take().map(JoinHandle::join);
    }
}
