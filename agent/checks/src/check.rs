//! One check, as the settings ask for it.

use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;

use crate::figure::Limits;
use skep_runtime::secret::Secret;

/// A check.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// Its name, unique on this host.
    pub name: String,
    /// How it asks.
    pub way: Way,
    /// What it asks, for people; no secret is in it.
    pub target: String,
    /// Time between two runs.
    pub interval: Duration,
    /// How long a run may take.
    pub timeout: Duration,
    /// Failed runs in a row that are let pass.
    pub retries: u32,
    /// Whether somebody should be woken.
    pub critical: bool,
    /// Names of checks without which this one cannot be well.
    pub depends_on: Vec<String>,
    /// Workload it belongs to, as in other tables.
    pub workload: String,
    /// How far the server's figures may go.
    pub limits: Limits,
}

/// How a check asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Way {
    /// A request to a web server.
    Http(Http),
    /// A connection.
    Tcp {
        /// `HOST:PORT`.
        address: String,
    },
    /// The health service of gRPC, version 1.
    Grpc(Grpc),
    /// A program of this host.
    Command {
        /// The program and its arguments; no shell looks at them.
        argv: Vec<String>,
        /// What it exits with when all is well.
        exit_code: i32,
    },
    /// A unit of systemd.
    Unit {
        /// Its name.
        name: String,
        /// Active states in which it is well.
        states: Vec<String>,
    },
    /// A PostgreSQL server.
    Postgres(Postgres),
    /// A Redis server.
    Redis(Redis),
}

/// A request to a web server.
#[derive(Debug, Clone, PartialEq)]
pub struct Http {
    /// Where.
    pub url: Uri,
    /// Answers that are well; empty for 200 to 399.
    pub status: Vec<u16>,
    /// What the answer must hold.
    pub body_contains: Option<String>,
    /// Authorities to trust beside the system's, PEM.
    pub ca: Option<PathBuf>,
    /// Bearer token.
    pub token: Option<Secret>,
}

/// The health service of gRPC.
#[derive(Debug, Clone, PartialEq)]
pub struct Grpc {
    /// Where.
    pub url: Uri,
    /// Of which service; empty for the server as a whole.
    pub service: String,
    /// Authorities to trust beside the system's, PEM.
    pub ca: Option<PathBuf>,
}

/// A PostgreSQL server.
#[derive(Debug, Clone, PartialEq)]
pub struct Postgres {
    /// As libpq takes it, without a password.
    pub url: String,
    /// Password.
    pub password: Option<Secret>,
    /// Authorities to trust beside the system's, PEM.
    pub ca: Option<PathBuf>,
    /// A query that runs for longer is slow.
    pub slow_after: Duration,
    /// Its cache is not judged before it has been up for so long.
    pub warm_after: Duration,
}

/// A Redis server.
#[derive(Debug, Clone, PartialEq)]
pub struct Redis {
    /// `HOST:PORT`, or the path of a socket.
    pub address: String,
    /// Name, where the server has several users.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// Its cache is not judged before it has been up for so long.
    pub warm_after: Duration,
}

impl Way {
    /// As in settings and tables.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Tcp { .. } => "tcp",
            Self::Grpc(_) => "grpc",
            Self::Command { .. } => "command",
            Self::Unit { .. } => "unit",
            Self::Postgres(_) => "postgres",
            Self::Redis(_) => "redis",
        }
    }
}
