//! Between agent and executor: an agent that is confused, or in other hands. It passes commands on twice, late, in another
//! order, and once more long after; it cannot make any of its own.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use skep_wire::frame;
use skep_wire::v1::{self, executor_reply::Reply, executor_request::Request};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use crate::log::Log;
use skep_chaos_ground::Dice;

/// What is late comes so much later at most.
const LATE_MS: u64 = 2_500;

/// How long one that lets others go first waits for them.
const STEP_ASIDE: Duration = Duration::from_millis(400);

/// How long whoever looks at receipts waits before it connects anew.
const RETRY: Duration = Duration::from_millis(20);

/// A relay in front of the executor's socket.
#[derive(Debug, Clone)]
pub(crate) struct Tap(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Where the executor listens.
    executor: PathBuf,
    log: Mutex<Log>,
    dice: Mutex<Dice>,
    /// Every how manieth command something happens to; 0 for none.
    mischief_one_in: Mutex<u64>,
    /// Changes when connections are to break.
    cut: watch::Sender<u64>,
}

impl Tap {
    /// Listens on `socket` for the agent.
    pub(crate) fn listen(socket: &Path, executor: &Path, seed: u64) -> Result<Self> {
        let listener = UnixListener::bind(socket)?;
        let tap = Self(Arc::new(Inner {
            executor: executor.to_owned(),
            log: Mutex::default(),
            dice: Mutex::new(Dice::new(seed)),
            mischief_one_in: Mutex::new(0),
            cut: watch::Sender::new(0),
        }));
        tokio::spawn(tap.clone().accept(listener));
        tokio::spawn(tap.clone().look());
        Ok(tap)
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        lock(&self.0.log)
    }

    /// Something happens to every so manieth command; 0 for none.
    pub(crate) fn mischief(&self, one_in: u64) {
        *lock(&self.0.mischief_one_in) = one_in;
    }

    /// Breaks the agent's connections.
    pub(crate) fn cut(&self) {
        self.0.cut.send_modify(|cut| *cut += 1);
    }

    /// Hands a command to the executor over a connection of its own.
    pub(crate) async fn deliver(&self, signed: v1::SignedCommand) -> Result<()> {
        let mut stream = UnixStream::connect(&self.0.executor).await?;
        let request = v1::ExecutorRequest { request: Some(Request::Execute(signed)) };
        frame::write(&mut stream, &request).await?;
        stream.shutdown().await?;
        // Until the executor has read it: it hangs up at the end.
        while let Some(reply) = frame::read::<v1::ExecutorReply>(&mut stream).await? {
            self.see(&reply);
        }
        Ok(())
    }

    async fn accept(self, listener: UnixListener) {
        while let Ok((agent, _)) = listener.accept().await {
            if let Ok(executor) = UnixStream::connect(&self.0.executor).await {
                tokio::spawn(self.clone().relay(agent, executor));
            }
        }
    }

    async fn relay(self, agent: UnixStream, executor: UnixStream) {
        let mut cut = self.0.cut.subscribe();
        let (mut from_agent, mut to_agent) = agent.into_split();
        let (mut from_executor, mut to_executor) = executor.into_split();
        let down = async {
            while let Ok(Some(request)) = frame::read::<v1::ExecutorRequest>(&mut from_agent).await {
                let passed = match &request.request {
                    Some(Request::Execute(signed)) => self.pass_on(&mut to_executor, signed.clone()).await,
                    Some(Request::ReceiptAck(ack)) => {
                        self.log().see_acknowledged(ack.durable_number);
                        frame::write(&mut to_executor, &request).await.is_ok()
                    }
                    _ => frame::write(&mut to_executor, &request).await.is_ok(),
                };
                if !passed {
                    return;
                }
            }
        };
        let up = async {
            while let Ok(Some(reply)) = frame::read::<v1::ExecutorReply>(&mut from_executor).await {
                self.see(&reply);
                if frame::write(&mut to_agent, &reply).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = down => {}
            () = up => {}
            _ = cut.changed() => {}
        }
    }

    /// As it should be, or not.
    async fn pass_on(&self, executor: &mut OwnedWriteHalf, signed: v1::SignedCommand) -> bool {
        self.log().see_command(&signed);
        let one_in = *lock(&self.0.mischief_one_in);
        let (what, late) = {
            let mut dice = lock(&self.0.dice);
            let what = if one_in > 0 && dice.one_in(one_in) { dice.between(1, 4) } else { 0 };
            (what, Duration::from_millis(dice.between(20, LATE_MS)))
        };
        match what {
            1 => {
                self.log().count("commands_doubled");
                send(executor, &signed).await && send(executor, &signed).await
            }
            2 => {
                self.log().count("commands_doubled");
                self.later(signed.clone(), late);
                send(executor, &signed).await
            }
            3 => {
                self.log().count("commands_late");
                self.later(signed, late);
                true
            }
            4 => {
                self.log().count("commands_reordered");
                self.later(signed, STEP_ASIDE);
                true
            }
            _ => send(executor, &signed).await,
        }
    }

    fn later(&self, signed: v1::SignedCommand, wait: Duration) {
        let tap = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            // Where no executor listens it is lost.
            let _lost = tap.deliver(signed).await.is_err();
        });
    }

    /// Looks at all receipts, whatever happens to the agent's connections.
    async fn look(self) {
        loop {
            if let Ok(mut stream) = UnixStream::connect(&self.0.executor).await {
                while let Ok(Some(reply)) = frame::read::<v1::ExecutorReply>(&mut stream).await {
                    self.see(&reply);
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    fn see(&self, reply: &v1::ExecutorReply) {
        if let Some(Reply::Receipt(receipt)) = &reply.reply {
            self.log().see_receipt(receipt);
        }
    }
}

async fn send(executor: &mut OwnedWriteHalf, signed: &v1::SignedCommand) -> bool {
    let request = v1::ExecutorRequest { request: Some(Request::Execute(signed.clone())) };
    frame::write(executor, &request).await.is_ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
