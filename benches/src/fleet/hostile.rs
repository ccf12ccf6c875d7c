//! Agents with good certificates and bad manners.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use skep_wire::chunk::Builder;
use skep_wire::envelope::{self, Origin};
use skep_wire::{tables, v1};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use super::batch::{Template, now_us};
use crate::authority::Papers;
use crate::ground::{Collector, Ground};
use crate::rows::random::Random;
use crate::uplink::{self, Uplink};

/// How far behind the others the threads stand that play them: what is measured is what they do to the collector, not
/// to the agents that share this process with them.
const NICENESS: i32 = 15;

/// Rows of a huge batch: some 60 MB once it is decompressed.
const HUGE_ROWS: u64 = 120_000;

/// What they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Manner {
    /// Envelopes whose payload is noise.
    Garbage,
    /// One batch again and again.
    Replay,
    /// Batches as large as they may be.
    Huge,
    /// Batches of a kilobyte that say they have a million rows of every table.
    Bomb,
    /// Batch after batch without ever reading an answer.
    Deaf,
    /// No TLS at all.
    Stranger,
}

const MANNERS: [Manner; 6] =
    [Manner::Garbage, Manner::Replay, Manner::Huge, Manner::Bomb, Manner::Deaf, Manner::Stranger];

/// They, at work. Dropping this ends them.
pub(super) struct Hostile {
    _runtime: Runtime,
    sent: Arc<[AtomicU64; MANNERS.len()]>,
    begun: Arc<[AtomicU64; MANNERS.len()]>,
}

struct One {
    manner: Manner,
    node: String,
    address: String,
    authority: String,
    papers: Papers,
    templates: Arc<Vec<Template>>,
    huge: Arc<v1::Envelope>,
    sent: Arc<[AtomicU64; MANNERS.len()]>,
    begun: Arc<[AtomicU64; MANNERS.len()]>,
}

impl Hostile {
    /// Lets so many loose, as many of each of these manners; of all where none is named.
    pub(super) fn begin(
        ground: &Ground,
        collector: &Collector,
        (count, manners): (u64, &[Manner]),
        templates: &Arc<Vec<Template>>,
    ) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .on_thread_start(|| {
                // SAFETY: on Linux this concerns the calling thread alone. Without it figures are a little worse.
                let _refused = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
            })
            .enable_all()
            .build()?;
        let (sent, begun) = (Arc::default(), Arc::default());
        let huge = Arc::new(huge()?);
        let manners = if manners.is_empty() { &MANNERS } else { manners };
        for number in 0..count as usize {
            let node = format!("hostile-{number}");
            let one = One {
                manner: manners[number % manners.len()],
                papers: ground.authority.issue(&node, "agent")?,
                node,
                address: collector.address.clone(),
                authority: ground.authority.certificate.clone(),
                templates: Arc::clone(templates),
                huge: Arc::clone(&huge),
                sent: Arc::clone(&sent),
                begun: Arc::clone(&begun),
            };
            runtime.spawn(one.go_on());
        }
        Ok(Self { _runtime: runtime, sent, begun })
    }

    /// Ends them; what they did, by manner.
    pub(super) fn end(self) -> Value {
        let of = |all: &[AtomicU64; MANNERS.len()]| -> Value {
            let each = MANNERS.iter().zip(all);
            each.map(|(manner, count)| (format!("{manner:?}").to_lowercase(), json!(count.load(Ordering::Relaxed))))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        json!({ "batches": of(&self.sent), "connections": of(&self.begun) })
    }
}

impl One {
    /// Whatever the collector does about it, it begins anew.
    async fn go_on(self) {
        let mut random = Random::new(self.node.len() as u64);
        loop {
            self.begun[self.place()].fetch_add(1, Ordering::Relaxed);
            let _thrown_out = self.once(&mut random).await;
            tokio::time::sleep(Duration::from_millis(100 + random.below(200))).await;
        }
    }

