//! Who is fed, and what each round says of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{IngestArguments, NODE, ours};
use crate::ground;
use crate::measured::{Life, Measured, bytes_below};
use crate::peers::http::Client;
use crate::peers::prometheus::Prometheus;
use crate::peers::remote_write::Request;
use crate::peers::victoria::Victoria;
use crate::rows::{Windows, cpu};

/// Windows in one request to a peer: they want fewer and larger ones.
const WINDOWS_A_REQUEST: usize = 5;

/// How long a peer may take to end: it writes what it has in memory.
const PATIENCE: Duration = Duration::from_secs(120);

/// What one subject took in one round.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) rows: u64,
    pub(super) samples: u64,
    pub(super) cpu: Duration,
    pub(super) wall: Duration,
    pub(super) disk_bytes: u64,
    pub(super) peak_bytes: u64,
    /// What only this subject has.
    pub(super) extra: Value,
}

/// Feeds one subject all windows.
type Measure = fn(Windows) -> Result<Figures>;

/// Rounds of every subject.
pub(super) type Rounds = BTreeMap<&'static str, Vec<Figures>>;

/// Measures each subject once a round, beginning with another one each time.
pub(super) fn rounds(arguments: &IngestArguments) -> Result<Rounds> {
    let mut subjects: Vec<(&'static str, Measure)> = vec![("skep", ours::measure)];
    if arguments.peers {
        subjects.extend([("victoria_metrics", victoria as Measure), ("prometheus", prometheus)]);
    }
    let mut rounds = Rounds::new();
    for round in 0..arguments.rounds as usize {
        for index in 0..subjects.len() {
            let (name, measure) = subjects[(index + round) % subjects.len()];
            eprint!("{}: round {} of {}: {name} ... ", arguments.workload.name(), round + 1, arguments.rounds);
            let start = Instant::now();
            let figures = measure(arguments.windows()?).context(name)?;
            eprintln!("{:.1} CPU-s, {:.0} s", figures.cpu.as_secs_f64(), start.elapsed().as_secs_f64());
            rounds.entry(name).or_default().push(figures);
        }
    }
    Ok(rounds)
}

fn victoria(windows: Windows) -> Result<Figures> {
    let temp = ground::folder()?;
    let folder = temp.path().join("data");
    let mut server = Victoria::start(&folder)?;
    let fed = Fed::of(windows, &mut server.client, &server.process)?;
    let peak_bytes = server.process.peak_bytes()?;
    let life = server.process.stop(PATIENCE)?;
    let index_bytes = bytes_below(&folder.join("indexdb"))?;
    fed.figures(life, peak_bytes, &folder, json!({ "index_bytes": index_bytes }))
}

fn prometheus(windows: Windows) -> Result<Figures> {
    let temp = ground::folder()?;
    let folder = temp.path().join("data");
    let mut server = Prometheus::start(&folder)?;
    let fed = Fed::of(windows, &mut server.client, &server.process)?;
    server.write_block()?;
    let peak_bytes = server.process.peak_bytes()?;
    let life = server.process.stop(PATIENCE)?;
    let wal_bytes = bytes_below(&folder.join("wal"))?;
    // The block alone: its log is let go of later.
    fed.figures(life, peak_bytes, &folder.join("snapshots"), json!({ "wal_bytes": wal_bytes }))
}

/// A peer that has got everything.
struct Fed {
    rows: u64,
    samples: u64,
    start: Instant,
    start_cpu: Duration,
}

impl Fed {
    fn of(windows: Windows, client: &mut Client, process: &Measured) -> Result<Self> {
        let mut fed = Self { rows: 0, samples: 0, start: Instant::now(), start_cpu: process.cpu()? };
        let mut request = Request::default();
        for (index, (time_us, rows)) in windows.enumerate() {
            fed.rows += rows.len() as u64;
            fed.samples += rows.iter().map(cpu::Row::samples).sum::<u64>();
            request.add(NODE, &rows, time_us);
            if index % WINDOWS_A_REQUEST == WINDOWS_A_REQUEST - 1 {
                std::mem::take(&mut request).send(client)?;
            }
        }
        request.send(client)?;
        Ok(fed)
    }

    fn figures(self, life: Life, peak_bytes: u64, kept: &Path, extra: Value) -> Result<Figures> {
        let Self { rows, samples, start, start_cpu } = self;
        let (cpu, wall) = (life.cpu - start_cpu, start.elapsed());
        Ok(Figures { rows, samples, cpu, wall, disk_bytes: bytes_below(kept)?, peak_bytes, extra })
    }
}
