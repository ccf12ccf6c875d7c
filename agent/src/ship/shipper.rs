//! Sessions for ever, with one collector or another, and pauses in between.

use std::path::PathBuf;
use std::time::Duration;

use skep_runtime::backoff::Backoff;
use skep_wire::v1;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::transport::{Channel, Uri};

use super::acknowledged::Acknowledged;
use super::choice::Choice;
use super::connect::{connect, explain};
use super::credentials::{CredentialPaths, Credentials};
use super::memory::Memory;
use super::session::{self, Callee, Ended, SessionContext, SessionEnd};

/// Waits between two looks at credentials that are of no use.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What the agent says of itself in every hello.
#[derive(Debug, Clone, Default)]
pub struct Greeting {
    /// Node name, from the certificate the agent started with.
    pub node: String,
    /// Kernel boot id.
    pub boot: String,
    /// `uname -r`.
    pub kernel_release: String,
    /// Attached probes.
    pub probes: Vec<String>,
    /// What could not be attached, with the reason.
    pub missing: Vec<String>,
}

/// Sends the spool to a collector.
#[derive(Debug)]
pub struct Shipper {
    /// `https://HOST:PORT`, the one it prefers first; at least one.
    pub collectors: Vec<Uri>,
    /// How long to stay with another than the first before that is looked for; `None` for ever.
    pub return_after: Option<Duration>,
    /// Read anew for every connection, so that renewed ones are used.
    pub credentials: CredentialPaths,
    /// Where it is written down which collector has what.
    pub state_dir: PathBuf,
    /// Who is calling.
    pub greeting: Greeting,
    /// The rest of the agent.
    pub context: SessionContext,
}

impl Shipper {
    /// Runs until told to stop. Whatever goes wrong is told once and tried again, there or elsewhere.
    pub async fn run(mut self) {
        let mut choice = Choice::new(self.collectors.len(), self.return_after, Instant::now());
        let mut own = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut told: Vec<Option<String>> = vec![None; self.collectors.len()];
        let mut memory = Memory::open(&self.state_dir, &self.collectors);
        let mut acknowledged = memory.saved().clone();
        let mut open = None;
        loop {
            let place = choice.current();
            let Tried { came_to, served } = self.once(place, choice.stay(), open.take(), &mut acknowledged).await;
            memory.save(&acknowledged, &self.collectors).await;
            if served {
                choice.served();
                told[place] = None;
            }
            let (line, wait) = match came_to {
                CameTo::Again => continue,
                CameTo::Stop => return,
                CameTo::Better(better, channel) => {
                    choice.go_back(better);
                    open = Some(channel);
                    continue;
                }
                CameTo::OwnTrouble(line) => (line, own.next_wait()),
                CameTo::Trouble(line) => {
                    own.reset();
                    (line, choice.failed(Instant::now()))
                }
            };
            if told[place].as_ref() == Some(&line) {
                tracing::debug!("{line}; trying again");
            } else {
                match self.collectors.get(choice.current()).filter(|_| choice.current() != place && wait.is_zero()) {
                    Some(next) => tracing::error!("{line}; going on with {next}"),
                    None => tracing::error!("{line}; batches wait in the spool"),
                }
                told[place] = Some(line);
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.context.stop.stopped() => return,
            }
        }
    }

