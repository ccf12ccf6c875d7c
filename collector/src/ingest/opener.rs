//! The thread that opens large batches, one after the other, beside those that serve everybody. It is always the same one:
//! the allocator keeps what a thread had for that thread, and with another thread each time every one of them would keep
//! a hundred megabytes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use skep_wire::v1;
use tokio::sync::{mpsc, oneshot};

use super::arrival::{self, Checked, Refused};

/// An envelope that was opened, and what became of it.
pub type Opened = (v1::Envelope, Result<Checked, Refused>);

/// The way to the thread, which ends when this is dropped.
#[derive(Debug)]
pub struct Opener(mpsc::Sender<Job>);

#[derive(Debug)]
struct Job {
    envelope: v1::Envelope,
    now_us: i64,
    reply: oneshot::Sender<Opened>,
}

impl Opener {
    /// Starts the thread.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn start() -> std::io::Result<Self> {
        let (queue, mut jobs) = mpsc::channel::<Job>(1);
        std::thread::Builder::new().name("open".to_owned()).spawn(move || {
            while let Some(Job { envelope, now_us, reply }) = jobs.blocking_recv() {
                // What no batch should do, one must not do to those of others: who sent it begins anew.
                let checked = catch_unwind(AssertUnwindSafe(|| arrival::check(&envelope, now_us)));
                if let Ok(checked) = checked {
                    // A session that is gone learns of it when it comes back.
                    let _gone = reply.send((envelope, checked)).is_err();
                }
            }
        })?;
        Ok(Self(queue))
    }

    /// Opens and checks a batch, in its turn; `None` where that did not end well.
    pub async fn open(&self, envelope: v1::Envelope, now_us: i64) -> Option<Opened> {
        let (reply, opened) = oneshot::channel();
        self.0.send(Job { envelope, now_us, reply }).await.ok()?;
        opened.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use skep_wire::envelope::{self, Origin};

    use super::*;

    #[tokio::test]
    async fn batches_are_opened_or_refused_in_turn() {
        let opener = Opener::start().unwrap();
        let origin = Origin { node: "n".to_owned(), boot: String::new(), stream: "s".to_owned(), seq: 3 };
        let good = envelope::seal(origin, &v1::Batch::default()).unwrap();
        let bad = v1::Envelope { payload: b"noise".to_vec(), ..good.clone() };
        let (opened, refused) = tokio::join!(opener.open(good.clone(), 5), opener.open(bad.clone(), 5));
        let ((envelope, checked), (noise, refused)) = (opened.unwrap(), refused.unwrap());
        assert_eq!((envelope, noise), (good, bad));
        assert_eq!(checked.unwrap().durable.origin.seq, 3);
        assert!(matches!(refused, Err(Refused::Envelope(_))));
    }
}
