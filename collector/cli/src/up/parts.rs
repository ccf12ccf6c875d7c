//! The three programs: how each is called and when it is ready.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::UpArgs;
use super::folder::Folder;
use crate::connect::{Endpoint, Source};
use crate::place::Place;
use crate::programs;

/// How one program is started.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// `collector`, `executor`, `agent`.
    pub(super) name: &'static str,
    pub(super) program: PathBuf,
    pub(super) args: Vec<OsString>,
    pub(super) log: PathBuf,
    pub(super) pid: PathBuf,
    pub(super) ready: Ready,
    /// How long it may take to get ready.
    pub(super) start_within: Duration,
    /// How long it may take to stop in order.
    pub(super) stop_within: Duration,
}

/// What says that a program does its work.
#[derive(Debug, Clone)]
pub(super) enum Ready {
    /// The folder's endpoint names this very process, and it answers.
    Endpoint(PathBuf),
    /// Its socket accepts.
    Socket(PathBuf),
    /// The collector of this folder has the node's session.
    Connected { data: PathBuf, node: String },
}

impl Ready {
    /// Whether the program with this process id does its work now.
    pub(super) async fn check(&self, pid: u32) -> bool {
        match self {
            Self::Endpoint(data) => {
                // Half written is not ready yet.
                let named = matches!(Endpoint::read(data), Ok(Some(endpoint)) if endpoint.pid == pid);
                named && matches!(Source::open(&Place::Data(data.clone())).await, Ok(Source::Live(_)))
            }
            Self::Socket(path) => tokio::net::UnixStream::connect(path).await.is_ok(),
            Self::Connected { data, node } => connected(data, node).await,
        }
    }
}

async fn connected(data: &Path, node: &str) -> bool {
    let Ok(Source::Live(live)) = Source::open(&Place::Data(data.to_owned())).await else { return false };
    live.nodes().await.is_ok_and(|nodes| nodes.iter().any(|seen| seen.node == node && seen.connected))
}

struct Line(Vec<OsString>);

impl Line {
    fn flag(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.0.push(name.into());
        self.0.push(value.into());
        self
    }

    fn switch(mut self, name: &str, on: bool) -> Self {
        if on {
            self.0.push(name.into());
        }
        self
    }
}

fn part(name: &'static str, folder: &Folder, line: Line, ready: Ready) -> Part {
    Part {
        name,
        program: programs::beside_this(&format!("skep-{name}")),
        args: line.0,
        log: folder.log(name),
        pid: folder.pid(name),
        ready,
        start_within: Duration::from_secs(60),
        stop_within: Duration::from_secs(20),
    }
}

/// The collector; `listen` is `host:port`.
pub(super) fn collector(folder: &Folder, args: &UpArgs, listen: &str) -> Part {
    let mut line = Line(vec!["serve".into()])
        .flag("--data", folder.root())
        .flag("--listen", listen)
        .flag("--ca", folder.tls("ca.pem"))
        .flag("--cert", folder.tls("collector.pem"))
        .flag("--key", folder.tls("collector.key"))
        .flag("--command-key", folder.keys("command.key"));
    if let Some(policy) = &args.policy {
        line = line.flag("--policy", policy);
    }
    let mut part = part("collector", folder, line, Ready::Endpoint(folder.root().to_owned()));
    // It writes what it holds in memory to Parquet first.
    part.stop_within = Duration::from_secs(90);
    part
}

/// The executor.
pub(super) fn executor(folder: &Folder, args: &UpArgs, node: &str) -> Part {
    let line = Line(Vec::new())
        .flag("--socket", folder.executor_socket())
        .flag("--state-dir", folder.executor())
        .flag("--trusted-key", folder.keys("command.pub"))
        .flag("--node", node)
        .switch("--act", args.act);
    part("executor", folder, line, Ready::Socket(folder.executor_socket()))
}

/// Arguments of the agent's program with which it removes what it left in the kernel.
pub(super) fn detach(folder: &Folder) -> [OsString; 3] {
    ["detach".into(), "--pin".into(), folder.pins().into()]
}

/// The agent; `grpc` is where the collector listens.
pub(super) fn agent(folder: &Folder, args: &UpArgs, node: &str, collector_url: &str) -> Part {
    let line = Line(Vec::new())
        .flag("--collector", collector_url)
        .flag("--ca", folder.tls("ca.pem"))
        .flag("--cert", folder.tls("agent.pem"))
        .flag("--key", folder.tls("agent.key"))
        .flag("--state-dir", folder.agent())
        .flag("--pin", folder.pins())
        .flag("--window", humantime::format_duration(args.window).to_string())
        .flag("--executor-socket", folder.executor_socket());
    let ready = Ready::Connected { data: folder.root().to_owned(), node: node.to_owned() };
    part("agent", folder, line, ready)
}
