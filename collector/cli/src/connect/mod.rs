//! Asking: a running collector over mutual TLS, or the collector program over a folder when there is none.
//!
//! [`Source`] hides which of the two it is from every command that only reads. What changes something, or follows what
//! happens now, needs [`Source::live`] and fails with [`ConnectError::CollectorNeeded`] without.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::place::Place;

mod answer;

mod endpoint;

mod folder;

mod handshake;

mod live;

pub use answer::{Answer, AskError};
pub use endpoint::Endpoint;
pub use folder::Folder;
pub use live::{Live, Tls};

/// Why there is nobody to ask.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The folder is not there.
    #[error("no data folder at {}: start one with `skep up --data {}`, or name another with --data", data.display(), data.display())]
    NoFolder {
        /// As resolved.
        data: PathBuf,
    },
    /// A file of the folder or of the certificates cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The folder's endpoint.json is not what a collector writes.
    #[error("{} is not what a collector writes", path.display())]
    BadEndpoint {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The certificates cannot be used.
    #[error("the certificates in {} cannot be used", tls.display())]
    BadTls {
        /// The folder.
        tls: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nobody listens there.
    #[error("collector {url} is not reachable: connection refused")]
    NobodyListens {
        /// `https://host:port`.
        url: String,
    },
    /// Nobody answers there, or somebody our authority did not sign.
    #[error("collector {url} is not reachable: {reason}")]
    NotReachable {
        /// `https://host:port`.
        url: String,
        /// The innermost reason.
        reason: String,
    },
    /// The collector did not accept our certificate.
    #[error("collector {url} refused this operator's certificate: {reason}")]
    Refused {
        /// `https://host:port`.
        url: String,
        /// The innermost reason.
        reason: String,
    },
    /// The command cannot be answered from files.
    #[error("{what} needs a running collector and none runs on {}", data.display())]
    CollectorNeeded {
        /// The command.
        what: &'static str,
        /// The folder.
        data: PathBuf,
    },
}

/// Somebody to ask.
#[derive(Debug, Clone)]
pub enum Source {
    /// A running collector.
    Live(Live),
    /// A folder nobody runs on.
    Folder(Folder),
}

impl Source {
    /// Finds out who answers at `place`.
    ///
    /// # Errors
    /// [`ConnectError`]. A folder whose collector is gone is no error: its files answer.
    pub async fn open(place: &Place) -> Result<Self, ConnectError> {
        match place {
            Place::Collector { url, tls } => Ok(Self::Live(Live::connect(url, &Tls::read(tls)?).await?)),
            Place::Data(data) => {
                if let Some(endpoint) = Endpoint::read(data)? {
                    match Live::connect(&endpoint.url(), &Tls::read(&data.join("tls"))?).await {
                        // A collector that was killed leaves its endpoint behind.
                        Err(ConnectError::NobodyListens { .. }) => {}
                        connected => return Ok(Self::Live(connected?)),
                    }
                }
                Ok(Self::Folder(Folder::open(data)?))
            }
        }
    }

    /// Asks one statement.
    ///
    /// # Errors
    /// [`AskError`], also while reading the answer.
    pub async fn ask(&self, sql: &str) -> Result<Answer, AskError> {
        self.ask_within(sql, None).await
    }

    /// Asks one statement that may take so long; whole seconds, upwards, and no longer than the collector allows.
    ///
    /// # Errors
    /// As [`Source::ask`].
    pub async fn ask_within(&self, sql: &str, timeout: Option<Duration>) -> Result<Answer, AskError> {
        let timeout_s = timeout.map(|timeout| timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0));
        match self {
            Self::Live(live) => live.ask(sql, timeout_s).await,
            Self::Folder(folder) => folder.ask(sql, timeout_s).await,
        }
    }

    /// The running collector.
    ///
    /// # Errors
    /// [`ConnectError::CollectorNeeded`] naming `what`.
    pub fn live(&self, what: &'static str) -> Result<&Live, ConnectError> {
        match self {
            Self::Live(live) => Ok(live),
            Self::Folder(folder) => Err(ConnectError::CollectorNeeded { what, data: folder.data().to_owned() }),
        }
    }
}
