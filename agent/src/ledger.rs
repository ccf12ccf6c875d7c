//! The loss ledger: rows of the table `loss`, made by every stage that counts.
//!
//! In every row `attempted = delivered + lost`, so in every sum too. A row without counts says that nobody was there to
//! count.

use skep_wire::chunk::{self, Builder, ChunkError};
use skep_wire::{tables, v1};

/// Reason of the rows that say what was delivered.
pub const DELIVERED: &str = "none";

/// Reason of observations whose batch the spool had to drop.
pub const SPOOL_EVICTED: &str = "spool_evicted";

/// Reason of spans in which no agent ran.
pub const NOT_WATCHING: &str = "not_watching";

/// Reason of batches that the spool could not read back.
pub const SPOOL_CORRUPT: &str = "spool_corrupt";

/// Reason of windows whose counters could not be read.
pub const READ_FAILED: &str = "read_failed";

/// Reason of spans in which only some observations of a probe were looked at, to keep to the agent's budget.
pub const SAMPLED: &str = "sampled";

/// Reason of spans in which a domain was switched off, to keep to the agent's budget.
pub const SWITCHED_OFF: &str = "switched_off";

/// Reason of spans in which fewer processes were known at once, to keep to the agent's budget.
pub const SHRUNK: &str = "shrunk";

/// Probe name of rows about the agent as a whole.
pub const AGENT: &str = "agent";

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LossRow {
    /// Start of the span, wall clock in microseconds.
    pub from_us: i64,
    /// End of it.
    pub until_us: i64,
    /// Whose account.
    pub probe: String,
    /// On which CPU it was counted, where it is by CPU.
    pub cpu: Option<u32>,
    /// [`DELIVERED`] or why it was lost.
    pub reason: String,
    /// Delivered and lost; the table's `attempted` is their sum. `None` when nobody counted.
    pub counts: Option<Counts>,
    /// One line for people.
    pub detail: Option<String>,
}

/// What a row counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// In a batch; negative where a batch had to be dropped after it was sealed.
    pub delivered: i64,
    /// Lost for the row's reason.
    pub lost: i64,
}

impl LossRow {
    /// What `probe` delivered.
    pub fn delivered(span: (i64, i64), probe: &str, count: u64) -> Self {
        Self::counted(span, probe, DELIVERED, Counts { delivered: signed(count), lost: 0 })
    }

    /// What `probe` lost.
    pub fn lost(span: (i64, i64), probe: &str, reason: &str, count: u64) -> Self {
        Self::counted(span, probe, reason, Counts { delivered: 0, lost: signed(count) })
    }

    /// What `probe` had delivered and the spool then dropped.
    pub fn taken_back(span: (i64, i64), probe: &str, reason: &str, count: u64) -> Self {
        Self::counted(span, probe, reason, Counts { delivered: -signed(count), lost: signed(count) })
    }

    /// A span of which nobody knows what happened.
    pub fn uncounted(span: (i64, i64), reason: &str, detail: String) -> Self {
        Self::uncounted_of(AGENT, span, reason, detail)
    }

    /// A span of which nobody knows what happened to `probe`'s observations.
    pub fn uncounted_of(probe: &str, span: (i64, i64), reason: &str, detail: String) -> Self {
        Self {
            from_us: span.0,
            until_us: span.1,
            probe: probe.to_owned(),
            cpu: None,
            reason: reason.to_owned(),
            counts: None,
            detail: Some(detail),
        }
    }

    /// The same, counted on a CPU.
    pub fn on(self, cpu: Option<u32>) -> Self {
        Self { cpu, ..self }
    }

    /// Adds a row of the same account: the span becomes the one from the first start to the last end.
    pub fn add(&mut self, other: &Self) {
        self.from_us = self.from_us.min(other.from_us);
        self.until_us = self.until_us.max(other.until_us);
        if let (Some(counts), Some(more)) = (&mut self.counts, other.counts) {
            counts.delivered = counts.delivered.saturating_add(more.delivered);
            counts.lost = counts.lost.saturating_add(more.lost);
        }
    }

    fn counted(span: (i64, i64), probe: &str, reason: &str, counts: Counts) -> Self {
        Self {
            from_us: span.0,
            until_us: span.1,
            probe: probe.to_owned(),
            cpu: None,
            reason: reason.to_owned(),
            counts: Some(counts),
            detail: None,
        }
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A chunk of `loss`, or `None` for no rows.
///
/// # Errors
/// [`ChunkError::TooManyRows`].
pub fn chunk(rows: &[LossRow]) -> Result<Option<v1::Chunk>, ChunkError> {
    let mut builder = Builder::new(&tables::LOSS);
    for row in rows {
        builder
            .int("time", row.from_us)
            .int("until", row.until_us)
            .text("probe", &row.probe)
            .maybe_int("cpu", row.cpu.map(i64::from))
            .text("reason", &row.reason)
            .maybe_int("attempted", row.counts.map(|c| c.delivered.saturating_add(c.lost)))
            .maybe_int("delivered", row.counts.map(|c| c.delivered))
            .maybe_int("lost", row.counts.map(|c| c.lost))
            .maybe_text("detail", row.detail.as_deref())
            .end_row()?;
    }
    Ok(builder.finish())
}

/// The rows of a chunk of `loss`; a chunk that does not check has none.
pub fn rows(chunk: &v1::Chunk) -> Vec<LossRow> {
    if chunk.table != tables::LOSS.name || chunk::check(chunk, &tables::LOSS).is_err() {
        return Vec::new();
    }
    chunk::rows(chunk)
        .map(|row| LossRow {
            from_us: row.int("time").unwrap_or(0),
            until_us: row.int("until").unwrap_or(0),
            probe: row.text("probe").unwrap_or_default().to_owned(),
            cpu: row.int("cpu").and_then(|cpu| u32::try_from(cpu).ok()),
            reason: row.text("reason").unwrap_or_default().to_owned(),
            counts: row.int("delivered").zip(row.int("lost")).map(|(delivered, lost)| Counts { delivered, lost }),
            detail: row.text("detail").map(str::to_owned),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_the_chunk() {
        let written = vec![
            LossRow::delivered((1, 2), "exec", 7),
            LossRow::lost((1, 2), "exec", "ring_full", 2).on(Some(3)),
            LossRow::taken_back((3, 4), "tcp", SPOOL_EVICTED, 5),
            LossRow::uncounted((5, 9), NOT_WATCHING, "stopped".to_owned()),
        ];
        let chunk = chunk(&written).unwrap().unwrap();
        assert_eq!(rows(&chunk), written);
        for row in chunk::rows(&chunk) {
            let sum = row.int("delivered").zip(row.int("lost")).map(|(d, l)| d + l);
            assert_eq!(row.int("attempted"), sum);
        }
    }
}
