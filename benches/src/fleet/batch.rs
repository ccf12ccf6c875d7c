//! What an agent of a small host sends for a window.

use std::time::Duration;

use anyhow::{Context, Result};
use skep_wire::chunk::Builder;
use skep_wire::envelope::{self, Origin};
use skep_wire::tables;
use skep_wire::v1::{self, column_data::Data};

use crate::rows::random::Random;
use crate::rows::{Host, cpu, syscalls};
use crate::uplink;

/// How often an agent sends.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// Different batches; agents take turns with them.
const DIFFERENT: u64 = 16;

/// Processes that begin or end in a window.
const EVENTS: usize = 6;

const PROBES: [&str; 8] = ["cpu", "run_queue", "syscall", "tcp", "exec", "exit", "fork", "socket"];

/// A batch that lacks only its time and whose it is.
#[derive(Debug)]
pub(super) struct Template(v1::Batch);

impl Template {
    /// Some of them.
    pub(super) fn some(processes: usize) -> Result<Vec<Self>> {
        (0..DIFFERENT).map(|seed| Self::new(seed, processes)).collect()
    }

    fn new(seed: u64, processes: usize) -> Result<Self> {
        let window_s = WINDOW.as_secs_f64();
        let mut host = Host::new("fleet", seed, processes);
        let rows = cpu::window(&mut host, window_s, true);
        let mut chunks = vec![cpu::chunk(&rows, 0, window_s)?];
        chunks.extend(syscalls::chunk(&host, &mut Random::new(seed), 0, window_s)?);
        chunks.extend(events(&host)?);
        chunks.extend(ledger(processes as i64)?);
        let deliveries = vec![v1::Delivery { probe: "cpu".to_owned(), delivered: processes as u64 }];
        Ok(Self(v1::Batch { sealed_us: 0, chunks, deliveries }))
    }

    /// Rows of all its tables.
    pub(super) fn rows(&self) -> u64 {
        self.0.chunks.iter().map(|chunk| u64::from(chunk.rows)).sum()
    }

    /// Rows of `cpu`.
    pub(super) fn cpu_rows(&self) -> u64 {
        self.0.chunks.iter().filter(|chunk| chunk.table == "cpu").map(|chunk| u64::from(chunk.rows)).sum()
    }

    /// The batch of `node` that began at `time_us`.
    pub(super) fn seal(&self, node: &str, seq: u64, time_us: i64) -> Result<v1::Envelope> {
        let mut batch = self.0.clone();
        batch.sealed_us = time_us;
        for column in batch.chunks.iter_mut().flat_map(|chunk| &mut chunk.columns) {
            if let (true, Some(Data::Ints(ints))) = (matches!(column.name.as_str(), "time" | "until"), &mut column.data)
            {
                ints.values.fill(time_us);
            }
        }
        let origin = Origin { node: node.to_owned(), boot: uplink::boot(node), stream: uplink::stream(node), seq };
        Ok(envelope::seal(origin, &batch)?)
    }
}

fn events(host: &Host) -> Result<Option<v1::Chunk>> {
    let mut chunk = Builder::new(&tables::PROCESSES);
    for (index, process) in host.processes.iter().take(EVENTS).enumerate() {
        chunk.int("time", 0).text("event", if index % 2 == 0 { "exec" } else { "exit" });
        cpu::identity(&mut chunk, process);
        chunk.int("parent_pid", 1).text_list("argv", &[&process.exe, "--serve"]).bool("argv_truncated", false);
        chunk.end_row().context("a row of processes")?;
    }
    Ok(chunk.finish())
}

fn ledger(attempted: i64) -> Result<Option<v1::Chunk>> {
    let mut chunk = Builder::new(&tables::LOSS);
    for probe in PROBES {
        chunk.int("time", 0).int("until", 0).text("probe", probe).text("reason", "none");
        chunk
            .int("attempted", attempted)
            .int("delivered", attempted)
            .int("lost", 0)
            .end_row()
            .context("a row of loss")?;
    }
    Ok(chunk.finish())
}

/// Now, microseconds since the epoch.
pub(super) fn now_us() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_passes_the_collectors_check() {
        let template = Template::new(3, 40).unwrap();
        let batch = envelope::open(&template.seal("n", 1, 77).unwrap()).unwrap();
        assert_eq!(batch.chunks.len(), 4);
        for chunk in &batch.chunks {
            assert_eq!(skep_wire::chunk::check(chunk, tables::find(&chunk.table).unwrap()), Ok(0), "{}", chunk.table);
        }
        assert_eq!((template.cpu_rows(), batch.sealed_us), (40, 77));
    }
}
