//! Sessions for ever, with pauses in between.

use std::time::Duration;

use skep_runtime::backoff::Backoff;
use skep_wire::v1;
use tonic::transport::Uri;

use super::connect::{connect, explain};
use super::credentials::{CredentialPaths, Credentials};
use super::session::{self, Acknowledged, SessionContext, SessionEnd};

/// Waits between two tries.
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

/// Sends the spool to the collector.
#[derive(Debug)]
pub struct Shipper {
    /// `https://HOST:PORT`.
    pub collector: Uri,
    /// Read anew for every connection, so that renewed ones are used.
    pub credentials: CredentialPaths,
    /// Who is calling.
    pub greeting: Greeting,
    /// The rest of the agent.
    pub context: SessionContext,
}

impl Shipper {
    /// Runs until told to stop. Whatever goes wrong is told once and tried again.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut told: Option<String> = None;
        let mut acknowledged = Acknowledged::default();
        loop {
            let mut welcomed = false;
            let trouble = self.once(&mut acknowledged, &mut welcomed).await;
            if welcomed {
                backoff.reset();
                told = None;
            }
            match trouble {
                Trouble::None => continue,
                Trouble::End => return,
                Trouble::Line(line) if told.as_ref() == Some(&line) => tracing::debug!("{line}; trying again"),
                Trouble::Line(line) => {
                    tracing::error!("{line}; batches wait in the spool");
                    told = Some(line);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next_wait()) => {}
                () = self.context.stop.stopped() => return,
            }
        }
    }

    async fn once(&self, acknowledged: &mut Acknowledged, welcomed: &mut bool) -> Trouble {
        let credentials = match Credentials::load(&self.credentials) {
            Ok(credentials) => credentials,
            Err(error) => return Trouble::Line(crate::error::chain(&error)),
        };
        if credentials.node != self.greeting.node {
            let (now, then) = (&credentials.node, &self.greeting.node);
            return Trouble::Line(format!(
                "the certificate now names this node {now}, it was {then}: restart the agent"
            ));
        }
        let now_s = self.context.clock.wall_us() / 1_000_000;
        if let Err(error) = credentials.check_expiry(&self.credentials.cert, now_s) {
            return Trouble::Line(crate::error::chain(&error));
        }
        let mut stop = self.context.stop.clone();
        let channel = tokio::select! {
            channel = connect(&self.collector, &credentials) => channel,
            () = stop.stopped() => return Trouble::End,
        };
        let channel = match channel {
            Ok(channel) => channel,
            Err(error) => return Trouble::Line(explain(&self.collector, &error)),
        };
        let collector = &self.collector;
        let end = session::run(channel, self.hello(), self.context.clone(), acknowledged, |welcome| {
            *welcomed = true;
            tracing::info!(%collector, version = %welcome.collector_version, "connected");
        });
        self.judge(end.await)
    }

    fn judge(&self, end: SessionEnd) -> Trouble {
        match end {
            SessionEnd::NextStream => Trouble::None,
            SessionEnd::Stopped | SessionEnd::SpoolGone => Trouble::End,
            SessionEnd::Status(status) => Trouble::Line(match status.code() {
                tonic::Code::Unavailable | tonic::Code::Unknown => explain(&self.collector, status.as_ref()),
                code => format!("{}: the collector refused: {code:?}: {}", self.collector, status.message()),
            }),
            other => Trouble::Line(format!("{}: {other}", self.collector)),
        }
    }

    fn hello(&self) -> v1::Hello {
        let Greeting { node, boot, kernel_release, probes, missing } = self.greeting.clone();
        v1::Hello {
            node,
            boot,
            stream: String::new(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel_release,
            wire_revision: skep_wire::WIRE_REVISION,
            probes,
            missing,
            // The session knows.
            acknowledged_seq: 0,
        }
    }
}

/// What a try came to.
enum Trouble {
    /// Go on at once.
    None,
    /// Go on after a pause, and say why.
    Line(String),
    /// Do not go on.
    End,
}
