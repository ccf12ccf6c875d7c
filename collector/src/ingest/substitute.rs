//! What is stored in place of a batch that cannot be.
//!
//! The batch's number must be used up, or its stream would stand still for ever. So a batch of the same number is stored
//! that holds nothing but the loss, and comes once as every batch does.

use skep_wire::chunk::{self, Builder, ChunkError};
use skep_wire::envelope::{self, EnvelopeError, Origin};
use skep_wire::tables::LOSS;
use skep_wire::v1;
use thiserror::Error;

use super::arrival::origin;

/// `loss.reason` of a batch the collector could not store.
pub const REJECTED: &str = "rejected";

/// `loss.reason` of batches that were acknowledged and that the collector no longer has.
pub const COLLECTOR_LOST: &str = "collector_lost";

/// Why no substitute could be made.
#[derive(Debug, Error)]
pub enum SubstituteError {
    /// A row was wrong.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The batch did not seal.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
}

/// The substitute for `bad`.
///
/// Where the batch opens and its ledger checks, the ledger is kept and what the batch claims as delivered is taken back;
/// where only the claim is left, it is all lost; where nothing opens, one row without counts says so.
///
/// # Errors
/// [`SubstituteError`]; the stream cannot go on.
pub fn rejected(bad: &v1::Envelope, why: &str, now_us: i64) -> Result<v1::Envelope, SubstituteError> {
    let opened = envelope::open(bad).unwrap_or_default();
    let ledger = opened.chunks.iter().find(|c| c.table == LOSS.name && chunk::check(c, &LOSS).is_ok());
    let mut chunks = Vec::new();
    let mut builder = Builder::new(&LOSS);
    for delivery in &opened.deliveries {
        let lost = i64::try_from(delivery.delivered).unwrap_or(i64::MAX);
        let (attempted, delivered) = if ledger.is_some() { (0, -lost) } else { (lost, 0) };
        builder.int("time", now_us).int("until", now_us).text("probe", &delivery.probe).text("reason", REJECTED);
        builder.int("attempted", attempted).int("delivered", delivered).int("lost", lost).text("detail", why);
        builder.end_row()?;
    }
    if opened.deliveries.is_empty() {
        builder.int("time", now_us).int("until", now_us).text("probe", "agent").text("reason", REJECTED);
        builder.text("detail", why).end_row()?;
    }
    chunks.extend(merge(ledger.cloned(), builder.finish())?);
    let batch = v1::Batch { sealed_us: now_us, chunks, deliveries: Vec::new() };
    Ok(envelope::seal(origin(bad), &batch)?)
}

/// What is stored in place of batches that were acknowledged and are gone: a row without counts for each of `ranges`,
/// under `seq`, the last of their numbers. No batch comes under it any more, here or at another collector, so nothing
/// that is sent is changed and the row is there once.
///
/// # Errors
/// [`SubstituteError`].
pub fn lost(
    next: &v1::Envelope,
    seq: u64,
    ranges: &[(u64, u64)],
    now_us: i64,
) -> Result<v1::Envelope, SubstituteError> {
    let mut builder = Builder::new(&LOSS);
    for (from, to) in ranges {
        let detail = format!("batches {from} to {to} of stream {} were acknowledged and are gone", next.stream);
        builder.int("time", now_us).int("until", now_us).text("probe", "agent").text("reason", COLLECTOR_LOST);
        builder.text("detail", &detail).end_row()?;
    }
    let chunks = builder.finish().into_iter().collect();
    let batch = v1::Batch { sealed_us: now_us, chunks, deliveries: Vec::new() };
    Ok(envelope::seal(Origin { seq, ..origin(next) }, &batch)?)
}

/// Two chunks of `loss` as one.
fn merge(first: Option<v1::Chunk>, second: Option<v1::Chunk>) -> Result<Option<v1::Chunk>, ChunkError> {
    let (Some(first), Some(second)) = (&first, &second) else { return Ok(first.or(second)) };
    let mut builder = Builder::new(&LOSS);
    for row in chunk::rows(first).chain(chunk::rows(second)) {
        for column in LOSS.columns() {
            match column.kind {
                skep_wire::tables::Kind::Text => builder.maybe_text(column.name, row.text(column.name)),
                _ => builder.maybe_int(column.name, row.int(column.name)),
            };
        }
        builder.end_row()?;
    }
    Ok(builder.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> v1::Chunk {
        let mut builder = Builder::new(&LOSS);
        builder.int("time", 1).int("until", 2).text("probe", "tcp").text("reason", "none");
        builder.int("attempted", 9).int("delivered", 9).int("lost", 0).end_row().unwrap();
        builder.finish().unwrap()
    }

    fn sealed(chunks: Vec<v1::Chunk>, delivered: u64) -> v1::Envelope {
        let origin = envelope::Origin { node: "n".into(), boot: "b".into(), stream: "s".into(), seq: 4 };
        let deliveries = vec![v1::Delivery { probe: "tcp".to_owned(), delivered }];
        envelope::seal(origin, &v1::Batch { sealed_us: 3, chunks, deliveries }).unwrap()
    }

    fn sums(envelope: &v1::Envelope) -> (i64, i64, i64) {
        let batch = envelope::open(envelope).unwrap();
        assert_eq!(batch.chunks.len(), 1);
        assert_eq!(chunk::check(&batch.chunks[0], &LOSS), Ok(0));
        chunk::rows(&batch.chunks[0]).fold((0, 0, 0), |sum, row| {
            let part = |name| row.int(name).unwrap_or(0);
            (sum.0 + part("attempted"), sum.1 + part("delivered"), sum.2 + part("lost"))
        })
    }

    #[test]
    fn what_a_rejected_batch_delivered_becomes_lost() {
        let broken = v1::Chunk { table: "cpu".to_owned(), rows: 3, columns: vec![v1::ColumnData::default()] };
        let with_ledger = rejected(&sealed(vec![broken.clone(), ledger()], 9), "bad", 7).unwrap();
        assert_eq!(sums(&with_ledger), (9, 0, 9));
        assert_eq!((with_ledger.seq, with_ledger.stream.as_str()), (4, "s"));
        let without = rejected(&sealed(vec![broken], 9), "bad", 7).unwrap();
        assert_eq!(sums(&without), (9, 0, 9));
    }

    #[test]
    fn what_does_not_open_is_one_row_without_counts() {
        let mut bad = sealed(Vec::new(), 1);
        bad.payload = vec![1, 2, 3];
        let batch = envelope::open(&rejected(&bad, "does not open", 7).unwrap()).unwrap();
        let row = chunk::rows(&batch.chunks[0]).next().unwrap();
        assert_eq!((row.text("reason"), row.int("lost")), (Some(REJECTED), None));
        assert_eq!(row.text("detail"), Some("does not open"));
    }

    #[test]
    fn what_is_gone_is_said_in_its_place() {
        let row = lost(&sealed(vec![ledger()], 9), 3, &[(1, 1), (3, 3)], 7).unwrap();
        assert_eq!((row.seq, row.stream.as_str(), row.boot.as_str()), (3, "s", "b"));
        let batch = envelope::open(&row).unwrap();
        assert_eq!((batch.chunks.len(), batch.chunks[0].rows, batch.deliveries.len()), (1, 2, 0));
        let details: Vec<_> = chunk::rows(&batch.chunks[0]).filter_map(|row| row.text("detail")).collect();
        assert!(details[0].contains("1 to 1") && details[1].contains("3 to 3"), "{details:?}");
    }
}
