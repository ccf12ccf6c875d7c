//! Mutual TLS to the collector, and what to say when it does not work.

use std::error::Error;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Uri};

use super::credentials::Credentials;

/// A collector that does not answer within this is unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection on which nothing comes back for this long is dead.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Opens a connection.
///
/// # Errors
/// [`tonic::transport::Error`]; [`explain`] says it in one line.
pub async fn connect(collector: &Uri, credentials: &Credentials) -> Result<Channel, tonic::transport::Error> {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&credentials.ca))
        .identity(Identity::from_pem(&credentials.cert, &credentials.key));
    Endpoint::from(collector.clone())
        .tls_config(tls)?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
        .connect()
        .await
}

/// What is wrong, in one line for an operator.
pub fn explain(collector: &Uri, error: &(dyn Error + 'static)) -> String {
    let place = collector.authority().map_or_else(|| collector.to_string(), ToString::to_string);
    match find::<rustls::Error>(error) {
        Some(rustls::Error::InvalidCertificate(fault)) => format!("{place}: {}", certificate_fault(fault)),
        Some(rustls::Error::AlertReceived(alert)) => format!("{place}: {}", alert_text(*alert)),
        Some(other) => format!("{place}: TLS failed: {other}"),
        None => match find::<std::io::Error>(error) {
            Some(io) => format!("{place}: collector is not reachable: {io}"),
            None => format!("{place}: {}", crate::error::chain(error)),
        },
    }
}

fn certificate_fault(fault: &CertificateError) -> String {
    match fault {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the collector's certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the collector's certificate is not valid yet; check both clocks".to_owned()
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "this is not our collector: its certificate is not from our authority".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "this is not our collector: its certificate is for another name".to_owned()
        }
        other => format!("the collector's certificate is refused: {other}"),
    }
}

fn alert_text(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateExpired => {
            "the collector says that this node's certificate has expired".to_owned()
        }
        AlertDescription::UnknownCA | AlertDescription::BadCertificate | AlertDescription::DecryptError => {
            "the collector does not accept this node's certificate".to_owned()
        }
        AlertDescription::CertificateRequired => "the collector demands a certificate".to_owned(),
        AlertDescription::ProtocolVersion => "the collector does not speak TLS 1.3".to_owned(),
        other => format!("the collector ended the TLS handshake: {other:?}"),
    }
}

/// The first error of type `T` among the causes. An I/O error hides what it wraps, so that is looked at too.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(found) = wrapped.and_then(|inner| find::<T>(inner as &(dyn Error + 'static))) {
            return Some(found);
        }
        next = error.source();
    }
    None
}
