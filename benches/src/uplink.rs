//! An agent's side of the uplink, as the agent itself speaks it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use skep_wire::v1::uplink_client::UplinkClient;
use skep_wire::v1::{self, down, up};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::authority::Papers;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// An open uplink.
#[derive(Debug)]
pub(crate) struct Uplink {
    up: mpsc::Sender<v1::Up>,
    down: Streaming<v1::Down>,
    window: usize,
    in_flight: VecDeque<(u64, Instant)>,
}

/// A connection with these papers.
pub(crate) async fn channel(address: &str, authority: &str, papers: &Papers) -> Result<Channel> {
    let tls = ClientTlsConfig::new()
        .domain_name("localhost")
        .ca_certificate(Certificate::from_pem(authority))
        .identity(Identity::from_pem(&papers.certificate, &papers.key));
    Ok(Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?.connect().await?)
}

impl Uplink {
    /// Says hello as `node` and waits for the welcome.
    pub(crate) async fn open(channel: Channel, node: &str, stream: &str) -> Result<Self> {
        let (up, receiver) = mpsc::channel(64);
        let hello = v1::Hello {
            node: node.to_owned(),
            boot: boot(node),
            stream: stream.to_owned(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel_release: "6.12.0".to_owned(),
            wire_revision: skep_wire::WIRE_REVISION,
            ..v1::Hello::default()
        };
        up.send(v1::Up { message: Some(up::Message::Hello(hello)) }).await?;
        let mut down = UplinkClient::new(channel).uplink(ReceiverStream::new(receiver)).await?.into_inner();
        match tokio::time::timeout(PATIENCE, down.message()).await.context("no welcome")?? {
            Some(v1::Down { message: Some(down::Message::Welcome(welcome)) }) => {
                Ok(Self { up, down, window: welcome.window as usize, in_flight: VecDeque::new() })
            }
            other => bail!("not a welcome: {other:?}"),
        }
    }

    /// Hands over one batch; waits for acknowledgements first while as many are outstanding as may be.
    /// Latencies go to `taken`.
    pub(crate) async fn send(&mut self, envelope: v1::Envelope, taken: &mut Vec<Duration>) -> Result<()> {
        while self.in_flight.len() >= self.window {
            self.acknowledged(taken).await?;
        }
        self.in_flight.push_back((envelope.seq, Instant::now()));
        self.up.send(v1::Up { message: Some(up::Message::Batch(envelope)) }).await.context("the uplink is closed")
    }

    /// Hands over one batch and never looks for an acknowledgement.
    pub(crate) async fn shout(&self, envelope: v1::Envelope) -> Result<()> {
        self.up.send(v1::Up { message: Some(up::Message::Batch(envelope)) }).await.context("the uplink is closed")
    }

    /// Says that the agent is alive.
    pub(crate) async fn heartbeat(&self, sent_us: i64) -> Result<()> {
        let beat = v1::Heartbeat { sent_us, spooled_batches: 0, spooled_bytes: 0 };
        self.up.send(v1::Up { message: Some(up::Message::Heartbeat(beat)) }).await.context("the uplink is closed")
    }

    /// Waits until nothing is outstanding.
    pub(crate) async fn settle(&mut self, taken: &mut Vec<Duration>) -> Result<()> {
        while !self.in_flight.is_empty() {
            self.acknowledged(taken).await?;
        }
        Ok(())
    }

    /// Waits for one acknowledgement.
    async fn acknowledged(&mut self, taken: &mut Vec<Duration>) -> Result<()> {
        let message = tokio::time::timeout(PATIENCE, self.down.message()).await.context("no acknowledgement")??;
        match message {
            Some(v1::Down { message: Some(down::Message::Ack(ack)) }) => {
                while let Some((_, sent)) = self.in_flight.pop_front_if(|(seq, _)| *seq <= ack.durable_seq) {
                    taken.push(sent.elapsed());
                }
                Ok(())
            }
            Some(v1::Down { message: Some(down::Message::Reset(reset)) }) => bail!("reset: {}", reset.reason),
            // A command, or something of a later revision.
            Some(_) => Ok(()),
            None => bail!("the collector closed the uplink"),
        }
    }
}

/// A boot id of that node.
pub(crate) fn boot(node: &str) -> String {
    format!("00000000-0000-4000-8000-{:012x}", crc(node))
}

/// A stream id of that node.
pub(crate) fn stream(node: &str) -> String {
    format!("{:032x}", crc(node))
}

fn crc(text: &str) -> u64 {
    text.bytes().fold(7, |sum: u64, byte| sum.wrapping_mul(131).wrapping_add(u64::from(byte))) & 0xffff_ffff_ffff
}
