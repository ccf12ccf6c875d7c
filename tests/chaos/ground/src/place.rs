//! A small disk with a collector's data on it, and certificates for everybody.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{EncodePrivateKey, EncodePublicKey};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// The nodes there are.
pub const NODES: [&str; 4] = ["a", "b", "c", "d"];

/// Size of the disk: room for an episode, and quickly filled.
const DISK_BYTES: u64 = 64 << 20;

/// What is left of a full disk at most: less than a few batches.
pub const LEFT_BYTES: u64 = 24 << 10;

/// Everything of one episode; gone when dropped.
#[derive(Debug)]
pub struct Ground {
    temp: tempfile::TempDir,
}

impl Ground {
    /// Mounts the disk, which takes root.
    ///
    /// # Errors
    /// Without root, and where the disk cannot be had.
    pub fn new() -> Result<Self> {
        let temp = tempfile::tempdir()?;
        let ground = Self { temp };
        fs::create_dir(ground.disk())?;
        let size = format!("size={DISK_BYTES}");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "skep-chaos"]).arg(ground.disk()).output()?;
        ensure!(
            mount.status.success(),
            "cannot mount a small disk; run this as root: {}",
            String::from_utf8_lossy(&mount.stderr).trim()
        );
        fs::create_dir(ground.temp.path().join("tls"))?;
        ground.issue()?;
        Ok(ground)
    }

    fn issue(&self) -> Result<()> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let key = KeyPair::generate()?;
        fs::write(self.tls("ca.pem"), params.self_signed(&key)?.pem())?;
        let issuer = Issuer::new(params, key);
        let agents = NODES.map(|node| (node, node, "agent"));
        let others = [("collector", "localhost", "collector"), ("operator", "olga", "operator")];
        for (file, name, unit) in agents.into_iter().chain(others) {
            let mut params = CertificateParams::new(vec![name.to_owned(), "127.0.0.1".to_owned()])?;
            params.distinguished_name.push(DnType::CommonName, name);
            params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
            let key = KeyPair::generate()?;
            fs::write(self.tls(&format!("{file}.pem")), params.signed_by(&key, &issuer)?.pem())?;
            fs::write(self.tls(&format!("{file}.key")), key.serialize_pem())?;
        }
        let signing = SigningKey::from_bytes(&[7; 32]);
        fs::write(self.tls("command.key"), signing.to_pkcs8_pem(LineEnding::LF)?.as_bytes())?;
        fs::write(self.tls("command.pub"), signing.verifying_key().to_public_key_pem(LineEnding::LF)?)?;
        Ok(())
    }

    fn disk(&self) -> PathBuf {
        self.temp.path().join("disk")
    }

    /// The data folder, on the small disk.
    pub fn data(&self) -> PathBuf {
        self.disk().join("data")
    }

    /// A certificate or key, or the key of commands.
    pub fn tls(&self, file: &str) -> PathBuf {
        self.temp.path().join("tls").join(file)
    }

    /// The folder of all of it.
    pub fn path(&self) -> &Path {
        self.temp.path()
    }

    /// What the collectors said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path().join("log")).unwrap_or_default()
    }

    /// Fills the disk but for `left` bytes.
    ///
    /// # Errors
    /// Its size cannot be asked for, or the file not be made.
    pub fn fill(&self, left: u64) -> Result<()> {
        let about = rustix::fs::statvfs(self.disk())?;
        let bytes = (about.f_bavail * about.f_frsize).saturating_sub(left);
        let filler = fs::File::create(self.filler())?;
        // The collector may have taken some of it in between: the disk is full all the same.
        let _filled = rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), 0, bytes.max(1)).is_ok();
        Ok(())
    }

    /// Gives the room back.
    pub fn empty(&self) {
        // It may not be there.
        let _gone = fs::remove_file(self.filler()).is_ok();
    }

    fn filler(&self) -> PathBuf {
        self.disk().join("filler")
    }

    /// A channel to `address` with one of the certificates.
    ///
    /// # Errors
    /// Nobody answers there, or not for this certificate.
    pub async fn channel(&self, address: &str, who: &str) -> Result<Channel> {
        let read = |file: String| fs::read(self.tls(&file)).context("a certificate of ours");
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read("ca.pem".to_owned())?))
            .identity(Identity::from_pem(read(format!("{who}.pem"))?, read(format!("{who}.key"))?));
        Ok(Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?.connect().await?)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // Lazily: a collector that is just being killed may still have files open.
        let _unmounted = Command::new("umount").arg("--lazy").arg(self.disk()).output().is_ok();
    }
}
