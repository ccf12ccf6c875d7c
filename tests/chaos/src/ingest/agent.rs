//! One agent: it keeps every batch until that is acknowledged, and sends again what was not.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use skep_wire::v1::uplink_client::UplinkClient;
use skep_wire::v1::{self, down, up};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::batch;
use skep_chaos_ground::Ground;

/// Batches on their way at once.
const WINDOW: u64 = 16;

/// How long it rests between two new batches, and before it connects anew.
const PACE: Duration = Duration::from_millis(3);
const RETRY: Duration = Duration::from_millis(25);

/// How long ago its first batch was.
const AGO: Duration = Duration::from_secs(6 * 3600);

/// An answer that takes this long will not come.
const SILENCE: Duration = Duration::from_secs(30);

/// One agent's life, over all connections and collectors of an episode.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) node: &'static str,
    /// Where it connects to: its own way to the collector.
    pub(super) address: String,
    /// When its first batch was, microseconds since the epoch.
    start_us: i64,
    /// Last batch it made.
    pub(super) made: AtomicU64,
    /// Last batch it was told is durable.
    pub(super) acked: AtomicU64,
    /// Connections that came about.
    pub(super) connections: AtomicU64,
    /// Batches it sent before, and again.
    pub(super) resent: AtomicU64,
    /// It makes no new batches any more.
    pub(super) settling: AtomicBool,
    wrong: Mutex<Option<String>>,
}

impl Agent {
    pub(super) fn new(node: &'static str, address: String) -> Self {
        // Long enough ago that its hours are over, and not so long that the collector keeps less of it.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let start_us = i64::try_from((now.saturating_sub(AGO)).as_micros()).unwrap_or(batch::START_US);
        Self {
            node,
            address,
            start_us,
            made: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            resent: AtomicU64::new(0),
            settling: AtomicBool::new(false),
            wrong: Mutex::new(None),
        }
    }

    /// Whether everything it made is acknowledged.
    pub(super) fn is_settled(&self) -> bool {
        self.acked.load(Ordering::SeqCst) == self.made.load(Ordering::SeqCst)
    }

    /// What it saw that must not be.
    pub(super) fn wrong(&self) -> Option<String> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Works until `stop`.
    pub(super) async fn run(self: Arc<Self>, ground: Arc<Ground>, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::SeqCst) && self.wrong().is_none() {
            // Why a connection ended is of no interest: the next one goes on where the collector says.
            let _ended = self.connection(&ground, &stop).await;
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn connection(&self, ground: &Ground, stop: &AtomicBool) -> Result<()> {
        let channel = ground.channel(&self.address, self.node).await?;
        let acked = self.acked.load(Ordering::SeqCst);
        let hello = v1::Hello {
            node: self.node.to_owned(),
            boot: "boot".to_owned(),
            stream: self.stream(),
            agent_version: "chaos".to_owned(),
            acknowledged_seq: acked,
            ..Default::default()
        };
        let (sender, receiver) = mpsc::channel(WINDOW as usize + 1);
        sender.send(v1::Up { message: Some(up::Message::Hello(hello)) }).await?;
        let mut down = UplinkClient::new(channel).uplink(ReceiverStream::new(receiver)).await?.into_inner();
        let welcome = match next(&mut down).await? {
            down::Message::Welcome(welcome) => welcome,
            other => bail!("not a welcome: {other:?}"),
        };
        self.connections.fetch_add(1, Ordering::SeqCst);
        if welcome.durable_seq < acked {
            let what = format!("node {}: {acked} was acknowledged, {} is durable", self.node, welcome.durable_seq);
            *self.wrong.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
            bail!("acknowledged batches are gone");
        }
        // A welcome acknowledges too: what it says is durable need not be sent again to hear so.
        self.acked.fetch_max(welcome.durable_seq, Ordering::SeqCst);
        // Now and then an acknowledgement was lost with its connection: some batches come twice.
        let mut seq = welcome.durable_seq.saturating_sub(self.connections.load(Ordering::SeqCst) % 3);
        let (mut sent, mut heard) = (seq, welcome.durable_seq);
        while !stop.load(Ordering::SeqCst) {
            let made = self.made.load(Ordering::SeqCst);
            let may_make = !self.settling.load(Ordering::SeqCst);
            if sent < heard + WINDOW && (seq < made || may_make) {
                seq += 1;
                if seq > made {
                    self.made.store(seq, Ordering::SeqCst);
                    tokio::time::sleep(PACE).await;
                } else {
                    self.resent.fetch_add(1, Ordering::SeqCst);
                }
                let envelope = batch::sealed(self.node, &self.stream(), seq, self.start_us)?;
                sender.send(v1::Up { message: Some(up::Message::Batch(envelope)) }).await.context("uplink")?;
                sent = seq;
            } else if heard >= sent {
                tokio::time::sleep(PACE).await;
                continue;
            } else {
                heard = heard.max(self.ack(&mut down).await?);
            }
        }
        Ok(())
    }

    async fn ack(&self, down: &mut tonic::Streaming<v1::Down>) -> Result<u64> {
        match next(down).await? {
            down::Message::Ack(ack) => {
                ensure!(ack.stream == self.stream(), "an acknowledgement of another stream");
                self.acked.fetch_max(ack.durable_seq, Ordering::SeqCst);
                Ok(ack.durable_seq)
            }
            other => bail!("the collector says {other:?}"),
        }
    }

    fn stream(&self) -> String {
        self.node.repeat(32)
    }
}

async fn next(down: &mut tonic::Streaming<v1::Down>) -> Result<down::Message> {
    let message = tokio::time::timeout(SILENCE, down.message()).await.context("nothing came down")??;
    message.and_then(|down| down.message).context("the stream ended")
}
