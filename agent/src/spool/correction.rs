//! What the ledger says of batches that had to go. Pure.
//!
//! A batch claims deliveries; without the batch they are losses. What it said about other losses still holds: counts are
//! carried over summed by probe and reason, so that an outage of days takes no more room than one of minutes. Rows
//! without counts, and the rows that tell what was done on this host, are carried over as they are.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use skep_wire::chunk::{ChunkError, MAX_ROWS};
use skep_wire::{tables, v1};

use crate::ledger::{self, LossRow, SPOOL_EVICTED};

/// Tables whose rows outlive their batch: small, and nobody can make them again.
const CARRIED: [&str; 2] = [tables::ACTIONS.name, tables::AUDIT.name];

/// Collects batches that go, and makes the batch that replaces them.
#[derive(Debug, Default)]
pub struct Correction {
    claimed: BTreeMap<String, u64>,
    /// Rows with counts, by probe and reason.
    counted: BTreeMap<(String, String), LossRow>,
    /// The others.
    rows: Vec<LossRow>,
    carried: Vec<v1::Chunk>,
    /// First and last time a batch among them was sealed.
    span: Option<(i64, i64)>,
}

impl Correction {
    /// A sealed batch goes.
    pub fn evict(&mut self, batch: v1::Batch) {
        for delivery in batch.deliveries {
            *self.claimed.entry(delivery.probe).or_default() += delivery.delivered;
        }
        for chunk in batch.chunks {
            if chunk.table == tables::LOSS.name {
                ledger::rows(&chunk).into_iter().for_each(|row| self.note(row));
            } else if CARRIED.contains(&chunk.table.as_str()) {
                self.carried.push(chunk);
            }
        }
        let (from, until) = self.span.unwrap_or((batch.sealed_us, batch.sealed_us));
        self.span = Some((from.min(batch.sealed_us), until.max(batch.sealed_us)));
    }

    /// Something else to be told with the next batch.
    pub fn note(&mut self, row: LossRow) {
        if row.counts.is_none() || row.detail.is_some() {
            self.rows.push(row);
            return;
        }
        match self.counted.entry((row.probe.clone(), row.reason.clone())) {
            Entry::Vacant(entry) => {
                entry.insert(row);
            }
            Entry::Occupied(mut entry) => entry.get_mut().add(&row),
        }
    }

    /// The chunks to send, as few batches as they fit: a batch holds one chunk of a table. The ledger comes last.
    ///
    /// # Errors
    /// [`ChunkError`]: a fault of this program.
    pub fn into_batches(mut self) -> Result<Vec<Vec<v1::Chunk>>, ChunkError> {
        let span = self.span.unwrap_or_default();
        for (probe, count) in std::mem::take(&mut self.claimed) {
            self.note(LossRow::taken_back(span, &probe, SPOOL_EVICTED, count));
        }
        let Self { counted, mut rows, carried, .. } = self;
        rows.extend(counted.into_values());
        let mut batches: Vec<Vec<v1::Chunk>> = Vec::new();
        for chunk in carried {
            match batches.iter_mut().find(|batch| batch.iter().all(|other| other.table != chunk.table)) {
                Some(batch) => batch.push(chunk),
                None => batches.push(vec![chunk]),
            }
        }
        for (i, rows) in rows.chunks(MAX_ROWS).enumerate() {
            let Some(chunk) = ledger::chunk(rows)? else { continue };
            match batches.last_mut().filter(|_| i == 0) {
                Some(batch) => batch.push(chunk),
                None => batches.push(vec![chunk]),
            }
        }
        Ok(batches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Counts;

    fn batch(at: i64, rows: &[LossRow], delivered: u64) -> v1::Batch {
        v1::Batch {
            sealed_us: at,
            chunks: ledger::chunk(rows).unwrap().into_iter().collect(),
            deliveries: vec![v1::Delivery { probe: "exec".to_owned(), delivered }],
        }
    }

    #[test]
    fn claims_become_losses_and_counts_are_summed() {
        let mut correction = Correction::default();
        let rows = [LossRow::delivered((1, 2), "exec", 3), LossRow::lost((1, 2), "exec", "ring_full", 4)];
        correction.evict(batch(10, &rows, 3));
        correction.evict(batch(20, &[LossRow::delivered((2, 5), "exec", 1)], 1));
        let batches = correction.into_batches().unwrap();
        assert_eq!(batches.len(), 1);
        let rows = ledger::rows(&batches[0][0]);
        let expected = [
            LossRow::delivered((1, 5), "exec", 4),
            LossRow::lost((1, 2), "exec", "ring_full", 4),
            LossRow::taken_back((10, 20), "exec", SPOOL_EVICTED, 4),
        ];
        assert_eq!(rows, expected);
        let sum: i64 = rows.iter().filter_map(|row| row.counts).map(|Counts { delivered, .. }| delivered).sum();
        assert_eq!(sum, 0, "nothing of it is delivered any more");
    }

    #[test]
    fn a_correction_that_goes_itself_grows_no_rows_but_those_without_counts() {
        let mut chunks = Vec::new();
        for at in 1..=50 {
            let mut correction = Correction::default();
            correction.evict(v1::Batch { sealed_us: at, chunks, deliveries: Vec::new() });
            correction.evict(batch(at, &[LossRow::delivered((at, at), "exec", 1)], 1));
            if at % 10 == 0 {
                correction.note(LossRow::uncounted((at, at), ledger::READ_FAILED, "no memory".to_owned()));
            }
            chunks = correction.into_batches().unwrap().remove(0);
        }
        let (plain, counted): (Vec<_>, Vec<_>) =
            ledger::rows(&chunks[0]).into_iter().partition(|row| row.counts.is_none());
        assert_eq!(plain.iter().map(|row| row.from_us).collect::<Vec<_>>(), [10, 20, 30, 40, 50]);
        let expected =
            [LossRow::delivered((1, 50), "exec", 50), LossRow::taken_back((1, 50), "exec", SPOOL_EVICTED, 50)];
        assert_eq!(counted, expected);
    }
}
