//! An hour of every second and a day of every ten, sent by two agents and written to files.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use skep_wire::envelope::{self, Origin};
use skep_wire::v1::console_client::ConsoleClient;
use skep_wire::v1::{self, FlushRequest};

use super::QueryArguments;
use crate::ground::{self, Collector, Ground};
use crate::rows::random::Random;
use crate::rows::{HOUR_US, Host, Windows, cpu, last_hour_us, syscalls};
use crate::uplink::{self, Uplink};

/// Node of the hour.
pub(super) const HOUR_NODE: &str = "hour";

/// Node of the day.
const DAY_NODE: &str = "day";

/// Windows of the hour that are one of its system calls.
const SECONDS_A_SYSCALL_WINDOW: usize = 10;

const DAY_WINDOW_S: f64 = 10.0;

/// What is there.
#[derive(Debug)]
pub(super) struct Filled {
    hour_us: i64,
    hour_end_us: i64,
    day_us: i64,
    /// A process that lives all day.
    pub(super) pid: u64,
    pub(super) start_ns: u64,
}

/// The windows of the hour.
pub(super) fn hour(arguments: &QueryArguments) -> Result<Windows> {
    Ok(Windows {
        host: Host::new(HOUR_NODE, 11, usize::try_from(arguments.processes)?),
        window_s: 1.0,
        // No statement reads those of cpu.
        distributions: false,
        time_us: last_hour_us()?,
        left: arguments.minutes * 60,
    })
}

/// Sends everything and has it flushed.
pub(super) fn fill(arguments: &QueryArguments, ground: &Ground, collector: &Collector) -> Result<Filled> {
    let hour_us = last_hour_us()?;
    let day_us = hour_us - i64::try_from(arguments.hours)? * HOUR_US;
    let host = Host::new(DAY_NODE, 12, usize::try_from(arguments.processes)?);
    let stays = host.processes.iter().find(|process| process.stays()).context("nobody stays")?;
    let (pid, start_ns) = (stays.pid, stays.start_ns);
    let left = arguments.hours * 360;
    let day = Windows { host, window_s: DAY_WINDOW_S, distributions: false, time_us: day_us, left };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        eprintln!("a day of every ten seconds ...");
        let of_day = send(ground, collector, day, false).await?;
        flush(ground, collector).await?;
        eprintln!("an hour of every second ...");
        let of_hour = send(ground, collector, hour(arguments)?, true).await?;
        flush(ground, collector).await?;
        let (sent, stored) = (of_day + of_hour, ground::live_rows(&ground.table("cpu"))?);
        ensure!(stored == sent, "{stored} of {sent} rows are in files: {}", ground.log());
        Ok(())
    })?;
    let hour_end_us = hour_us + i64::try_from(arguments.minutes)? * 60_000_000;
    Ok(Filled { hour_us, hour_end_us, day_us, pid, start_ns })
}

/// Files, rows and bytes of each table.
pub(super) fn about(ground: &Ground) -> Result<Value> {
    let mut about = serde_json::Map::new();
    for table in ["cpu", "syscalls"] {
        let folder = ground.table(table);
        let live = ground::live_files(&folder)?;
        let bytes = live.keys().map(|file| Ok(fs::metadata(folder.join(file))?.len())).sum::<Result<u64>>()?;
        let figures = json!({ "files": live.len(), "rows": live.values().sum::<u64>(), "bytes": bytes });
        about.insert(table.to_owned(), figures);
    }
    Ok(Value::Object(about))
}

/// Sends them all; how many rows of `cpu` they are.
async fn send(ground: &Ground, collector: &Collector, mut windows: Windows, calls: bool) -> Result<u64> {
    let node = windows.host.name.clone();
    let papers = ground.authority.issue(&node, "agent")?;
    let channel = uplink::channel(&collector.address, &ground.authority.certificate, &papers).await?;
    let mut uplink = Uplink::open(channel, &node, &uplink::stream(&node)).await?;
    let mut taken = Vec::new();
    let (mut seq, mut sent) = (0, 0);
    let mut random = Random::new(13);
    let window_s = windows.window_s;
    while let Some((time_us, rows)) = windows.next() {
        let mut chunks = vec![cpu::chunk(&rows, time_us, window_s)?];
        if calls && seq % SECONDS_A_SYSCALL_WINDOW == 0 {
            chunks.extend(syscalls::chunk(&windows.host, &mut random, time_us, SECONDS_A_SYSCALL_WINDOW as f64)?);
        }
        seq += 1;
        sent += rows.len() as u64;
        let origin =
            Origin { node: node.clone(), boot: uplink::boot(&node), stream: uplink::stream(&node), seq: seq as u64 };
        let batch = v1::Batch { sealed_us: time_us, chunks, deliveries: Vec::new() };
        uplink.send(envelope::seal(origin, &batch)?, &mut taken).await?;
    }
    uplink.settle(&mut taken).await?;
    Ok(sent)
}

async fn flush(ground: &Ground, collector: &Collector) -> Result<()> {
    let papers = ground.authority.issue("olga", "operator")?;
    let channel = uplink::channel(&collector.address, &ground.authority.certificate, &papers).await?;
    let mut console = ConsoleClient::new(channel);
    let flushed = console.flush(FlushRequest {});
    // It may find nothing left: the collector flushes by itself when half of its buffer is full.
    tokio::time::timeout(Duration::from_secs(300), flushed).await.context("no flush")??;
    Ok(())
}

impl Filled {
    /// The hour's rows, in SQL.
    pub(super) fn hour(&self) -> String {
        condition(HOUR_NODE, self.hour_us, self.hour_end_us)
    }

    /// The day's rows, in SQL.
    pub(super) fn day(&self) -> String {
        condition(DAY_NODE, self.day_us, self.hour_us)
    }

    /// The hour's last second, since the epoch.
    pub(super) fn last_second(&self) -> i64 {
        self.hour_end_us / 1_000_000 - 1
    }

    /// The folder of the hour's files, below the table's.
    pub(super) fn hour_folder(&self) -> String {
        jiff::Timestamp::from_microsecond(self.hour_us)
            .unwrap_or_default()
            .strftime("date=%Y-%m-%d/hour=%H")
            .to_string()
    }
}

fn condition(node: &str, from_us: i64, to_us: i64) -> String {
    let time = |us: i64| format!("to_timestamp_micros({us})");
    format!("node = '{node}' AND time >= {} AND time < {}", time(from_us), time(to_us))
}
