//! Keeps one program running: starts it, waits until it is ready, starts it again when it dies, stops it in order.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use skep_runtime::backoff::Backoff;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::UpError;
use super::folder::write_with_mode;
use super::log::{LastLine, Notices, pump};
use super::parts::Part;

const POLL: Duration = Duration::from_millis(100);

/// Starts again this soon at first; somebody who kills a child expects it back at once.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// A program that ran this long gets the first wait again.
const STEADY: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Run,
    Stop,
    Kill,
}

/// A program that is ready and not looked after yet.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) part: Part,
    running: Running,
    notices: Notices,
}

/// A program that is looked after.
#[derive(Debug)]
pub(super) struct Keeper {
    order: watch::Sender<Order>,
    task: JoinHandle<()>,
}

/// One life of a program.
#[derive(Debug)]
struct Running {
    child: Child,
    pid: u32,
    since: Instant,
    last: LastLine,
    pumps: Vec<JoinHandle<()>>,
}

/// Starts a program and waits until it is ready.
///
/// # Errors
/// [`UpError::Spawn`], [`UpError::Died`], [`UpError::NotReady`].
pub(super) async fn start(part: Part, notices: &Notices) -> Result<Started, UpError> {
    let mut running = Running::spawn(&part, notices)?;
    let deadline = Instant::now() + part.start_within;
    loop {
        tokio::select! {
            status = running.child.wait() => {
                let status = describe(status.ok());
                let said = running.said().await;
                return Err(UpError::Died { name: part.name, status, said, log: part.log });
            }
            ready = part.ready.check(running.pid) => if ready {
                return Ok(Started { part, running, notices: notices.clone() });
            }
        }
        if Instant::now() > deadline {
            running.stop(&part, Order::Stop).await;
            return Err(UpError::NotReady { name: part.name, after: part.start_within, log: part.log });
        }
        tokio::select! {
            _ = running.child.wait() => {}
            () = sleep(POLL) => {}
        }
    }
}

impl Started {
    /// From here on it is started again when it dies.
    pub(super) fn keep(self) -> Keeper {
        let (order, orders) = watch::channel(Order::Run);
        Keeper { order, task: tokio::spawn(keep(self.part, self.running, orders, self.notices)) }
    }
}

impl Keeper {
    /// Stops the program in order and waits for it.
    pub(super) async fn stop(&mut self) {
        self.order.send_replace(Order::Stop);
        // The task ends by itself; if it panicked, dropping it killed the child.
        drop((&mut self.task).await);
    }

    /// Kills the program, also one that is being stopped.
    pub(super) async fn kill(&mut self) {
        self.order.send_replace(Order::Kill);
        if !self.task.is_finished() {
            drop((&mut self.task).await);
        }
    }
}

async fn keep(part: Part, mut running: Running, mut orders: watch::Receiver<Order>, notices: Notices) {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    loop {
        let ended = tokio::select! {
            status = running.child.wait() => status.ok(),
            order = ordered(&mut orders) => {
                tokio::select! {
                    () = running.stop(&part, order) => {}
                    () = insisted(&mut orders) => {}
                }
                running.stop(&part, Order::Kill).await;
                drop(std::fs::remove_file(&part.pid));
                return;
            }
        };
        if running.since.elapsed() > STEADY {
            backoff.reset();
        }
        let mut why = format!("{} ended ({})", part.name, describe(ended));
        if ended.is_none_or(|status| status.signal().is_none()) {
            why = format!("{why}: {}", running.said().await);
        }
        notices.say(true, format!("{why}; starting it again"));
        running = loop {
            tokio::select! {
                () = sleep(backoff.next_wait()) => {}
                _ = ordered(&mut orders) => {
                    drop(std::fs::remove_file(&part.pid));
                    return;
                }
            }
            match Running::spawn(&part, &notices) {
                Ok(running) => break running,
                Err(error) => notices.say(true, crate::exit::one_line(&error)),
            }
        };
    }
}

/// Waits until something else than running is wanted.
async fn ordered(orders: &mut watch::Receiver<Order>) -> Order {
    match orders.wait_for(|order| *order != Order::Run).await {
        Ok(order) => *order,
        // Whoever could order is gone.
        Err(_) => Order::Stop,
    }
}

/// Waits until the program is to be killed, whatever was ordered before.
async fn insisted(orders: &mut watch::Receiver<Order>) {
    if orders.wait_for(|order| *order == Order::Kill).await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl Running {
    fn spawn(part: &Part, notices: &Notices) -> Result<Self, UpError> {
        let fault = |source| UpError::Spawn { program: part.program.clone(), source };
        let mut child = Command::new(&part.program)
            .args(&part.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(fault)?;
        let pid = child.id().unwrap_or(0);
        write_with_mode(&part.pid, format!("{pid}\n").as_bytes(), 0o644)?;
        let last = LastLine::default();
        let mut pumps = Vec::new();
        if let Some(stderr) = child.stderr.take() {
            pumps.push(tokio::spawn(pump(part.name, stderr, part.log.clone(), last.clone(), notices.clone())));
        }
        if let Some(stdout) = child.stdout.take() {
            pumps.push(tokio::spawn(pump(part.name, stdout, part.log.clone(), LastLine::default(), notices.clone())));
        }
        Ok(Self { child, pid, since: Instant::now(), last, pumps })
    }

    /// Its last line, once everything it wrote was read.
    async fn said(&mut self) -> String {
        for pump in self.pumps.drain(..) {
            // A grandchild may hold the pipe open; what was read by then is good enough.
            drop(timeout(Duration::from_secs(1), pump).await);
        }
        let said = self.last.get();
        let reason = ["error: ", "Error: "].iter().fold(said.as_str(), |line, prefix| line.trim_start_matches(prefix));
        if reason.is_empty() { "it said nothing".to_owned() } else { reason.to_owned() }
    }

    /// Asks it to end, and makes it when it does not in time.
    async fn stop(&mut self, part: &Part, order: Order) {
        if order == Order::Stop {
            if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
                // It may have ended by itself just now; waiting then returns at once.
                kill_process(pid, Signal::TERM).ok();
            }
            if timeout(part.stop_within, self.child.wait()).await.is_ok() {
                self.said().await;
                return;
            }
        }
        // Fails only when it is gone.
        drop(self.child.kill().await);
        self.said().await;
    }
}

fn describe(status: Option<ExitStatus>) -> String {
    match status {
        None => "unknown end".to_owned(),
        Some(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => status.to_string(),
        },
    }
}

#[cfg(test)]
mod tests;
