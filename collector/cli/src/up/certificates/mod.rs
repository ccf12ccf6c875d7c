//! The authority and the three certificates of a folder.
//!
//! The subject says who: CN the name, OU the role (`agent`, `operator`, `collector`). An agent's CN is its node id, so it
//! survives a change of the host's name. The authority lives ten years, what it signs one; [`ensure`] renews what has
//! less than thirty days left, or what does not fit the authority or the addresses any more.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use thiserror::Error;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

use super::UpError;
use super::folder::{Folder, read_if_there, write_with_mode};

/// Renewed when less is left.
pub const RENEW_BELOW_DAYS: i64 = 30;

const AUTHORITY_YEARS: i16 = 10;
const LEAF_YEARS: i16 = 1;

/// Why a certificate could not be made or read.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// The generator's words.
    #[error("{0}")]
    Generate(#[from] rcgen::Error),
    /// Not a certificate in PEM.
    #[error("not a certificate in PEM")]
    Unreadable,
    /// A moment outside the calendar.
    #[error("the clock shows no usable date")]
    Date(#[source] jiff::Error),
    /// The authority's key is gone and something has to be signed.
    #[error("it has to be renewed and {} is missing", key.display())]
    NoAuthorityKey {
        /// Where it should be.
        key: PathBuf,
    },
}

/// What a certificate says, as far as skep cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// CN.
    pub name: String,
    /// OU.
    pub role: String,
    /// Not valid from here on.
    pub expires: Timestamp,
    /// Names and addresses it may be reached under.
    pub alternatives: Vec<String>,
    issuer_key: Option<Vec<u8>>,
    own_key: Option<Vec<u8>>,
}

impl Facts {
    /// Reads a PEM.
    ///
    /// # Errors
    /// [`CertificateError::Unreadable`].
    pub fn read(pem: &str) -> Result<Self, CertificateError> {
        let (_, pem) = parse_x509_pem(pem.as_bytes()).map_err(|_| CertificateError::Unreadable)?;
        let certificate = pem.parse_x509().map_err(|_| CertificateError::Unreadable)?;
        let text = |value: Option<&x509_parser::x509::AttributeTypeAndValue<'_>>| {
            value.and_then(|value| value.as_str().ok()).unwrap_or_default().to_owned()
        };
        let subject = certificate.subject();
        let alternatives = certificate
            .subject_alternative_name()
            .ok()
            .flatten()
            .map(|extension| extension.value.general_names.iter().filter_map(alternative).collect())
            .unwrap_or_default();
        let mut issuer_key = None;
        let mut own_key = None;
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                x509_parser::extensions::ParsedExtension::AuthorityKeyIdentifier(id) => {
                    issuer_key = id.key_identifier.as_ref().map(|id| id.0.to_vec());
                }
                x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => own_key = Some(id.0.to_vec()),
                _ => {}
            }
        }
        Ok(Self {
            name: text(subject.iter_common_name().next()),
            role: text(subject.iter_organizational_unit().next()),
            expires: Timestamp::from_second(certificate.validity().not_after.timestamp())
                .map_err(CertificateError::Date)?,
            alternatives,
            issuer_key,
            own_key,
        })
    }

    /// Whole days until it expires; negative when it has.
    pub fn days_left(&self, now: Timestamp) -> i64 {
        (self.expires.as_second() - now.as_second()).div_euclid(86_400)
    }
}

fn alternative(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// Whose certificate.
struct Leaf {
    file: &'static str,
    role: &'static str,
    name: String,
    alternatives: Vec<String>,
    usage: ExtendedKeyUsagePurpose,
}

/// What [`ensure`] found or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ensured {
    /// Node id of this host's agent.
    pub node: String,
    /// Files that were made or renewed, for the reader of the terminal.
    pub made: Vec<&'static str>,
}

/// Makes what is missing and renews what has to be.
///
/// `host` is this host's name, `listen` the collector's address.
///
/// # Errors
/// [`UpError::Certificate`], [`UpError::Folder`].
pub fn ensure(folder: &Folder, host: &str, listen: IpAddr, now: Timestamp) -> Result<Ensured, UpError> {
    let today = today(now).map_err(|source| fault("make", &folder.tls("ca.pem"), source))?;
    let mut made = Vec::new();
    let authority_pem = authority(folder, today, &mut made)?;
    let authority = facts(&folder.tls("ca.pem"), &authority_pem)?;
    let agent_path = folder.tls("agent.pem");
    let node = match read_if_there(&agent_path)? {
        Some(pem) => facts(&agent_path, &pem)?.name,
        None => host.to_owned(),
    };
    for leaf in leaves(&node, host, listen) {
        let path = folder.tls(&format!("{}.pem", leaf.file));
        let key_path = folder.tls(&format!("{}.key", leaf.file));
        let current = match read_if_there(&path)? {
            Some(pem) if key_path.exists() => Some(facts(&path, &pem)?),
            _ => None,
        };
        if current.is_some_and(|current| fits(&current, &leaf, &authority, now)) {
            continue;
        }
        let (pem, key) = sign(folder, &authority_pem, &leaf, today).map_err(|source| fault("make", &path, source))?;
        write_with_mode(&key_path, key.as_bytes(), 0o600)?;
        write_with_mode(&path, pem.as_bytes(), 0o644)?;
        made.push(leaf.file);
    }
    Ok(Ensured { node, made })
}

