//! When a canary is run, and what is said of it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use skep_runtime::clock::Clock;
use skep_runtime::shutdown::Token;
use skep_wire::canary::{self, EXIT_CODE};
use skep_wire::v1;
use tokio::net::TcpSocket;
use tokio::process::Command;
use tokio::sync::{mpsc, oneshot, watch};

use super::rows::{self, Marked, Step};
use crate::source::Detail;
use crate::spool::{Append, Request};

/// The first one comes this soon, unless they come more often than that: it tells whether the start went well.
const FIRST_WAIT: Duration = Duration::from_secs(5);

/// One that takes longer is ended. It takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs canaries.
#[derive(Debug)]
pub struct Canary {
    /// Time between two; `None` for none at all.
    pub interval: Option<Duration>,
    /// This program's file.
    pub program: PathBuf,
    /// Parts the attached probes see, with their domains; see [`canary::PARTS`].
    pub sees: Vec<(&'static str, &'static str)>,
    /// What is observed now.
    pub detail: watch::Receiver<Detail>,
    /// Rows go here.
    pub spool: mpsc::Sender<Request>,
    /// When to stop.
    pub stop: Token,
    /// The clock.
    pub clock: Clock,
}

/// The spool takes nothing more: the agent is about to end.
#[derive(Debug)]
struct SpoolGone;

impl Canary {
    /// Runs until told to stop. One that is under way is waited for.
    pub async fn run(mut self) {
        let interval = match self.interval {
            None => return self.say_off("switched off in the settings").await,
            Some(_) if self.sees.is_empty() => return self.say_off("no attached probe would see it").await,
            Some(interval) => interval,
        };
        let port = match reserve().await {
            Ok(port) => port,
            Err(error) => {
                tracing::warn!(%error, "no canaries: there is no port on the loopback to connect to");
                return self.say_off(&format!("no port on the loopback: {error}")).await;
            }
        };
        let mut wait = FIRST_WAIT.min(interval);
        for number in 1.. {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stop.stopped() => return,
            }
            let marked = Marked { marker: random_hex(), number, port: port.number, expects: self.expects() };
            if self.send(interval, &marked).await.is_err() {
                return;
            }
            wait = jittered(interval, random_share());
        }
    }

    /// What must arrive while this much is observed.
    fn expects(&self) -> Vec<&'static str> {
        let detail = self.detail.borrow();
        self.sees.iter().filter(|(_, domain)| !detail.off.contains(domain)).map(|(part, _)| *part).collect()
    }

    /// Announces one, durably, then runs it: its rows never come before its announcement.
    async fn send(&self, interval: Duration, marked: &Marked) -> Result<(), SpoolGone> {
        self.say(interval, marked, Step::Sent).await?;
        let (pid, ended) = self.execute(marked).await;
        let failure = match ended {
            Ok(status) if status.code() == Some(i32::from(EXIT_CODE)) => None,
            Ok(status) => Some(format!("it ended with {status}")),
            Err(error) => Some(error.to_string()),
        };
        match (pid, failure) {
            (Some(pid), None) => self.say(interval, marked, Step::Ran { pid }).await,
            (pid, failure) => {
                let detail = failure.unwrap_or_default();
                tracing::warn!(number = marked.number, "the canary failed: {detail}");
                self.say(interval, marked, Step::Failed { pid, detail: &detail }).await
            }
        }
    }

    async fn execute(&self, marked: &Marked) -> (Option<u32>, io::Result<ExitStatus>) {
        let argv = canary::argv(&marked.marker, i64::from(marked.port));
        let spawned = Command::new(&self.program)
            .arg0(&argv[0])
            .args(&argv[1..])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => return (None, Err(error)),
        };
        let pid = child.id();
        let ended = match tokio::time::timeout(PATIENCE, child.wait()).await {
            Ok(ended) => ended,
            Err(_) => Err(io::Error::other(format!("it did not end within {} s", PATIENCE.as_secs()))),
        };
        (pid, ended)
    }

    async fn say_off(&self, why: &str) {
        let none = Marked { marker: String::new(), number: 0, port: 0, expects: Vec::new() };
        // A spool that is gone while stopping needs no word of it.
        let _gone = self.say(Duration::ZERO, &none, Step::Off { detail: why }).await.is_err();
    }

    /// Returns when the row is durable.
    async fn say(&self, interval: Duration, marked: &Marked, step: Step<'_>) -> Result<(), SpoolGone> {
        let time_us = self.clock.wall_us();
        let chunk = match rows::chunk(time_us, interval, marked, step) {
            Ok(chunk) => chunk,
            Err(error) => {
                tracing::error!(%error, "a row of canaries was refused");
                return Ok(());
            }
        };
        let batch = v1::Batch { sealed_us: time_us, chunks: chunk.into_iter().collect(), deliveries: Vec::new() };
        let (done, durable) = oneshot::channel();
        let append = Append { batch, watched_until_us: None, receipt: None, mark: None, done: Some(done) };
        self.spool.send(Request::Append(append)).await.map_err(|_| SpoolGone)?;
        durable.await.map_err(|_| SpoolGone)
    }
}

