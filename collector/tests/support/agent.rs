//! An agent as the collector sees it: it keeps every batch it ever made, so that a test can send any of them again.

use std::time::Duration;

use skep_wire::chunk::Builder;
use skep_wire::envelope::{self, Origin};
use skep_wire::tables::{CPU, LOSS, PROCESSES};
use skep_wire::v1::uplink_client::UplinkClient;
use skep_wire::v1::{self, down, up};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::Ground;

/// 2026-11-21T23:59:50Z: a few windows later it is another hour and another day.
pub const START_US: i64 = 1_795_305_590_000_000;

/// Rows of `cpu` in every batch.
pub const ROWS: i64 = 20;

pub fn origin(node: &str, stream: &str, seq: u64) -> Origin {
    Origin { node: node.to_owned(), boot: "boot".to_owned(), stream: stream.to_owned(), seq }
}

/// Batch `seq`: [`ROWS`] rows of cpu with `on_cpu_ns` = seq, one exec, and its ledger.
pub fn batch(seq: u64) -> v1::Batch {
    let time = START_US + seq as i64 * 1_000_000;
    let mut cpu = Builder::new(&CPU);
    for pid in 0..ROWS {
        cpu.int("time", time).float("window_s", 1.0).int("pid", pid).int("start_ns", 1).text("comm", "x");
        cpu.text("workload", "unit:x").text("attribution", "exact").count("on_cpu_ns", seq).int("slices", 1);
        cpu.int("voluntary_switches", 1).int("involuntary_switches", 0).int("run_queue_delay_count", 3);
        cpu.int("run_queue_delay_sum_ns", 60).histogram("run_queue_delay", [(10, 1), (20, 1), (30, 1)]);
        cpu.int("migrations", 0).int("off_cpu_count", 0).int("off_cpu_sum_ns", 0).histogram("off_cpu", []);
        cpu.float("coverage", 1.0).end_row().unwrap();
    }
    let mut processes = Builder::new(&PROCESSES);
    processes.int("time", time).text("event", "exec").int("pid", seq as i64).int("start_ns", 2).text("comm", "sh");
    processes.text("workload", "unit:x").text("attribution", "exact").int("parent_pid", 1);
    processes.text_list("argv", &["sh".to_owned(), seq.to_string()]).bool("argv_truncated", false).end_row().unwrap();
    let mut loss = Builder::new(&LOSS);
    loss.int("time", time).int("until", time + 1_000_000).text("probe", "cpu").text("reason", "none");
    loss.int("attempted", ROWS).int("delivered", ROWS).int("lost", 0).end_row().unwrap();
    v1::Batch {
        sealed_us: time,
        chunks: [cpu, processes, loss].into_iter().filter_map(Builder::finish).collect(),
        deliveries: vec![v1::Delivery { probe: "cpu".to_owned(), delivered: ROWS as u64 }],
    }
}

pub fn sealed(node: &str, stream: &str, seq: u64) -> v1::Envelope {
    envelope::seal(origin(node, stream, seq), &batch(seq)).unwrap()
}

/// The first batch of a stream, of one row of the ledger, which says this.
pub fn told(node: &str, stream: &str, detail: &str) -> v1::Envelope {
    let mut loss = Builder::new(&LOSS);
    loss.int("time", START_US).int("until", START_US).text("probe", "cpu").text("reason", "none");
    loss.text("detail", detail).end_row().unwrap();
    let batch = v1::Batch { sealed_us: START_US, chunks: loss.finish().into_iter().collect(), deliveries: Vec::new() };
    envelope::seal(origin(node, stream, 1), &batch).unwrap()
}

/// Text that compresses hardly at all.
pub fn noise(bytes: usize) -> String {
    let mut state = 1_u64;
    let letters = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'0' + (state >> 58) as u8)
    });
    letters.take(bytes).collect()
}

/// What the collector answers to a call of `certificate` that begins with this.
pub async fn begins_with(ground: &Ground, grpc: &str, certificate: &str, message: up::Message) -> Status {
    let channel = ground.channel(grpc, certificate).await.unwrap();
    let mut client = UplinkClient::new(channel);
    client.uplink(tokio_stream::once(v1::Up { message: Some(message) })).await.map(|_| ()).unwrap_err()
}

/// An open uplink.
pub struct Uplink {
    up: mpsc::Sender<v1::Up>,
    down: Streaming<v1::Down>,
    pub durable_seq: u64,
    stream: String,
    node: String,
}

impl Uplink {
    /// Says hello with the certificate of `node` and waits for the welcome.
    pub async fn open(ground: &Ground, grpc: &str, node: &str, stream: &str) -> Result<Self, Status> {
        Self::open_with(ground, grpc, node, Self::hello(node, stream)).await
    }

    pub fn hello(node: &str, stream: &str) -> v1::Hello {
        v1::Hello {
            node: node.to_owned(),
            boot: "boot".to_owned(),
            stream: stream.to_owned(),
            agent_version: "test".to_owned(),
            ..Default::default()
        }
    }

    /// Says this hello with the certificate in the file named `certificate`.
    pub async fn open_with(ground: &Ground, grpc: &str, certificate: &str, hello: v1::Hello) -> Result<Self, Status> {
        let channel = ground.channel(grpc, certificate).await.map_err(|e| Status::unavailable(e.to_string()))?;
        let (up, receiver) = mpsc::channel(64);
        let (node, stream) = (hello.node.clone(), hello.stream.clone());
        up.send(v1::Up { message: Some(up::Message::Hello(hello)) }).await.unwrap();
        let mut client = UplinkClient::new(channel);
        let mut down = client.uplink(ReceiverStream::new(receiver)).await?.into_inner();
        let first = next(&mut down).await?;
        let Some(down::Message::Welcome(welcome)) = first else { panic!("not a welcome: {first:?}") };
        Ok(Self { up, down, durable_seq: welcome.durable_seq, stream, node })
    }

    pub async fn say(&self, message: up::Message) -> bool {
        self.up.send(v1::Up { message: Some(message) }).await.is_ok()
    }

    pub async fn send(&self, seq: u64) -> bool {
        self.say(up::Message::Batch(sealed(&self.node, &self.stream, seq))).await
    }

    /// The next message down.
    pub async fn next(&mut self) -> Result<Option<down::Message>, Status> {
        next(&mut self.down).await
    }

    /// Sends `from..=to` and waits until the last is acknowledged; returns the acknowledgement.
    pub async fn deliver(&mut self, from: u64, to: u64) -> Result<u64, Status> {
        for seq in from..=to {
            self.send(seq).await;
        }
        loop {
            match self.next().await? {
                Some(down::Message::Ack(ack)) if ack.durable_seq >= to => return Ok(ack.durable_seq),
                Some(down::Message::Ack(_)) => {}
                other => return Err(Status::aborted(format!("{other:?}"))),
            }
        }
    }
}

async fn next(down: &mut Streaming<v1::Down>) -> Result<Option<down::Message>, Status> {
    let message = tokio::time::timeout(Duration::from_secs(60), down.message()).await;
    Ok(message.map_err(|_| Status::deadline_exceeded("nothing came down"))??.and_then(|down| down.message))
}
