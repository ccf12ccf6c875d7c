//! One `skep up` from the first file to the last child.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::folder::Folder;
use super::keeper::{Keeper, start};
use super::log::{Notice, Notices};
use super::numbers::Look;
use super::screen::Screen;
use super::{UpArgs, UpError, certificates, command_key, leftover, numbers, parts, summary};
use crate::command::span::now_us;
use crate::connect::{Endpoint, Source};
use crate::place::Place;
use crate::programs;

/// Notices that wait for the terminal; what does not fit stands in the logs.
const NOTICES: usize = 256;

/// How often the newest window is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// `--for` longer than this runs for this long: a timer needs an end.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The children, in the order they were started.
#[derive(Debug, Default)]
struct Children {
    collector: Option<Keeper>,
    executor: Option<Keeper>,
    agent: Option<Keeper>,
}

impl Children {
    /// The two that feed the collector.
    async fn stop_feeders(&mut self) {
        for keeper in [&mut self.agent, &mut self.executor] {
            stop(keeper).await;
        }
    }

    async fn stop_all(&mut self) {
        self.stop_feeders().await;
        stop(&mut self.collector).await;
    }

    /// For somebody who does not want to wait. The executor alone is still stopped in order: it takes back what it did to
    /// this host, and nobody else can.
    async fn stop_hard(&mut self) {
        for keeper in [&mut self.agent, &mut self.collector].into_iter().flatten() {
            keeper.kill().await;
        }
        stop(&mut self.executor).await;
    }
}

/// The keeper stays in its place while it is being stopped, so that it can still be killed.
async fn stop(place: &mut Option<Keeper>) {
    if let Some(keeper) = place {
        keeper.stop().await;
    }
    *place = None;
}

/// The signals that end it.
#[derive(Debug)]
struct Ends {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Ends {
    fn listen() -> Result<Self, UpError> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(UpError::Signals)?,
            terminate: signal(SignalKind::terminate()).map_err(UpError::Signals)?,
            hangup: signal(SignalKind::hangup()).map_err(UpError::Signals)?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

pub(super) async fn run(args: UpArgs) -> Result<(), UpError> {
    let mut ends = Ends::listen()?;
    let folder = Folder::create(&args.data)?;
    let _held = folder.lock()?;
    let attended = attend(&args, &folder, &mut ends).await;
    detach(&folder).await;
    attended
}

/// The probes count on without their agent, which is what a restart needs and an end does not.
async fn detach(folder: &Folder) {
    if !folder.pins().exists() {
        return;
    }
    let command =
        tokio::process::Command::new(programs::beside_this("skep-agent")).args(parts::detach(folder)).output();
    let fault = match command.await {
        Ok(output) if output.status.success() => return,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => format!("skep-agent detach does not start: {error}"),
    };
    Screen::new(true).always(&format!("the probes stay in the kernel: {fault}"));
}

async fn attend(args: &UpArgs, folder: &Folder, ends: &mut Ends) -> Result<(), UpError> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host = if host.is_empty() { "localhost".to_owned() } else { host };
    let ensured = certificates::ensure(folder, &host, args.listen.ip(), Timestamp::now())?;
    command_key::ensure(folder)?;

    let (notices, mut heard) = Notices::channel(NOTICES);
    let mut screen = Screen::new(args.quiet);
    if !ensured.made.is_empty() {
        screen.line(&format!("made certificates: {} (in {})", ensured.made.join(", "), folder.tls("").display()));
    }
    let mut children = Children::default();
    let began_us = now_us();
    let starting = async {
        leftover::clear(folder, &notices).await;
        start_all(args, folder, &ensured.node, &notices, &mut children).await
    };
    let started = tokio::select! {
        started = telling(starting, &mut heard, &mut screen) => started,
        () = ends.next() => {
            children.stop_all().await;
            return Ok(());
        }
    };
    let listen = match started {
        Ok(listen) => listen,
        Err(error) => {
            telling(children.stop_all(), &mut heard, &mut screen).await;
            return Err(error);
        }
    };
    welcome(&mut screen, args, folder, &ensured.node, &listen);
    show(args, folder, began_us, &mut screen, &mut heard, ends).await;

