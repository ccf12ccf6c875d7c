//! Asks the collector: over gRPC, and as `skep query` does.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use skep_wire::v1::QueryRequest;
use skep_wire::v1::console_client::ConsoleClient;
use tokio::runtime::Runtime;
use tonic::transport::Channel;

use super::of_readings;
use crate::ground::{self, Collector, Ground};
use crate::uplink;

/// What threads may need to end their work after the last byte of an answer.
const SETTLE: Duration = Duration::from_millis(5);

/// A connection with an operator's papers.
pub(super) struct Asker<'a> {
    collector: &'a Collector,
    tls: PathBuf,
    program: PathBuf,
    client: ConsoleClient<Channel>,
    runtime: Runtime,
}

impl<'a> Asker<'a> {
    pub(super) fn connect(ground: &Ground, collector: &'a Collector) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let papers = ground.authority.issue("olga", "operator")?;
        let channel = runtime.block_on(uplink::channel(&collector.address, &ground.authority.certificate, &papers))?;
        let client = ConsoleClient::new(channel).max_decoding_message_size(80 << 20);
        Ok(Self { collector, tls: ground.tls(), program: ground::program("skep")?, client, runtime })
    }

    /// CPU of the collector and time for the whole answer, over and over.
    pub(super) fn ask(&self, sql: &str, times: u32) -> Result<Value> {
        let (mut cpu_ms, mut wall_ms) = (Vec::new(), Vec::new());
        self.once(sql)?;
        for _ in 0..times {
            std::thread::sleep(SETTLE);
            let (cpu, start) = (self.collector.process.cpu()?, Instant::now());
            self.once(sql)?;
            wall_ms.push(start.elapsed().as_secs_f64() * 1e3);
            std::thread::sleep(SETTLE);
            cpu_ms.push((self.collector.process.cpu()? - cpu).as_secs_f64() * 1e3);
        }
        Ok(of_readings(&cpu_ms, &wall_ms))
    }

    fn once(&self, sql: &str) -> Result<()> {
        let mut client = self.client.clone();
        self.runtime.block_on(async {
            let request = QueryRequest { sql: sql.to_owned(), timeout_s: 0 };
            let mut stream = client.query(request).await?.into_inner();
            let mut bytes = 0;
            while let Some(reply) = stream.message().await? {
                bytes += reply.arrow_ipc.len();
            }
            ensure!(bytes > 0, "an empty answer");
            Ok(())
        })
    }

    /// From the start of `skep query` to its first row, over and over.
    pub(super) fn first_row(&self, sql: &str, times: u32) -> Result<Value> {
        let (mut cpu_ms, mut wall_ms) = (Vec::new(), Vec::new());
        for round in 0..=times {
            let (cpu, start) = (self.collector.process.cpu()?, Instant::now());
            let mut child = self.command(sql, "csv").stdout(Stdio::piped()).spawn()?;
            let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
            lines.next().context("no heading")??;
            lines.next().context("no row")??;
            let taken = start.elapsed();
            // It ends when it finds that nobody reads on.
            drop(lines);
            child.wait()?;
            std::thread::sleep(SETTLE);
            if round > 0 {
                wall_ms.push(taken.as_secs_f64() * 1e3);
                cpu_ms.push((self.collector.process.cpu()? - cpu).as_secs_f64() * 1e3);
            }
        }
        Ok(of_readings(&cpu_ms, &wall_ms))
    }

    /// The answer's rows.
    pub(super) fn rows(&self, sql: &str) -> Result<Vec<Value>> {
        let output = self.command(sql, "json").output()?;
        ensure!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout)?;
        Ok(match serde_json::from_str(&text) {
            Ok(Value::Array(rows)) => rows,
            // A row a line.
            _ => text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?,
        })
    }

    fn command(&self, sql: &str, format: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["query", sql, "--format", format]).arg("--tls").arg(&self.tls);
        command.arg("--collector").arg(format!("https://{}", self.collector.address));
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command
    }
}
