//! Brings what is in the queue to its channel, however often that takes.
//!
//! Each channel goes at its own pace: one that does not answer keeps no other waiting. What a channel will never take is let
//! go and counted.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use reqwest::Client;
use skep_runtime::backoff::Backoff;
use skep_runtime::error;
use skep_runtime::shutdown::Token;
use thiserror::Error;
use tokio::sync::watch;

use crate::channel::Channel;
use crate::queue::{Queue, QueueError};
use crate::report::Notice;

/// Waits between two tries.
const FIRST_WAIT: Duration = Duration::from_secs(1);

const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// What became of notices.
#[derive(Debug, Default)]
pub struct Counts {
    /// Taken by their channel.
    pub told: AtomicU64,
    /// Never to be taken.
    pub refused: AtomicU64,
    /// Tries in vain.
    pub failed: AtomicU64,
}

/// The end at which notices go in. Cloning it shares it.
#[derive(Debug, Clone)]
pub struct Outbox {
    queue: Arc<Mutex<Queue>>,
    news: watch::Sender<u64>,
}

/// The end at which they come out.
#[derive(Debug)]
pub struct Courier {
    channels: Vec<Channel>,
    client: Client,
    queue: Arc<Mutex<Queue>>,
    news: watch::Receiver<u64>,
    counts: Arc<Counts>,
}

/// Why nobody can be told anything.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The queue.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// TLS.
    #[error("TLS cannot be used")]
    Client(#[source] reqwest::Error),
}

/// Both ends of the queue in a folder that holds `most` notices.
///
/// # Errors
/// [`OpenError`].
pub fn open(folder: &Path, most: usize, channels: Vec<Channel>) -> Result<(Outbox, Courier), OpenError> {
    let client = crate::channel::client().map_err(OpenError::Client)?;
    let mut queue = Queue::open(folder, most)?;
    let names: Vec<&str> = channels.iter().map(|channel| channel.name.as_str()).collect();
    let strangers = queue.keep_only(&names);
    if strangers > 0 {
        tracing::warn!(notices = strangers, "notices for channels that are no longer in the settings are let go");
    }
    let queue = Arc::new(Mutex::new(queue));
    let (news, heard) = watch::channel(0);
    let outbox = Outbox { queue: Arc::clone(&queue), news };
    Ok((outbox, Courier { channels, client, queue, news: heard, counts: Arc::default() }))
}

fn locked(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outbox {
    /// Keeps notices, durably, and has them told. Blocks for a sync of the disk each.
    ///
    /// # Errors
    /// [`QueueError`]: this one and those behind it are not kept.
    pub fn push(&self, notices: &[Notice]) -> Result<(), QueueError> {
        let mut queue = locked(&self.queue);
        // Who could not be told yet needs no reminder.
        let wanted = notices.iter().filter(|notice| !notice.again || !queue.waits_for(&notice.channel));
        let wanted: Vec<&Notice> = wanted.collect();
        let kept = wanted.into_iter().try_for_each(|notice| queue.push(notice));
        let dropped = queue.take_dropped();
        drop(queue);
        if dropped > 0 {
            tracing::error!(notices = dropped, "alerts that nobody could be told of are let go for newer ones");
        }
        self.news.send_modify(|count| *count += 1);
        kept
    }

    /// Notices that wait.
    pub fn waiting(&self) -> usize {
        locked(&self.queue).len()
    }
}

impl Courier {
    /// What became of notices so far.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// Tells until told to stop; what is left is told after the next start.
    pub async fn run(self, mut stop: Token) {
        let loops = self.channels.iter().map(|channel| self.serve(channel));
        tokio::select! {
            _ = join_all(loops) => {}
            () = stop.stopped() => {}
        }
    }

    /// Ends when nobody puts anything in any more, and all is told.
    async fn serve(&self, channel: &Channel) {
        let mut news = self.news.clone();
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            news.mark_unchanged();
            let next = locked(&self.queue).first(&channel.name);
            let Some((number, notice)) = next else {
                if news.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let Err(error) = channel.tell(&notice, &self.client).await else {
                backoff.reset();
                self.counts.told.fetch_add(1, Ordering::Relaxed);
                locked(&self.queue).done(number);
                continue;
            };
            let reason = error::chain(&error);
            if error.is_permanent() {
                tracing::error!(channel = %channel.name, notice = %notice.id, reason, "an alert is refused for good");
                self.counts.refused.fetch_add(1, Ordering::Relaxed);
                locked(&self.queue).done(number);
                continue;
            }
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
            let wait = backoff.next_wait();
            tracing::warn!(channel = %channel.name, notice = %notice.id, reason, ?wait, "an alert could not be told yet");
            tokio::time::sleep(wait).await;
        }
    }
}
