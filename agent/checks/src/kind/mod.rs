//! The ways to ask, a file each.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use thiserror::Error;

use crate::check::Way;
use crate::figure::{Figure, Growth, Share};
use skep_runtime::secret::SecretError;

mod command;

mod grpc;

mod http;

mod postgres;

mod postgres_tls;

mod redis;

mod tcp;

mod tls;

mod unit;

/// What a check remembers between its runs.
#[derive(Debug, Default)]
pub struct Memory {
    /// Hits of a cache.
    hits: Share,
    rejected: Growth,
    evicted: Growth,
    /// Whom it trusts; made anew after a failure, should a file have been replaced.
    tls: Option<Arc<ClientConfig>>,
}

impl Memory {
    /// The share of a cache's hits, once enough was asked for; none, and nothing that counts later, while a server is up
    /// for less than `warm_after`.
    fn hit_ratio(
        &mut self,
        (hits, all, enough): (f64, f64, f64),
        up_s: Option<f64>,
        warm_after: Duration,
    ) -> Option<f64> {
        if up_s.is_some_and(|up_s| up_s < warm_after.as_secs_f64()) {
            self.hits.pass_over(hits, all);
            return None;
        }
        self.hits.take(hits, all, enough)
    }
}

/// Why a run failed.
#[derive(Debug, Error)]
pub enum Fault {
    /// Nobody answers there.
    #[error("no connection to {address}")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// It broke off.
    #[error("the connection broke")]
    Broken(#[source] std::io::Error),
    /// TLS.
    #[error("TLS failed")]
    Tls(#[source] std::io::Error),
    /// Whom to trust.
    #[error(transparent)]
    Trust(#[from] tls::TrustError),
    /// A secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// It does not speak HTTP as it should.
    #[error("no answer in HTTP")]
    Http(#[source] hyper::Error),
    /// The request cannot be made of the settings.
    #[error("the request cannot be made")]
    Request(#[source] hyper::http::Error),
    /// Another status.
    #[error("it answered with status {found}")]
    Status {
        /// Which.
        found: u16,
    },
    /// Another answer.
    #[error("the answer does not contain {wanted:?}; it begins with {begins:?}")]
    Body {
        /// What was wanted.
        wanted: String,
        /// What came.
        begins: String,
    },
    /// No gRPC.
    #[error("no gRPC connection")]
    Channel(#[source] tonic::transport::Error),
    /// The health service refuses.
    #[error("the health service answered {code}: {message}")]
    Health {
        /// Status code, in words.
        code: String,
        /// What it said.
        message: String,
    },
    /// It is not serving.
    #[error("the health service says {found}")]
    NotServing {
        /// What it says.
        found: String,
    },
    /// A program does not start.
    #[error("{program} does not start")]
    Spawn {
        /// Which.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// A program says no.
    #[error("it ended with {status}{said}")]
    Exit {
        /// How it ended.
        status: String,
        /// What it printed last, with a colon in front; may be empty.
        said: String,
    },
    /// systemd does not answer.
    #[error("systemd cannot be asked")]
    Systemd(#[source] zbus::Error),
    /// A unit is not as it should be.
    #[error("the unit is {found}")]
    Unit {
        /// What it is.
        found: String,
    },
    /// PostgreSQL says no.
    #[error("PostgreSQL")]
    Postgres(#[source] tokio_postgres::Error),
    /// Its answer has another shape.
    #[error("the answer lacks {what}")]
    Shape {
        /// What.
        what: &'static str,
    },
    /// Redis says no.
    #[error("Redis says {said:?}")]
    Redis {
        /// Its words.
        said: String,
    },
    /// A replica has lost whom it follows.
    #[error("the link to the primary {primary} is down")]
    Link {
        /// Whom.
        primary: String,
    },
}

/// Asks once. Figures are written down as they come, so that they are there when it fails later.
///
/// # Errors
/// [`Fault`]: it is not well.
pub async fn ask(way: &Way, memory: &mut Memory, figures: &mut Vec<Figure>) -> Result<(), Fault> {
    let result = match way {
        Way::Http(wanted) => http::ask(wanted, memory, figures).await,
        Way::Tcp { address } => tcp::connect(address).await.map(drop),
        Way::Grpc(wanted) => grpc::ask(wanted).await,
        Way::Command { argv, exit_code } => command::ask(argv, *exit_code).await,
        Way::Unit { name, states } => unit::ask(name, states).await,
        Way::Postgres(server) => postgres::ask(server, memory, figures).await,
        Way::Redis(server) => redis::ask(server, memory, figures).await,
    };
    if result.is_err() {
        memory.tls = None;
    }
    result
}