    /// One session with the collector at `place`, over `open` if that is there.
    async fn once(
        &self,
        place: usize,
        stay: Option<Duration>,
        open: Option<Channel>,
        acknowledged: &mut Acknowledged,
    ) -> Tried {
        let Some(collector) = self.collectors.get(place) else { return CameTo::Stop.into() };
        let credentials = match self.credentials() {
            Ok(credentials) => credentials,
            Err(line) => return CameTo::OwnTrouble(line).into(),
        };
        let mut stop = self.context.stop.clone();
        let channel = match open {
            Some(channel) => Ok(channel),
            None => tokio::select! {
                channel = connect(collector, &credentials) => channel,
                () = stop.stopped() => return CameTo::Stop.into(),
            },
        };
        let channel = match channel {
            Ok(channel) => channel,
            Err(error) => return CameTo::Trouble(explain(collector, &error)).into(),
        };
        let (go, leave) = oneshot::channel();
        let callee = Callee { channel, place, acknowledged, leave };
        let session = session::run(callee, self.hello(place), self.context.clone(), |welcome| {
            tracing::info!(%collector, version = %welcome.collector_version, "connected");
        });
        tokio::pin!(session);
        let (Ended { end, served }, better) = tokio::select! {
            ended = &mut session => (ended, None),
            (better, channel) = self.look_for_better(place, stay) => {
                // An error means that the session has just ended by itself.
                let _ended = go.send(()).is_err();
                (session.await, Some((better, channel)))
            }
        };
        let came_to = match (end, better) {
            (SessionEnd::Left, Some((better, channel))) => CameTo::Better(better, channel),
            (end, _) => judge(collector, end),
        };
        Tried { came_to, served }
    }

    /// Waits until a collector in front of `place` can be reached.
    async fn look_for_better(&self, place: usize, stay: Option<Duration>) -> (usize, Channel) {
        let Some(stay) = stay else { return std::future::pending().await };
        loop {
            tokio::time::sleep(stay).await;
            let Ok(credentials) = self.credentials() else { continue };
            for (better, collector) in self.collectors.iter().enumerate().take(place) {
                match connect(collector, &credentials).await {
                    Ok(channel) => {
                        tracing::info!(%collector, "can be reached again; going back to it");
                        return (better, channel);
                    }
                    Err(error) => tracing::debug!("{}; staying", explain(collector, &error)),
                }
            }
        }
    }

    /// What to connect with.
    fn credentials(&self) -> Result<Credentials, String> {
        let credentials = Credentials::load(&self.credentials).map_err(|error| crate::error::chain(&error))?;
        if credentials.node != self.greeting.node {
            let (now, then) = (&credentials.node, &self.greeting.node);
            return Err(format!("the certificate now names this node {now}, it was {then}: restart the agent"));
        }
        let now_s = self.context.clock.wall_us() / 1_000_000;
        let expiry = credentials.check_expiry(&self.credentials.cert, now_s);
        expiry.map_err(|error| crate::error::chain(&error)).map(|()| credentials)
    }

    fn hello(&self, place: usize) -> v1::Hello {
        let Greeting { node, boot, kernel_release, probes, missing } = self.greeting.clone();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        v1::Hello {
            node,
            boot,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel_release,
            wire_revision: skep_wire::WIRE_REVISION,
            probes,
            missing,
            collector_place: count(place + 1),
            collectors: count(self.collectors.len()),
            // The session knows.
            stream: String::new(),
            acknowledged_seq: 0,
            elsewhere: Vec::new(),
        }
    }
}

fn judge(collector: &Uri, end: SessionEnd) -> CameTo {
    match end {
        SessionEnd::NextStream | SessionEnd::Left => CameTo::Again,
        SessionEnd::Stopped | SessionEnd::SpoolGone => CameTo::Stop,
        SessionEnd::Status(status) => CameTo::Trouble(match status.code() {
            tonic::Code::Unavailable | tonic::Code::Unknown => explain(collector, status.as_ref()),
            code => format!("{collector}: the collector refused: {code:?}: {}", status.message()),
        }),
        other => CameTo::Trouble(format!("{collector}: {other}")),
    }
}

/// A try, and whether the collector took something in it.
struct Tried {
    came_to: CameTo,
    served: bool,
}

impl From<CameTo> for Tried {
    fn from(came_to: CameTo) -> Self {
        Self { came_to, served: false }
    }
}

/// What a try came to.
enum CameTo {
    /// Go on at once.
    Again,
    /// Go on with a collector that is better, over this connection.
    Better(usize, Channel),
    /// Go on after a pause, and say why; another collector would not help.
    OwnTrouble(String),
    /// Go on with whichever is next, and say why.
    Trouble(String),
    /// Do not go on.
    Stop,
}
