//! What the responder is told of the time before this start, out of Parquet. The WAL's own batches follow.
//!
//! What cannot be read is said and left out: a collector that does not start helps nobody.

use std::ops::Range;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use skep_wire::envelope::Origin;
use skep_wire::tables::{ACTIONS, CANARIES, CPU, FINDINGS, INCIDENTS, PROCESSES, Table};
use skep_wire::v1;

use crate::buffer::{Snapshot, restore};
use crate::query::{Engine, QueryError};
use crate::response::{OWN_NODE, Responder};

/// What is told, and how far back: decisions while they may stand, usage and execs while they are a baseline, canaries
/// while their node is still expected to be heard of.
const TOLD: [(&Table, &str); 6] = [
    (&FINDINGS, "30 days"),
    (&INCIDENTS, "30 days"),
    (&ACTIONS, "30 days"),
    (&CANARIES, "1 day"),
    (&CPU, "15 minutes"),
    (&PROCESSES, "2 days"),
];

/// Most rows of one table; the newest ones.
const MAX_ROWS: usize = 100_000;

/// Tells `responder`, oldest first; the collector's own rows before the nodes', whose clocks may be behind: a node is
/// believed only about what it is known to have been sent.
pub(super) async fn remember(responder: &mut Responder, engine: &Engine, snapshot: &Snapshot, now_us: i64) {
    for (table, since) in TOLD {
        match rows(engine, snapshot, table, since).await {
            Ok(batches) => batches.iter().for_each(|batch| tell(responder, table, batch, now_us)),
            Err(error) => tracing::error!(table = table.name, %error, "what was before cannot be read"),
        }
    }
}

async fn rows(
    engine: &Engine,
    snapshot: &Snapshot,
    table: &Table,
    since: &str,
) -> Result<Vec<RecordBatch>, QueryError> {
    let sql = format!(
        "SELECT * FROM (SELECT * FROM {} WHERE time > now() - INTERVAL '{since}' ORDER BY time DESC LIMIT {MAX_ROWS}) \
         ORDER BY node <> '{OWN_NODE}', time, node, stream, seq",
        table.name
    );
    engine.ask(snapshot.clone(), &sql, None).await?.collect().await
}

fn tell(responder: &mut Responder, table: &'static Table, batch: &RecordBatch, now_us: i64) {
    for (origin, range) in origins(batch) {
        let part = batch.slice(range.start, range.len());
        match restore::chunk(table, &part) {
            Ok(Some(chunk)) => {
                let batch = v1::Batch { sealed_us: now_us, chunks: vec![chunk], deliveries: Vec::new() };
                responder.restore(&origin, &batch, now_us);
            }
            Ok(None) => {}
            Err(error) => tracing::error!(table = table.name, %error, "what was before does not read"),
        }
    }
}

/// Runs of rows that came in one batch, and whose.
fn origins(batch: &RecordBatch) -> Vec<(Origin, Range<usize>)> {
    let text = |name: &str| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
    let seqs = batch.column_by_name("seq").and_then(|column| column.as_primitive_opt::<Int64Type>());
    let (Some(nodes), Some(boots), Some(streams), Some(seqs)) = (text("node"), text("boot"), text("stream"), seqs)
    else {
        return Vec::new();
    };
    let mut runs: Vec<(Origin, Range<usize>)> = Vec::new();
    for row in 0..batch.num_rows() {
        let seq = seqs.value(row).unsigned_abs();
        match runs.last_mut() {
            Some((last, range))
                if last.seq == seq && last.stream == streams.value(row) && last.node == nodes.value(row) =>
            {
                range.end = row + 1;
            }
            _ => {
                let own = |text: &str| text.to_owned();
                let origin = Origin {
                    node: own(nodes.value(row)),
                    boot: own(boots.value(row)),
                    stream: own(streams.value(row)),
                    seq,
                };
                runs.push((origin, row..row + 1));
            }
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use arrow::compute::concat_batches;
    use skep_wire::chunk::Builder;
    use skep_wire::tables::LOSS;

    use super::*;
    use crate::buffer::{convert, schema};

    #[test]
    fn rows_are_told_batch_by_batch() {
        let batch = |seq| {
            let mut builder = Builder::new(&LOSS);
            for probe in ["cpu", "tcp"] {
                builder.int("time", 1).int("until", 2).text("probe", probe).text("reason", "none").end_row().unwrap();
            }
            let origin = Origin { node: "n".to_owned(), boot: "b".to_owned(), stream: "s".to_owned(), seq };
            convert::record_batch(&origin, &LOSS, &builder.finish().unwrap()).unwrap()
        };
        let all = schema::plain(&concat_batches(&schema::held(&LOSS), &[batch(1), batch(2)]).unwrap()).unwrap();
        let runs = origins(&all);
        assert_eq!(runs.iter().map(|(o, r)| (o.seq, r.clone())).collect::<Vec<_>>(), [(1, 0..2), (2, 2..4)]);
    }
}
