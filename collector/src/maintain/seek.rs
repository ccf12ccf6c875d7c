//! Hours in which a batch is twice that no other work would bring together.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

use skep_wire::tables::Table;

use super::plan::MOST_INPUTS;
use super::twice::Parting;
use crate::history::batches::{BatchesError, KnownBatches};
use crate::history::path::Hour;
use crate::history::upkeep::HourFile;
use crate::history::{History, TableHistory};

/// Remembers which hours it looked at, and what was in them.
#[derive(Debug, Default)]
pub struct Seeker {
    looked: HashMap<(&'static str, Hour), u64>,
    hasher: RandomState,
}

impl Seeker {
    /// Those of `files` in the first closed hour in which they hold what others have too.
    ///
    /// # Errors
    /// [`BatchesError`]: a file does not read.
    pub fn next(
        &mut self,
        (history, known, collector): (&History, &KnownBatches, &str),
        table: &'static Table,
        files: &[HourFile],
        is_due: impl Fn(Hour) -> bool,
    ) -> Result<Option<Vec<HourFile>>, BatchesError> {
        let mut hours: BTreeMap<Hour, Vec<HourFile>> = BTreeMap::new();
        for file in files.iter().filter(|file| !file.is_summed() && is_due(file.hour)) {
            hours.entry(file.hour).or_default().push(file.clone());
        }
        for (hour, inputs) in hours {
            let others = history.with(table.name, |folder: &mut TableHistory| folder.others_of_hour(&inputs));
            let others = others.unwrap_or_default();
            let mut writers = inputs.iter().chain(&others).map(|file| &file.name.collector);
            let first = writers.next();
            if inputs.len() > MOST_INPUTS || writers.all(|other| Some(other) == first) {
                continue;
            }
            let paths: Vec<&str> = inputs.iter().chain(&others).map(|file| file.path.as_str()).collect();
            let state = self.hasher.hash_one(paths);
            if self.looked.get(&(table.name, hour)) == Some(&state) {
                continue;
            }
            if Parting::of(known, collector, &inputs, &others, false)?.leaves_out() {
                return Ok(Some(inputs));
            }
            self.looked.insert((table.name, hour), state);
        }
        Ok(None)
    }
}
