//! This node's certificate and its name.

use std::path::{Path, PathBuf};

use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Where the files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialPaths {
    /// The authority that signed the collector's certificate.
    pub ca: PathBuf,
    /// This node's certificate chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The files' contents.
#[derive(Clone)]
pub struct Credentials {
    /// PEM.
    pub ca: Vec<u8>,
    /// PEM.
    pub cert: Vec<u8>,
    /// PEM.
    pub key: Vec<u8>,
    /// Common name of the certificate: what this node is called.
    pub node: String,
    /// Seconds since the epoch.
    pub not_after_s: i64,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("node", &self.node).field("not_after_s", &self.not_after_s).finish()
    }
}

/// Why the credentials cannot be used.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not a certificate in PEM.
    #[error("{} holds no certificate", path.display())]
    NotACertificate {
        /// Which.
        path: PathBuf,
    },
    /// A node without a name.
    #[error("the certificate in {} has no common name, which is to be the node's name", path.display())]
    NoCommonName {
        /// Which.
        path: PathBuf,
    },
    /// Past its end.
    #[error("this node's certificate in {} expired {ago_s} s ago", path.display())]
    Expired {
        /// Which.
        path: PathBuf,
        /// How long ago.
        ago_s: i64,
    },
}

impl Credentials {
    /// Reads the files. An expired certificate is read too; see [`Credentials::check_expiry`].
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn load(paths: &CredentialPaths) -> Result<Self, CredentialsError> {
        let ca = read(&paths.ca)?;
        parse(&ca, &paths.ca)?;
        let cert = read(&paths.cert)?;
        let (node, not_after_s) = parse(&cert, &paths.cert)?;
        let node = node.ok_or_else(|| CredentialsError::NoCommonName { path: paths.cert.clone() })?;
        Ok(Self { ca, key: read(&paths.key)?, cert, node, not_after_s })
    }

    /// Refuses a certificate that is past its end.
    ///
    /// # Errors
    /// [`CredentialsError::Expired`].
    pub fn check_expiry(&self, path: &Path, now_s: i64) -> Result<(), CredentialsError> {
        if now_s > self.not_after_s {
            return Err(CredentialsError::Expired { path: path.to_owned(), ago_s: now_s - self.not_after_s });
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    std::fs::read(path).map_err(|source| CredentialsError::Read { path: path.to_owned(), source })
}

/// Common name and end of validity of the first certificate in a PEM file.
fn parse(pem: &[u8], path: &Path) -> Result<(Option<String>, i64), CredentialsError> {
    let bad = || CredentialsError::NotACertificate { path: path.to_owned() };
    let (_, block) = x509_parser::pem::parse_x509_pem(pem).map_err(|_| bad())?;
    let (_, certificate) = X509Certificate::from_der(&block.contents).map_err(|_| bad())?;
    let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).map(str::to_owned);
    let not_after_s = certificate.validity().not_after.timestamp();
    Ok((name.filter(|name| !name.is_empty()), not_after_s))
}
