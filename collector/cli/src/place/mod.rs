//! Where to ask: flags over environment over configuration file over the default folder.
//!
//! A level that names a folder or a collector hides the levels below it; the certificates of a collector may come from
//! any level.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use serde::Deserialize;
use thiserror::Error;

/// Folder used when nothing names one.
pub const DEFAULT_DATA: &str = "/var/lib/skep";

/// Flags of every command that reads.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Where to ask")]
pub struct PlaceArgs {
    /// Data folder of `skep up`; answers with or without a running collector [env: SKEP_DATA]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with_all = ["collector", "tls"])]
    pub data: Option<PathBuf>,
    /// A collector elsewhere, as https://HOST:PORT [env: SKEP_COLLECTOR]
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub collector: Option<String>,
    /// Folder with ca.pem, operator.pem and operator.key for it [env: SKEP_TLS]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub tls: Option<PathBuf>,
}

/// Where to ask, decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A data folder, with or without a running collector.
    Data(PathBuf),
    /// A collector elsewhere.
    Collector {
        /// `https://host:port`.
        url: String,
        /// Folder with the authority's and the operator's files.
        tls: PathBuf,
    },
}

/// Why it could not be decided.
#[derive(Debug, Error)]
pub enum PlaceError {
    /// One level names both.
    #[error("{level} names both a data folder and a collector: keep one")]
    Both {
        /// `the environment` or the file.
        level: String,
    },
    /// A collector without certificates.
    #[error(
        "collector {url} needs a folder with ca.pem, operator.pem and operator.key: pass --tls DIR or set SKEP_TLS"
    )]
    NoTls {
        /// As given.
        url: String,
    },
    /// Not a URL a collector can have.
    #[error("{url:?} is not a collector's address: {reason} (want https://HOST:PORT)")]
    BadUrl {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The configuration file is there and cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The configuration file is not what it should be.
    #[error("{} is no client configuration", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// Line and reason.
        #[source]
        source: Box<toml::de::Error>,
    },
}

/// The outside as far as this file needs it, so that tests bring their own.
pub trait Surroundings {
    /// An environment variable; empty counts as unset.
    fn var(&self, name: &str) -> Option<OsString>;
    /// A file's text, `None` when it does not exist.
    ///
    /// # Errors
    /// Any other reason it cannot be read.
    fn file(&self, path: &Path) -> io::Result<Option<String>>;
}

/// The real one.
#[derive(Debug, Clone, Copy)]
pub struct Process;

impl Surroundings for Process {
    fn var(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name).filter(|value| !value.is_empty())
    }

    fn file(&self, path: &Path) -> io::Result<Option<String>> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// `client.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientFile {
    data: Option<PathBuf>,
    collector: Option<String>,
    tls: Option<PathBuf>,
}

struct Level {
    name: String,
    data: Option<PathBuf>,
    collector: Option<String>,
    tls: Option<PathBuf>,
}

/// Decides where to ask.
///
/// # Errors
/// [`PlaceError`]: nothing was tried yet; the command line or a file has to change.
pub fn resolve(args: &PlaceArgs, around: &dyn Surroundings) -> Result<Place, PlaceError> {
    let mut levels = vec![
        Level {
            name: "the command line".to_owned(),
            data: args.data.clone(),
            collector: args.collector.clone(),
            tls: args.tls.clone(),
        },
        Level {
            name: "the environment".to_owned(),
            data: around.var("SKEP_DATA").map(PathBuf::from),
            collector: around.var("SKEP_COLLECTOR").map(|url| url.to_string_lossy().into_owned()),
            tls: around.var("SKEP_TLS").map(PathBuf::from),
        },
    ];
    levels.extend(client_file(around)?);
    for level in &levels {
        match (&level.data, &level.collector) {
            (Some(_), Some(_)) => return Err(PlaceError::Both { level: level.name.clone() }),
            (Some(data), None) => return Ok(Place::Data(data.clone())),
            (None, Some(given)) => {
                let url = check_url(given)?;
                let tls = levels.iter().find_map(|level| level.tls.clone());
                let tls = tls.ok_or_else(|| PlaceError::NoTls { url: url.clone() })?;
                return Ok(Place::Collector { url, tls });
            }
            (None, None) => {}
        }
    }
    Ok(Place::Data(PathBuf::from(DEFAULT_DATA)))
}

/// The user's file, else the system's; the first that exists counts alone.
fn client_file(around: &dyn Surroundings) -> Result<Option<Level>, PlaceError> {
    let user = around
        .var("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| around.var("HOME").map(|home| PathBuf::from(home).join(".config")))
        .map(|folder| folder.join("skep/client.toml"));
    for path in user.into_iter().chain([PathBuf::from("/etc/skep/client.toml")]) {
        let text = around.file(&path).map_err(|source| PlaceError::Unreadable { path: path.clone(), source })?;
        let Some(text) = text else { continue };
        let file: ClientFile = toml::from_str(&text)
            .map_err(|source| PlaceError::BadFile { path: path.clone(), source: Box::new(source) })?;
        return Ok(Some(Level {
            name: path.display().to_string(),
            data: file.data,
            collector: file.collector,
            tls: file.tls,
        }));
    }
    Ok(None)
}

fn check_url(given: &str) -> Result<String, PlaceError> {
    let bad = |reason| PlaceError::BadUrl { url: given.to_owned(), reason };
    let rest = match given.split_once("://") {
        Some(("https", rest)) => rest,
        Some(("http", _)) => return Err(bad("collectors speak TLS only")),
        Some(_) => return Err(bad("unknown scheme")),
        None => given,
    };
    let authority = rest.trim_end_matches('/');
    if authority.contains('/') {
        return Err(bad("a path after the port"));
    }
    let port = authority.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(port)) if port > 0 => Ok(format!("https://{authority}")),
        _ => Err(bad("no port")),
    }
}

#[cfg(test)]
mod tests;