fn fault(what: &'static str, path: &Path, source: CertificateError) -> UpError {
    UpError::Certificate { what, path: path.to_owned(), source }
}

fn facts(path: &Path, pem: &str) -> Result<Facts, UpError> {
    Facts::read(pem).map_err(|source| fault("read", path, source))
}

fn fits(current: &Facts, leaf: &Leaf, authority: &Facts, now: Timestamp) -> bool {
    current.days_left(now) >= RENEW_BELOW_DAYS
        && current.role == leaf.role
        && current.issuer_key == authority.own_key
        && leaf.alternatives.iter().all(|name| current.alternatives.contains(name))
}

fn leaves(node: &str, host: &str, listen: IpAddr) -> [Leaf; 3] {
    let mut reached: Vec<String> =
        ["localhost", "skep-collector", "127.0.0.1", "::1"].into_iter().map(str::to_owned).collect();
    for name in [host.to_owned(), listen.to_string()] {
        if !reached.contains(&name) && name != "0.0.0.0" && name != "::" {
            reached.push(name);
        }
    }
    let client = |file, role, name: &str| Leaf {
        file,
        role,
        name: name.to_owned(),
        alternatives: vec![name.to_owned()],
        usage: ExtendedKeyUsagePurpose::ClientAuth,
    };
    [
        Leaf {
            file: "collector",
            role: "collector",
            name: "skep-collector".to_owned(),
            alternatives: reached,
            usage: ExtendedKeyUsagePurpose::ServerAuth,
        },
        client("agent", "agent", node),
        client("operator", "operator", "operator"),
    ]
}

/// The authority's certificate, made together with its key when there is none.
fn authority(folder: &Folder, today: Date, made: &mut Vec<&'static str>) -> Result<String, UpError> {
    let path = folder.tls("ca.pem");
    if let Some(pem) = read_if_there(&path)? {
        return Ok(pem);
    }
    let make = || -> Result<(String, String), CertificateError> {
        let key = KeyPair::generate()?;
        let mut params = params("skep authority", "authority", today, AUTHORITY_YEARS)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
    };
    let (pem, key) = make().map_err(|source| fault("make", &path, source))?;
    // The key first: a certificate without its key would stay for ten years.
    write_with_mode(&folder.tls("ca.key"), key.as_bytes(), 0o600)?;
    write_with_mode(&path, pem.as_bytes(), 0o644)?;
    made.push("ca");
    Ok(pem)
}

fn sign(folder: &Folder, authority_pem: &str, leaf: &Leaf, today: Date) -> Result<(String, String), CertificateError> {
    let key_path = folder.tls("ca.key");
    let Ok(Some(authority_key)) = read_if_there(&key_path) else {
        return Err(CertificateError::NoAuthorityKey { key: key_path });
    };
    let issuer = Issuer::from_ca_cert_pem(authority_pem, KeyPair::from_pem(&authority_key)?)?;
    let key = KeyPair::generate()?;
    let mut params = params(&leaf.name, leaf.role, today, LEAF_YEARS)?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![leaf.usage.clone()];
    for name in &leaf.alternatives {
        params.subject_alt_names.push(match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.as_str().try_into()?),
        });
    }
    Ok((params.signed_by(&key, &issuer)?.pem(), key.serialize_pem()))
}

/// Valid from the day before, so that a host whose clock is a little behind accepts it too.
fn params(name: &str, role: &str, today: Date, years: i16) -> Result<CertificateParams, CertificateError> {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "skep");
    subject.push(DnType::OrganizationalUnitName, role);
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    let from = today.yesterday().map_err(CertificateError::Date)?;
    let until = today.checked_add(Span::new().years(years)).map_err(CertificateError::Date)?;
    let day = |date: Date| date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs());
    params.not_before = day(from);
    params.not_after = day(until);
    Ok(params)
}

/// A calendar the generator takes: it panics outside.
fn today(now: Timestamp) -> Result<Date, CertificateError> {
    let date = now.to_zoned(TimeZone::UTC).date();
    // Beyond it, ten years more would leave the calendar.
    let last = Date::new(9000, 1, 1).map_err(CertificateError::Date)?;
    Ok(date.min(last))
}

#[cfg(test)]
mod tests;
