//! A handshake before the first call, only to learn how it ends.
//!
//! With TLS 1.3 a client is done before the server has looked at its certificate; a refusal then meets the first request
//! on its way and is lost in a broken pipe as often as not. Here nothing is sent, so that the refusal, or the server's
//! first bytes, always arrive.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::ConnectError;
use super::live::{Tls, innermost};

/// Long enough for a far collector, short enough to wait for.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A collector greets at once; one that does not is left to the first call.
const GREET_WITHIN: Duration = Duration::from_secs(1);

/// Shakes hands with `url` and hangs up.
///
/// # Errors
/// [`ConnectError::BadTls`], [`ConnectError::NobodyListens`], [`ConnectError::NotReachable`], [`ConnectError::Refused`].
pub(super) async fn attempt(url: &str, tls: &Tls) -> Result<(), ConnectError> {
    let config = config(tls).map_err(|source| ConnectError::BadTls { tls: tls.folder.clone(), source })?;
    let unreachable = |reason: String| ConnectError::NotReachable { url: url.to_owned(), reason };
    let authority = url.strip_prefix("https://").unwrap_or(url);
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(|error| unreachable(error.to_string()))?;
    let shake = async {
        let stream = TcpStream::connect(authority).await?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    };
    let mut stream = match timeout(CONNECT_WITHIN, shake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(classify(url, &error)),
        Err(_) => return Err(unreachable(format!("no answer within {}s", CONNECT_WITHIN.as_secs()))),
    };
    match timeout(GREET_WITHIN, stream.read_u8()).await {
        Ok(Err(error)) => Err(classify(url, &error)),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

fn config(tls: &Tls) -> Result<ClientConfig, Box<dyn std::error::Error + Send + Sync>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&tls.authority) {
        roots.add(certificate?)?;
    }
    let chain = CertificateDer::pem_slice_iter(&tls.certificate).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(&tls.key)?;
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn classify(url: &str, error: &io::Error) -> ConnectError {
    let url = url.to_owned();
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::AlertReceived(alert)) => {
            ConnectError::Refused { url, reason: format!("it answered with {alert:?}") }
        }
        Some(rustls::Error::InvalidCertificate(reason)) => {
            let reason = format!("its certificate is not one of this authority's ({reason:?})");
            ConnectError::NotReachable { url, reason }
        }
        Some(other) => ConnectError::NotReachable { url, reason: other.to_string() },
        None if error.kind() == io::ErrorKind::ConnectionRefused => ConnectError::NobodyListens { url },
        None => ConnectError::NotReachable { url, reason: innermost(error) },
    }
}