/// A port of the loopback that is ours and on which nobody can listen.
#[derive(Debug)]
struct Reserved {
    number: u16,
    /// Bound and never listening: connections are refused.
    _socket: TcpSocket,
}

async fn reserve() -> io::Result<Reserved> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    Ok(Reserved { number: socket.local_addr()?.port(), _socket: socket })
}

/// The interval, up to a fifth shorter or longer: canaries of a fleet and of an onlooker's timetable must not meet.
fn jittered(interval: Duration, share: f64) -> Duration {
    interval.mul_f64(0.8 + 0.4 * share)
}

fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if let Err(error) = getrandom::fill(&mut bytes) {
        tracing::warn!(%error, "no randomness for a canary");
    }
    bytes
}

fn random_hex() -> String {
    random_bytes::<16>().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 0..1.
fn random_share() -> f64 {
    f64::from(u16::from_ne_bytes(random_bytes())) / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use skep_runtime::shutdown::Shutdown;
    use skep_wire::chunk::rows;

    use super::*;

    fn canary(program: &str, interval: Option<Duration>) -> (Canary, mpsc::Receiver<Request>, Shutdown) {
        let (spool, requests) = mpsc::channel(4);
        let stop = Shutdown::new();
        let canary = Canary {
            interval,
            program: program.into(),
            sees: canary::PARTS.to_vec(),
            detail: watch::channel(Detail { off: vec!["tcp"], ..Detail::default() }).1,
            spool,
            stop: stop.token(),
            clock: Clock::system(),
        };
        (canary, requests, stop)
    }

    /// Takes one batch; returns event, marker and detail of its row.
    async fn told(requests: &mut mpsc::Receiver<Request>) -> (String, String, String) {
        let Some(Request::Append(append)) = requests.recv().await else { panic!("no batch came") };
        let row = rows(&append.batch.chunks[0]).next().unwrap();
        let text = |name| row.text(name).unwrap_or_default().to_owned();
        append.done.unwrap().send(()).unwrap();
        (text("event"), text("marker"), text("detail"))
    }

    #[test]
    fn the_wait_is_within_a_fifth_of_the_interval() {
        let interval = Duration::from_secs(60);
        assert_eq!(jittered(interval, 0.0), Duration::from_secs(48));
        assert_eq!(jittered(interval, 1.0), Duration::from_secs(72));
        let share = random_share();
        assert!((0.0..=1.0).contains(&share), "{share}");
    }

    #[tokio::test]
    async fn nobody_can_listen_on_the_reserved_port_and_connections_are_refused() {
        let port = reserve().await.unwrap();
        assert!(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port.number)).is_err());
        assert_eq!(crate::canary::errand::run(port.number), EXIT_CODE);
    }

    #[tokio::test]
    async fn one_that_ends_otherwise_or_does_not_start_is_told_with_the_reason() {
        for (program, reason) in [("/bin/true", "exit status: 0"), ("/nonexistent/skep", "No such file")] {
            let (canary, mut requests, stop) = canary(program, Some(Duration::from_millis(1)));
            let task = tokio::spawn(canary.run());
            let (event, marker, _) = told(&mut requests).await;
            assert_eq!((event.as_str(), marker.len()), ("sent", 32));
            let (event, same, detail) = told(&mut requests).await;
            assert_eq!((event.as_str(), &same), ("failed", &marker));
            assert!(detail.contains(reason), "{detail}");
            stop.begin();
            drop(requests);
            task.await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_switched_off_is_not_expected() {
        let (canary, _requests, _stop) = canary("/bin/true", None);
        assert_eq!(canary.expects(), ["exec", "exit"]);
    }

    #[tokio::test]
    async fn none_at_all_is_said_once() {
        let (canary, mut requests, _stop) = canary("/bin/true", None);
        let task = tokio::spawn(canary.run());
        assert_eq!(told(&mut requests).await.0, "off");
        task.await.unwrap();
        assert!(requests.recv().await.is_none());
    }
}
