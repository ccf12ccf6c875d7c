//! Who is at the other end, by its certificate: the common name is the name, the organisational unit the role.

use rustls::pki_types::CertificateDer;
use thiserror::Error;
use tonic::Request;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What a certificate lets its holder do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Send batches of its own node.
    Agent,
    /// Ask, and decide on actions.
    Operator,
}

impl Role {
    /// As the organisational unit spells it.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Operator => "operator",
        }
    }
}

/// Why a peer may not do what it asks.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PeerError {
    /// No client certificate came with the connection.
    #[error("no client certificate")]
    NoCertificate,
    /// It does not parse.
    #[error("the client certificate does not parse")]
    Malformed,
    /// It lacks a common name.
    #[error("the client certificate has no common name")]
    Nameless,
    /// It is for something else.
    #[error("the certificate of {name} is for role {found}, this needs {needed}")]
    WrongRole {
        /// Common name.
        name: String,
        /// Organisational units found.
        found: String,
        /// What was needed.
        needed: &'static str,
    },
}

/// The peer's name, if its certificate carries `role`.
///
/// # Errors
/// [`PeerError`]: refuse the call.
pub fn peer<T>(request: &Request<T>, role: Role) -> Result<String, PeerError> {
    let certificates = request.peer_certs().ok_or(PeerError::NoCertificate)?;
    let first = certificates.first().ok_or(PeerError::NoCertificate)?;
    name_in(first.as_ref(), role)
}

/// The name of the agent whose certificates these are, if they are an agent's.
pub fn agent(certificates: &[CertificateDer<'_>]) -> Option<String> {
    name_in(certificates.first()?.as_ref(), Role::Agent).ok()
}

fn name_in(der: &[u8], role: Role) -> Result<String, PeerError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| PeerError::Malformed)?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().find_map(|attribute| attribute.as_str().ok());
    let name = name.filter(|name| !name.is_empty()).ok_or(PeerError::Nameless)?.to_owned();
    let units: Vec<&str> = subject.iter_organizational_unit().filter_map(|unit| unit.as_str().ok()).collect();
    if units.contains(&role.unit()) {
        Ok(name)
    } else {
        Err(PeerError::WrongRole { name, found: units.join(","), needed: role.unit() })
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn certificate(name: &str, unit: &str) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn name_and_role_come_from_the_subject() {
        let der = certificate("node-7", "agent");
        assert_eq!(name_in(&der, Role::Agent), Ok("node-7".to_owned()));
        let refused = name_in(&der, Role::Operator).unwrap_err();
        assert_eq!(refused.to_string(), "the certificate of node-7 is for role agent, this needs operator");
    }

    #[test]
    fn a_certificate_without_a_name_is_refused() {
        assert_eq!(name_in(&certificate("", "agent"), Role::Agent), Err(PeerError::Nameless));
        assert_eq!(name_in(b"nonsense", Role::Agent), Err(PeerError::Malformed));
    }
}
