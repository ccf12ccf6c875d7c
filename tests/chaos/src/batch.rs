//! Batches as agents make them: any number can be made again and is the same.

use skep_wire::chunk::{Builder, ChunkError};
use skep_wire::envelope::{self, EnvelopeError, Origin};
use skep_wire::tables::{CPU, LOSS, PROCESSES};
use skep_wire::v1;

use skep_chaos_ground::Dice;

/// 2026-11-21T23:59:50Z: a few batches later it is another hour and another day. For rounds that a seed repeats exactly.
pub(crate) const START_US: i64 = 1_795_305_590_000_000;

/// Rows of `cpu` in every batch.
pub(crate) const CPU_ROWS: u64 = 5;

/// Rows every batch brings, by table.
pub(crate) const ROWS: [(&str, u64); 3] = [("cpu", CPU_ROWS), ("processes", 1), ("loss", 1)];

/// Rows every batch brings.
pub(crate) const ROWS_A_BATCH: u64 = CPU_ROWS + 2;

/// Batch `seq` of a stream that began at `start_us`, as it lies in its agent's spool.
pub(crate) fn sealed(node: &str, stream: &str, seq: u64, start_us: i64) -> Result<v1::Envelope, EnvelopeError> {
    let origin = Origin { node: node.to_owned(), boot: "boot".to_owned(), stream: stream.to_owned(), seq };
    let chunks = chunks(seq, time_us(seq, start_us)).unwrap_or_default();
    let deliveries = vec![v1::Delivery { probe: "cpu".to_owned(), delivered: CPU_ROWS }];
    envelope::seal(origin, &v1::Batch { sealed_us: time_us(seq, start_us), chunks, deliveries })
}

/// A batch a second; after every 50, the agent's clock steps by up to two hours, forwards or back.
fn time_us(seq: u64, start_us: i64) -> i64 {
    let step_s = Dice::new(seq / 50).below(4 * 3600) as i64 - 2 * 3600;
    start_us + (seq as i64 + step_s) * 1_000_000
}

fn chunks(seq: u64, time: i64) -> Result<Vec<v1::Chunk>, ChunkError> {
    let mut cpu = Builder::new(&CPU);
    for pid in 0..CPU_ROWS as i64 {
        cpu.int("time", time).float("window_s", 1.0).int("pid", pid).int("start_ns", 1).text("comm", "x");
        cpu.text("workload", "unit:x").text("attribution", "exact").count("on_cpu_ns", seq).int("slices", 1);
        cpu.int("voluntary_switches", 1).int("involuntary_switches", 0).int("run_queue_delay_count", 3);
        cpu.int("run_queue_delay_sum_ns", 60).histogram("run_queue_delay", [(10, 1), (20, 1), (30, 1)]);
        cpu.int("migrations", 0).int("off_cpu_count", 0).int("off_cpu_sum_ns", 0).histogram("off_cpu", []);
        cpu.float("coverage", 1.0).end_row()?;
    }
    let mut processes = Builder::new(&PROCESSES);
    processes.int("time", time).text("event", "exec").int("pid", seq as i64).int("start_ns", 2).text("comm", "sh");
    processes.text("workload", "unit:x").text("attribution", "exact").int("parent_pid", 1);
    processes.text_list("argv", &["sh".to_owned(), seq.to_string()]).bool("argv_truncated", false).end_row()?;
    let mut loss = Builder::new(&LOSS);
    loss.int("time", time).int("until", time + 1_000_000).text("probe", "cpu").text("reason", "none");
    let rows = CPU_ROWS as i64;
    loss.int("attempted", rows).int("delivered", rows).int("lost", 0).end_row()?;
    Ok([cpu, processes, loss].into_iter().filter_map(Builder::finish).collect())
}
