//! What the ledger says of batches that had to go. Pure.
//!
//! A batch claims deliveries; without the batch they are losses. What it said about other losses, and the rows that
//! tell what was done on this host, still hold and are carried over as they are.

use std::collections::BTreeMap;

use skep_wire::chunk::ChunkError;
use skep_wire::{tables, v1};

use crate::ledger::{self, LossRow, SPOOL_EVICTED};

/// Tables whose rows outlive their batch: small, and nobody can make them again.
const CARRIED: [&str; 2] = [tables::ACTIONS.name, tables::AUDIT.name];

/// Collects batches that go, and makes the batch that replaces them.
#[derive(Debug, Default)]
pub struct Correction {
    claimed: BTreeMap<String, u64>,
    rows: Vec<LossRow>,
    carried: Vec<v1::Chunk>,
    /// First and last time a batch among them was sealed.
    span: Option<(i64, i64)>,
}

impl Correction {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.claimed.is_empty() && self.rows.is_empty() && self.carried.is_empty()
    }

    /// A sealed batch goes.
    pub fn evict(&mut self, batch: v1::Batch) {
        for delivery in batch.deliveries {
            *self.claimed.entry(delivery.probe).or_default() += delivery.delivered;
        }
        for chunk in batch.chunks {
            if chunk.table == tables::LOSS.name {
                self.rows.extend(ledger::rows(&chunk));
            } else if CARRIED.contains(&chunk.table.as_str()) {
                self.carried.push(chunk);
            }
        }
        let (from, until) = self.span.unwrap_or((batch.sealed_us, batch.sealed_us));
        self.span = Some((from.min(batch.sealed_us), until.max(batch.sealed_us)));
    }

    /// Something else to be told with the next batch.
    pub fn note(&mut self, row: LossRow) {
        self.rows.push(row);
    }

    /// The chunks to send, as few batches as they fit: a batch holds one chunk of a table. The ledger is in the last.
    ///
    /// # Errors
    /// [`ChunkError`]: more rows than a chunk holds.
    pub fn into_batches(self) -> Result<Vec<Vec<v1::Chunk>>, ChunkError> {
        let Self { claimed, mut rows, carried, span } = self;
        for (probe, count) in claimed {
            rows.push(LossRow::taken_back(span.unwrap_or_default(), &probe, SPOOL_EVICTED, count));
        }
        let mut batches: Vec<Vec<v1::Chunk>> = Vec::new();
        for chunk in carried {
            match batches.iter_mut().find(|batch| batch.iter().all(|other| other.table != chunk.table)) {
                Some(batch) => batch.push(chunk),
                None => batches.push(vec![chunk]),
            }
        }
        if let Some(chunk) = ledger::chunk(&rows)? {
            match batches.last_mut() {
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

    #[test]
    fn claims_become_losses_and_other_rows_stay() {
        let lost = LossRow::lost((1, 2), "exec", "ring_full", 4);
        let delivered = LossRow::delivered((1, 2), "exec", 3);
        let batch = |at, rows: &[LossRow]| v1::Batch {
            sealed_us: at,
            chunks: ledger::chunk(rows).unwrap().into_iter().collect(),
            deliveries: vec![v1::Delivery { probe: "exec".to_owned(), delivered: 3 }],
        };
        let mut correction = Correction::default();
        correction.evict(batch(10, &[delivered.clone(), lost.clone()]));
        correction.evict(batch(20, std::slice::from_ref(&delivered)));
        let batches = correction.into_batches().unwrap();
        assert_eq!(batches.len(), 1);
        let rows = ledger::rows(&batches[0][0]);
        let expected = LossRow::taken_back((10, 20), "exec", SPOOL_EVICTED, 6);
        assert_eq!(rows, [delivered.clone(), lost, delivered, expected]);
        let sum: i64 = rows.iter().filter_map(|row| row.counts).map(|Counts { delivered, .. }| delivered).sum();
        assert_eq!(sum, 0, "nothing of it is delivered any more");
    }
}
