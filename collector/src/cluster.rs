//! The cluster, where the collector may act on one: to the responder it is one more node, with a session of its own.
//!
//! `skep_kubernetes` does the acting. Its words come here and go on to the responder; commands for the node
//! [`order::CLUSTER`] go down its session like any other.

use std::path::PathBuf;
use std::sync::Arc;

use prost::Message;
use skep_kubernetes::{Settings, Task, Word};
use skep_runtime::clock::Clock;
use skep_wire::order;
use skep_wire::v1::{self, down};
use tokio::sync::mpsc;

use crate::folder::Folder;
use crate::ingest::registry::{Registry, Tally};
use crate::respond::Ask;

/// Commands that may wait for the cluster; what does not fit was never sent.
const COMMANDS: usize = 16;

/// What is wired up.
#[derive(Debug)]
pub struct Cluster {
    settings: Settings,
    /// Folder of the journal.
    journal: PathBuf,
    clock: Clock,
    /// Where commands come from.
    registry: Arc<Registry>,
    /// Who hears of it.
    asks: mpsc::Sender<Ask>,
}

impl Cluster {
    /// By the settings, with its journal in the data folder.
    pub fn of(
        settings: &Settings,
        folder: &Folder,
        clock: &Clock,
        (registry, asks): (&Arc<Registry>, &mpsc::Sender<Ask>),
    ) -> Self {
        Self {
            settings: settings.clone(),
            journal: folder.cluster(),
            clock: clock.clone(),
            registry: Arc::clone(registry),
            asks: asks.clone(),
        }
    }

    /// Serves until the responder is gone, where there is a cluster.
    pub async fn run(self) {
        if !self.settings.enabled {
            return;
        }
        let Self { settings, journal, clock, registry, asks } = self;
        let (words, mut heard) = mpsc::channel(1);
        let (commands, to_do) = mpsc::channel(1);
        let task = Task { settings, dir: journal, clock: clock.clone(), words, commands: to_do };
        let acting = tokio::spawn(task.run());
        let mut session = None;
        while let Some(word) = heard.recv().await {
            let ask = match word {
                Word::Connected { identity, version } => {
                    let (down, orders) = mpsc::channel(COMMANDS);
                    let hello = v1::Hello {
                        node: order::CLUSTER.to_owned(),
                        boot: identity.clone(),
                        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
                        kernel_release: format!("Kubernetes {version}"),
                        ..v1::Hello::default()
                    };
                    session = Some(registry.begin(&hello, down, clock.wall_us()));
                    tokio::spawn(forward(orders, commands.clone()));
                    Ask::Cluster { identity }
                }
                Word::Seen => {
                    registry.seen(order::CLUSTER, clock.wall_us(), Tally::default(), None);
                    continue;
                }
                Word::Receipt { receipt, stored } => Ask::Receipt { receipt, stored },
            };
            if asks.send(ask).await.is_err() {
                break;
            }
        }
        acting.abort();
        if let Some(session) = session {
            registry.end(order::CLUSTER, session);
            let gone = Ask::Disconnected { node: order::CLUSTER.to_owned(), left: false };
            // The responder is gone only while stopping.
            let _stopping = asks.send(gone).await.is_err();
        }
    }
}

/// Commands one after another: while one is begun the others wait here.
async fn forward(mut orders: mpsc::Receiver<v1::Down>, commands: mpsc::Sender<v1::Command>) {
    while let Some(order) = orders.recv().await {
        let Some(down::Message::Command(signed)) = order.message else { continue };
        // They come from this very process; what may be done is in the settings.
        match v1::Command::decode(signed.command.as_slice()) {
            Ok(command) => {
                if commands.send(command).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::error!(%error, "a command for the cluster does not read"),
        }
    }
}
