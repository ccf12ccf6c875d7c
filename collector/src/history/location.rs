//! Which place a history is in, as people name it.
//!
//! `file:///path` is a folder, `s3://bucket/prefix` a part of a bucket. Of the latter's store, what other tools are told
//! holds here too: credentials and region in `AWS_*`, another endpoint in `AWS_ENDPOINT_URL`, and HTTP without TLS only
//! with `AWS_ALLOW_HTTP=true`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::{ObjectStore, RetryConfig};
use skep_seglog::Disk;
use thiserror::Error;

use super::bucket::Bucket;
use super::folders::Folders;
use super::parquet_file::create_dir_durably;
use super::place::SharedPlace;

/// How long and how often one request is tried again: whoever waits for it has to be told, and tries again later.
const RETRY_WITHIN: Duration = Duration::from_secs(15);
const RETRIES: usize = 6;

const FILE: &str = "file://";
const S3: &str = "s3://";

/// The place of a history.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Location {
    /// A folder, by its whole path.
    Folder(PathBuf),
    /// A part of a bucket.
    S3 {
        /// Which bucket.
        bucket: String,
        /// Where in it, without slashes at the ends; the whole bucket where it is empty.
        prefix: String,
    },
}

/// Why there is no such place.
#[derive(Debug, Error)]
pub enum LocationError {
    /// Not a place this program knows.
    #[error("{text:?} is no place for a history: name file:///whole/path or s3://bucket/prefix")]
    Unknown {
        /// What was given.
        text: String,
    },
    /// The endpoint is plain HTTP, and nobody said that it may be.
    #[error("the endpoint {endpoint} is without TLS; set AWS_ALLOW_HTTP=true if that is meant")]
    Plain {
        /// Which.
        endpoint: String,
    },
    /// The settings of the object store are wrong.
    #[error("cannot use {location}")]
    Store {
        /// Where.
        location: Location,
        /// Why.
        source: object_store::Error,
    },
    /// The folder cannot be made.
    #[error("cannot create {}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No thread for requests.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

/// A place, opened.
#[derive(Debug, Clone)]
pub struct Opened {
    /// How it is written and read.
    pub place: SharedPlace,
    /// What the paths of all tables begin with.
    pub root: PathBuf,
    /// How the query engine reads it, where that is not the file system: what its URLs begin with, and the store.
    pub store: Option<(String, Arc<dyn ObjectStore>)>,
}

impl Location {
    /// Opens the place. `scratch` is a folder for files in use, should it be far away.
    ///
    /// # Errors
    /// [`LocationError`]; whether it answers is seen at the first request.
    pub fn open(&self, scratch: &Path) -> Result<Opened, LocationError> {
        match self {
            Self::Folder(path) => {
                let place = Folders::new(Arc::new(Disk), path.parent().unwrap_or(path));
                Ok(Opened { place: Arc::new(place), root: path.clone(), store: None })
            }
            Self::S3 { bucket, .. } => self.open_store(self.s3(bucket)?, scratch),
        }
    }

    /// As [`Location::open`], on this store.
    ///
    /// # Errors
    /// [`LocationError::Thread`].
    pub fn open_store(&self, store: Arc<dyn ObjectStore>, scratch: &Path) -> Result<Opened, LocationError> {
        let text = self.to_string();
        let host = text.find("://").map_or(0, |at| at + 3);
        let base = &text[..text[host..].find('/').map_or(text.len(), |end| host + end)];
        let place = Bucket::new(Arc::clone(&store), base, scratch).map_err(LocationError::Thread)?;
        Ok(Opened { place: Arc::new(place), root: PathBuf::from(&text), store: Some((base.to_owned(), store)) })
    }

    /// Makes the folder, where it is one.
    ///
    /// # Errors
    /// [`LocationError::Folder`].
    pub fn make(&self) -> Result<(), LocationError> {
        let Self::Folder(path) = self else { return Ok(()) };
        create_dir_durably(path).map_err(|source| LocationError::Folder { path: path.clone(), source })
    }

    fn s3(&self, bucket: &str) -> Result<Arc<dyn ObjectStore>, LocationError> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"].into_iter().find_map(set);
        let plain = endpoint.filter(|endpoint| endpoint.starts_with("http://"));
        let allowed = set("AWS_ALLOW_HTTP").is_some_and(|value| value == "true" || value == "1");
        if let Some(endpoint) = plain.filter(|_| !allowed) {
            return Err(LocationError::Plain { endpoint });
        }
        let retry = RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_WITHIN, ..RetryConfig::default() };
        let store = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry).build();
        let store = store.map_err(|source| LocationError::Store { location: self.clone(), source })?;
        Ok(Arc::new(store))
    }
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        let unknown = || LocationError::Unknown { text: text.to_owned() };
        if let Some(path) = text.strip_prefix(FILE) {
            let path = Path::new(path);
            return if path.is_absolute() && path.parent().is_some() {
                Ok(Self::Folder(path.components().collect()))
            } else {
                Err(unknown())
            };
        }
        let rest = text.strip_prefix(S3).ok_or_else(unknown)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/');
        let names_well = object_store::path::Path::parse(prefix).is_ok();
        if bucket.is_empty() || bucket.contains(['?', '#', '@', ':']) || !names_well {
            return Err(unknown());
        }
        Ok(Self::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{FILE}{}", path.display()),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "{S3}{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "{S3}{bucket}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_named_by_its_url() {
        for (text, again) in [
            ("file:///mnt/skep/", "file:///mnt/skep"),
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ] {
            assert_eq!(text.parse::<Location>().unwrap().to_string(), again);
        }
        for text in ["", "/mnt/skep", "file://mnt/skep", "file:///", "s3://", "s3:///a", "s3://b/a//c", "gs://b/a"] {
            let said = text.parse::<Location>().unwrap_err().to_string();
            assert!(said.contains("s3://bucket/prefix"), "{text}: {said}");
        }
    }
}
