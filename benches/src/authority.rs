//! An authority made for one run, and certificates it signs.

use std::fs;
use std::path::Path;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};

/// It lives in memory: nobody needs it after the run.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, PEM.
    pub(crate) certificate: String,
}

/// A certificate and its key (ECDSA P-256), PEM.
#[derive(Debug, Clone)]
pub(crate) struct Papers {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    /// A new one.
    pub(crate) fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = name("bench authority", "authority");
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// Papers for a peer of this name and role.
    pub(crate) fn issue(&self, common: &str, role: &str) -> Result<Papers> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        params.distinguished_name = name(common, role);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Papers { certificate, key: key.serialize_pem() })
    }

    /// Writes `ca.pem` into `folder`, and `ROLE.pem` and `ROLE.key` for each of `roles`.
    pub(crate) fn write(&self, folder: &Path, roles: &[&str]) -> Result<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("ca.pem"), &self.certificate)?;
        for role in roles {
            let papers = self.issue(role, role)?;
            fs::write(folder.join(format!("{role}.pem")), papers.certificate)?;
            fs::write(folder.join(format!("{role}.key")), papers.key)?;
        }
        Ok(())
    }
}

fn name(common: &str, role: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name.push(DnType::OrganizationalUnitName, role);
    name
}
