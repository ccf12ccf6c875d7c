//! Agents that behave.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::batch::{Template, WINDOW, now_us};
use crate::ground::{Collector, Ground};
use crate::uplink::{self, Uplink};

/// Handshakes at once.
const AT_ONCE: usize = 64;

/// How often an agent with nothing else to say says that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(3);

/// Agents that are connected.
pub(super) struct Crowd {
    runtime: Runtime,
    agents: Vec<(String, Uplink)>,
}

/// Agents that send.
pub(super) struct Running {
    runtime: Runtime,
    tasks: Mutex<JoinSet<Result<u64>>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    taken: Mutex<Vec<Duration>>,
    stop: AtomicBool,
}

impl Crowd {
    /// Makes papers for that many and connects them.
    pub(super) fn connect(ground: &Ground, collector: &Collector, agents: u64) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let connecting = stream::iter(0..agents).map(|number| async move {
            let node = format!("node-{number:05}");
            let papers = ground.authority.issue(&node, "agent")?;
            let channel = uplink::channel(&collector.address, &ground.authority.certificate, &papers).await?;
            let uplink = Uplink::open(channel, &node, &uplink::stream(&node)).await?;
            anyhow::Ok((node, uplink))
        });
        let agents = runtime.block_on(connecting.buffer_unordered(AT_ONCE).try_collect())?;
        Ok(Self { runtime, agents })
    }

    /// Lets them send, each at its own moment of the window.
    pub(super) fn begin(self, templates: &Arc<Vec<Template>>) -> Running {
        let Self { runtime, agents } = self;
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        let (start, count) = (Instant::now(), agents.len() as u32);
        for (number, (node, uplink)) in agents.into_iter().enumerate() {
            let agent = Agent { number, node, uplink, templates: Arc::clone(templates), shared: Arc::clone(&shared) };
            let first = start + WINDOW * number as u32 / count;
            tasks.spawn_on(agent.run(first), runtime.handle());
        }
        Running { runtime, tasks: Mutex::new(tasks), shared }
    }
}

struct Agent {
    number: usize,
    node: String,
    uplink: Uplink,
    templates: Arc<Vec<Template>>,
    shared: Arc<Shared>,
}

impl Agent {
    /// Returns how many rows of `cpu` were acknowledged.
    async fn run(mut self, mut next: Instant) -> Result<u64> {
        let mut rows = 0;
        for seq in 1.. {
            tokio::time::sleep_until(next).await;
            if self.shared.stop.load(Ordering::Relaxed) {
                break;
            }
            let template = &self.templates[(self.number + seq as usize) % self.templates.len()];
            let envelope = template.seal(&self.node, seq, now_us())?;
            let mut taken = Vec::with_capacity(1);
            self.uplink.send(envelope, &mut taken).await?;
            self.uplink.settle(&mut taken).await?;
            rows += template.cpu_rows();
            self.shared.taken.lock().unwrap_or_else(PoisonError::into_inner).append(&mut taken);
            let beats = (1..).map(|beat| next + HEARTBEAT * beat).take_while(|beat| *beat < next + WINDOW);
            for beat in beats {
                tokio::time::sleep_until(beat).await;
                self.uplink.heartbeat(now_us()).await?;
            }
            next += WINDOW;
        }
        Ok(rows)
    }
}

impl Running {
    /// Waits; fails when an agent does.
    pub(super) fn gather(&self, time: Duration) -> Result<()> {
        std::thread::sleep(time);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        match tasks.try_join_next() {
            Some(Ok(Ok(_))) => bail!("an agent ended"),
            Some(ended) => ended?.map(|_| ()),
            None => Ok(()),
        }
    }

    /// Latencies since the last call.
    pub(super) fn take(&self) -> Vec<Duration> {
        std::mem::take(&mut self.shared.taken.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets everybody finish; returns how many rows of `cpu` were acknowledged.
    pub(super) fn end(self) -> Result<u64> {
        let Self { runtime, tasks, shared } = self;
        shared.stop.store(true, Ordering::Relaxed);
        let mut tasks = tasks.into_inner().unwrap_or_else(PoisonError::into_inner);
        runtime.block_on(async {
            let mut rows = 0;
            while let Some(ended) = tasks.join_next().await {
                rows += ended??;
            }
            Ok(rows)
        })
    }
}
