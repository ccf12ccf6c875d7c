//! Whether every batch is there once, and whether the ledger is exact.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow::ipc::reader::StreamReader;
use skep_wire::v1;
use skep_wire::v1::console_client::ConsoleClient;

use super::agent::Agent;
use crate::batch::{CPU_ROWS, ROWS, ROWS_A_BATCH};
use skep_chaos_ground::{Figures, Ground, beside};

/// The nodes' rows of one table, by batch.
fn batches_sql(table: &str) -> String {
    format!("SELECT node, seq, count(*) AS rows FROM {table} WHERE node IN ('a', 'b', 'c', 'd') GROUP BY node, seq")
}

/// Sums of the nodes' ledger rows, and how many of them do not add up.
const LEDGER_SQL: &str = "SELECT CAST(coalesce(sum(attempted), 0) AS BIGINT), CAST(coalesce(sum(delivered), 0) AS BIGINT), \
     CAST(coalesce(sum(lost), 0) AS BIGINT), \
     CAST(count(CASE WHEN attempted <> delivered + lost THEN 1 END) AS BIGINT) \
     FROM loss WHERE node IN ('a', 'b', 'c', 'd')";

/// Asks the running collector.
pub(super) async fn while_running(
    ground: &Ground,
    address: &str,
    agents: &[Arc<Agent>],
    figures: &mut Figures,
) -> Result<()> {
    let mut console = ConsoleClient::new(ground.channel(address, "operator").await?);
    let acked: u64 = agents.iter().map(|agent| agent.acked.load(Ordering::SeqCst)).sum();
    let (mut stored, mut lost, mut doubled) = (0, 0, 0);
    for (table, rows_a_batch) in ROWS {
        let mut rows = by_batch(&query(&mut console, batches_sql(table)).await?)?;
        for agent in agents {
            for seq in 1..=agent.made.load(Ordering::SeqCst) {
                let there = rows.remove(&(agent.node.to_owned(), seq)).unwrap_or(0);
                stored += there;
                lost += rows_a_batch.saturating_sub(there);
                doubled += there.saturating_sub(rows_a_batch);
            }
        }
        ensure!(rows.is_empty(), "{table} holds batches nobody sent: {:?}", rows.keys());
    }
    let ledger = numbers(&query(&mut console, LEDGER_SQL.to_owned()).await?)?;
    for (name, number) in ["attempted", "delivered", "lost", "rows_unbalanced"].into_iter().zip(&ledger) {
        figures.add(&format!("ledger_{name}"), *number);
    }
    for (name, number) in [("acked", acked * ROWS_A_BATCH), ("stored", stored), ("lost", lost), ("doubled", doubled)] {
        figures.add(&format!("rows_{name}"), number);
    }
    ensure!((lost, doubled) == (0, 0), "{lost} acknowledged rows are lost, {doubled} are there twice");
    let delivered = acked * CPU_ROWS;
    ensure!(
        ledger == [delivered, delivered, 0, 0],
        "the ledger says {ledger:?} (attempted, delivered, lost, not adding up), {delivered} rows were sent"
    );
    Ok(())
}

/// Asks the files once nobody runs on them.
pub(super) fn offline(ground: &Ground, agents: &[Arc<Agent>]) -> Result<()> {
    let acked: u64 = agents.iter().map(|agent| agent.acked.load(Ordering::SeqCst)).sum();
    let sql = "SELECT count(*), count(DISTINCT node || ' ' || seq) FROM cpu WHERE node IN ('a', 'b', 'c', 'd')";
    let output =
        Command::new(beside("skep-collector")?).args(["query", "--data"]).arg(ground.data()).arg(sql).output()?;
    ensure!(output.status.success(), "offline: {}", String::from_utf8_lossy(&output.stderr));
    let counts = numbers(&decode(&output.stdout)?)?;
    ensure!(counts == [acked * CPU_ROWS, acked], "offline: {counts:?} rows and batches of {acked} batches");
    Ok(())
}

/// The rows of an answer.
pub(crate) async fn query(
    console: &mut ConsoleClient<tonic::transport::Channel>,
    sql: String,
) -> Result<Vec<RecordBatch>> {
    let mut stream = console.query(v1::QueryRequest { sql, timeout_s: 0 }).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(reply) = stream.message().await? {
        bytes.extend(reply.arrow_ipc);
    }
    decode(&bytes)
}

fn decode(ipc: &[u8]) -> Result<Vec<RecordBatch>> {
    Ok(StreamReader::try_new(ipc, None)?.collect::<Result<_, _>>()?)
}

fn by_batch(batches: &[RecordBatch]) -> Result<BTreeMap<(String, u64), u64>> {
    let mut rows = BTreeMap::new();
    for batch in batches {
        let nodes = batch.column(0).as_string_opt::<i32>().context("a column of names")?;
        let (seqs, counts) = (ints(batch.column(1))?, ints(batch.column(2))?);
        for row in 0..batch.num_rows() {
            rows.insert((nodes.value(row).to_owned(), seqs[row]), counts[row]);
        }
    }
    Ok(rows)
}

/// The only row.
fn numbers(batches: &[RecordBatch]) -> Result<Vec<u64>> {
    let batch = batches.iter().find(|batch| batch.num_rows() > 0).context("one row")?;
    batch.columns().iter().map(|column| Ok(ints(column)?[0])).collect()
}

fn ints(column: &ArrayRef) -> Result<Vec<u64>> {
    let ints =
        column.as_primitive_opt::<Int64Type>().with_context(|| format!("{} is no number", column.data_type()))?;
    Ok(ints.values().iter().map(|value| value.unsigned_abs()).collect())
}
