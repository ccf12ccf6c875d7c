//! Whom to trust, and how long a certificate has left.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

const SECONDS_OF_A_DAY: f64 = 86_400.0;

/// Nobody can be trusted.
#[derive(Debug, Error)]
pub enum TrustError {
    /// A file of authorities.
    #[error("{} cannot be read as certificates in PEM", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// One of them.
    #[error("{}: one of the certificates is none", path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// There are none.
    #[error("this system has no certificates of authorities: install ca-certificates, or set ca")]
    Nobody,
    /// The library refuses.
    #[error("TLS cannot be used")]
    Library(#[source] rustls::Error),
}

/// The system's authorities and those of a file.
pub(super) fn authorities(ca: Option<&Path>) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    // Some in the system's folder being no certificates takes nothing from the others.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca {
        let file = |source| TrustError::File { path: path.to_owned(), source };
        for certificate in CertificateDer::pem_file_iter(path).map_err(file)? {
            let certificate = certificate.map_err(file)?;
            roots.add(certificate).map_err(|source| TrustError::Certificate { path: path.to_owned(), source })?;
        }
    }
    if roots.is_empty() { Err(TrustError::Nobody) } else { Ok(roots) }
}

/// A client's settings that trust them.
pub(super) fn config(ca: Option<&Path>) -> Result<Arc<ClientConfig>, TrustError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TrustError::Library)?;
    Ok(Arc::new(builder.with_root_certificates(authorities(ca)?).with_no_client_auth()))
}

/// Days until a certificate ends.
pub(super) fn left_days(certificate: &CertificateDer<'_>, now_s: f64) -> Option<f64> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some((parsed.validity().not_after.timestamp() as f64 - now_s) / SECONDS_OF_A_DAY)
}