    screen.close();
    screen.line("stopping");
    let finished = tokio::select! {
        summary = telling(finish(&mut children, folder.root(), began_us), &mut heard, &mut screen) => Some(summary),
        () = ends.next() => None,
    };
    let Some(summary) = finished else {
        children.stop_hard().await;
        return Err(UpError::StoppedHard);
    };
    screen.always(&format!("\n{summary}"));
    Ok(())
}

/// Works, and shows what is said meanwhile and just before.
async fn telling<T>(work: impl Future<Output = T>, heard: &mut mpsc::Receiver<Notice>, screen: &mut Screen) -> T {
    tokio::pin!(work);
    let result = loop {
        tokio::select! {
            result = &mut work => break result,
            Some(notice) = heard.recv() => screen.notice(&notice),
        }
    };
    while let Ok(notice) = heard.try_recv() {
        screen.notice(&notice);
    }
    result
}

/// Collector, executor, agent, each when the one before is ready. Returns where the collector listens.
async fn start_all(
    args: &UpArgs,
    folder: &Folder,
    node: &str,
    notices: &Notices,
    children: &mut Children,
) -> Result<String, UpError> {
    let mut collector = start(parts::collector(folder, args, &args.listen.to_string()), notices).await?;
    let endpoint = Endpoint::read(folder.root()).ok().flatten();
    let listen = endpoint.as_ref().map_or_else(|| args.listen.to_string(), |endpoint| endpoint.grpc.clone());
    let url = endpoint.map_or_else(|| format!("https://{listen}"), |endpoint| endpoint.url());
    // Port 0 was for the first life only: the agent knows the port it got.
    collector.part.args = parts::collector(folder, args, &listen).args;
    children.collector = Some(collector.keep());
    children.executor = Some(start(parts::executor(folder, args, node), notices).await?.keep());
    children.agent = Some(start(parts::agent(folder, args, node, &url), notices).await?.keep());
    Ok(listen)
}

fn welcome(screen: &mut Screen, args: &UpArgs, folder: &Folder, node: &str, listen: &str) {
    let act = if args.act { "may change this host" } else { "dry run (--act lets it change this host)" };
    screen.line(&format!("skep {} watches {node}", env!("CARGO_PKG_VERSION")));
    screen.line(&format!("  data      {}", folder.root().display()));
    screen.line(&format!("  collector {listen}"));
    screen.line(&format!("  executor  {act}"));
    let until = match args.run_for {
        Some(span) => format!("stops by itself after {}", humantime::format_duration(span)),
        None => "Ctrl-C stops it".to_owned(),
    };
    screen.line(&format!(
        "numbers come once a window ({}); {until}; in another terminal: skep top --data {}",
        humantime::format_duration(args.window),
        folder.root().display()
    ));
}

/// Numbers and notices until a signal or the end of `--for`.
async fn show(
    args: &UpArgs,
    folder: &Folder,
    began_us: i64,
    screen: &mut Screen,
    heard: &mut mpsc::Receiver<Notice>,
    ends: &mut Ends,
) {
    let end = sleep_until(Instant::now() + args.run_for.unwrap_or(LONGEST).min(LONGEST));
    tokio::pin!(end);
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let window_us = i64::try_from(args.window.as_micros()).unwrap_or(i64::MAX / 16);
    let mut newest_us = began_us - window_us;
    let mut source = None;
    loop {
        tokio::select! {
            () = ends.next() => return,
            () = &mut end => return,
            Some(notice) = heard.recv() => screen.notice(&notice),
            _ = ticks.tick() => {
                // The window that is being measured ends, is shipped and stored before its numbers are there.
                if now_us() < newest_us + 2 * window_us {
                    continue;
                }
                if source.is_none() {
                    source = Source::open(&Place::Data(folder.root().to_owned())).await.ok().filter(is_live);
                }
                let Some(asked) = &source else { continue };
                let look = Look { after_us: newest_us, window_us, began_us, now_us: now_us(), own: own_pids(folder) };
                match numbers::newest(asked, &look).await {
                    Ok(Some(numbers)) => {
                        newest_us = numbers.start_us;
                        screen.numbers(&numbers);
                    }
                    Ok(None) => {}
                    // The collector is being started again; the keeper has said so.
                    Err(_) => source = None,
                }
            }
        }
    }
}

/// This process and its children as they are now.
fn own_pids(folder: &Folder) -> Vec<i32> {
    let children = ["agent", "executor", "collector"]
        .iter()
        .filter_map(|part| std::fs::read_to_string(folder.pid(part)).ok()?.trim().parse().ok());
    children.chain(i32::try_from(std::process::id())).collect()
}

fn is_live(source: &Source) -> bool {
    matches!(source, Source::Live(_))
}

/// Stops the feeders, takes stock, stops the collector.
async fn finish(children: &mut Children, data: &Path, began_us: i64) -> String {
    children.stop_feeders().await;
    let summary = match Source::open(&Place::Data(data.to_owned())).await {
        Ok(source) => summary::gather(&source, began_us).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    children.stop_all().await;
    summary.map_or_else(|reason| format!("no summary: {reason}"), |summary| summary.text(data))
}