    fn place(&self) -> usize {
        MANNERS.iter().position(|manner| *manner == self.manner).unwrap_or(0)
    }

    async fn once(&self, random: &mut Random) -> Result<()> {
        if self.manner == Manner::Stranger {
            let address: SocketAddr = self.address.parse()?;
            let mut stream = TcpStream::connect(address).await?;
            let noise: Vec<u8> = (0..4096).map(|_| random.bits() as u8).collect();
            stream.write_all(&noise).await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
            return Ok(());
        }
        let channel = uplink::channel(&self.address, &self.authority, &self.papers).await?;
        let stream = format!("{:016x}{:016x}", random.bits(), random.bits());
        let mut uplink = Uplink::open(channel, &self.node, &stream).await?;
        let mut taken = Vec::new();
        let first = self.envelope(&stream, 1, random)?;
        for seq in 1.. {
            // Sealing one again and again would take this machine's time, not the collector's.
            let envelope =
                if self.manner == Manner::Replay { first.clone() } else { self.envelope(&stream, seq, random)? };
            if self.manner == Manner::Deaf {
                uplink.shout(envelope).await?;
            } else {
                uplink.send(envelope, &mut taken).await?;
            }
            taken.clear();
            self.sent[self.place()].fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn envelope(&self, stream: &str, seq: u64, random: &mut Random) -> Result<v1::Envelope> {
        let origin = Origin { node: self.node.clone(), boot: uplink::boot(&self.node), stream: stream.to_owned(), seq };
        match self.manner {
            Manner::Huge => {
                let Origin { node, boot, stream, .. } = origin;
                Ok(v1::Envelope { node, boot, stream, seq, ..v1::Envelope::clone(&self.huge) })
            }
            Manner::Garbage => {
                let payload: Vec<u8> = (0..8192).map(|_| random.bits() as u8).collect();
                let Origin { node, boot, stream, .. } = origin;
                Ok(v1::Envelope {
                    node,
                    boot,
                    stream,
                    seq,
                    codec: v1::Codec::Zstd.into(),
                    payload,
                    payload_bytes: 65_536,
                })
            }
            Manner::Bomb => {
                let rows = |table: &&tables::Table| v1::Chunk {
                    table: table.name.to_owned(),
                    rows: 1 << 20,
                    columns: Vec::new(),
                };
                let chunks = tables::TABLES.iter().map(rows).collect();
                Ok(envelope::seal(origin, &v1::Batch { sealed_us: now_us(), chunks, deliveries: Vec::new() })?)
            }
            _ => {
                let mut envelope = self.templates[0].seal(&self.node, seq, now_us())?;
                envelope.stream = stream.to_owned();
                Ok(envelope)
            }
        }
    }
}

/// Small on the wire and near the limit once it is decompressed.
fn huge() -> Result<v1::Envelope> {
    let mut chunk = Builder::new(&tables::LOSS);
    let text = "x".repeat(300);
    for row in 0..HUGE_ROWS {
        let detail = format!("{text}{row}");
        chunk.int("time", now_us()).int("until", now_us()).text("probe", "cpu").text("reason", "none");
        chunk.text("detail", &detail).int("attempted", 1).int("delivered", 1).int("lost", 0);
        chunk.end_row().context("a row of loss")?;
    }
    let batch = v1::Batch { sealed_us: now_us(), chunks: chunk.finish().into_iter().collect(), deliveries: Vec::new() };
    let nobody = String::new;
    Ok(envelope::seal(Origin { node: nobody(), boot: nobody(), stream: nobody(), seq: 0 }, &batch)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_huge_batch_is_just_within_the_limit() {
        let envelope = huge().unwrap();
        assert!(envelope.payload_bytes > 30 << 20, "{}", envelope.payload_bytes);
        assert!(envelope.payload.len() < 8 << 20, "{}", envelope.payload.len());
    }
}
