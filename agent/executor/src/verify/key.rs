//! The keys that are trusted.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::DecodePublicKey;
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};
use skep_wire::{COMMAND_CONTEXT, v1};
use thiserror::Error;

use super::refusal::Refusal;

/// Why a key file cannot be used.
#[derive(Debug, Error)]
pub enum KeyError {
    /// It cannot be read.
    #[error("cannot read trusted key {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not one or several Ed25519 public keys in PEM.
    #[error("{} is no Ed25519 public key in PEM form", path.display())]
    NotAKey {
        /// Which file.
        path: PathBuf,
    },
}

/// Public keys by id.
///
/// A file holds one key or, while one replaces another, several. It is read again when it has changed, so that a key
/// comes and goes without a restart. A file that does not read stands for no key at all.
#[derive(Debug, Clone, Default)]
pub struct Trusted {
    keys: Vec<(String, VerifyingKey)>,
    files: Vec<KeyFile>,
}

#[derive(Debug, Clone)]
struct KeyFile {
    path: PathBuf,
    mark: Option<Mark>,
    keys: Vec<(String, VerifyingKey)>,
}

/// By what a changed file is told: inode, length and time of change.
type Mark = (u64, u64, i64, i64);

const END_OF_KEY: &str = "-----END PUBLIC KEY-----";

impl Trusted {
    /// Trusts this key too.
    pub fn add(&mut self, key: VerifyingKey) {
        self.keys.push((key_id(&key), key));
    }

    /// Trusts the keys in this file too.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn add_file(&mut self, path: &Path) -> Result<(), KeyError> {
        let mark = mark(path);
        self.files.push(KeyFile { path: path.to_owned(), mark, keys: read_keys(path)? });
        Ok(())
    }

    /// Reads the files again that have changed.
    pub fn refresh(&mut self) {
        for file in &mut self.files {
            let mark = mark(&file.path);
            if mark == file.mark {
                continue;
            }
            file.mark = mark;
            file.keys = match read_keys(&file.path) {
                Ok(keys) => {
                    let ids: Vec<&str> = keys.iter().map(|(id, _)| id.as_str()).collect();
                    tracing::warn!(file = %file.path.display(), keys = ids.join(" "), "trusted keys have changed");
                    keys
                }
                Err(error) => {
                    tracing::error!(%error, "trusted keys cannot be read again; none of that file is trusted");
                    Vec::new()
                }
            };
        }
    }

    fn all(&self) -> impl Iterator<Item = &(String, VerifyingKey)> {
        self.keys.iter().chain(self.files.iter().flat_map(|file| &file.keys))
    }

    /// Checks the signature over the command's bytes as they stand.
    ///
    /// # Errors
    /// [`Refusal::UnknownKey`] and [`Refusal::BadSignature`].
    pub fn check(&self, signed: &v1::SignedCommand) -> Result<(), Refusal> {
        let found = self.all().find(|(id, _)| *id == signed.key_id);
        let Some((_, key)) = found else { return Err(Refusal::UnknownKey { key_id: signed.key_id.clone() }) };
        let signature = Signature::from_slice(&signed.signature).map_err(|_| Refusal::BadSignature)?;
        let covered = [COMMAND_CONTEXT, &signed.command].concat();
        key.verify_strict(&covered, &signature).map_err(|_| Refusal::BadSignature)
    }
}

fn mark(path: &Path) -> Option<Mark> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.ino(), meta.len(), meta.ctime(), meta.ctime_nsec()))
}

fn read_keys(path: &Path) -> Result<Vec<(String, VerifyingKey)>, KeyError> {
    let text = std::fs::read_to_string(path).map_err(|source| KeyError::Read { path: path.to_owned(), source })?;
    let blocks = text.trim().split_inclusive(END_OF_KEY);
    blocks
        .map(|block| {
            let key = VerifyingKey::from_public_key_pem(block.trim());
            key.map(|key| (key_id(&key), key)).map_err(|_| KeyError::NotAKey { path: path.to_owned() })
        })
        .collect()
}

/// First 16 hex digits of SHA-256 over the public key.
pub fn key_id(key: &VerifyingKey) -> String {
    Sha256::digest(key.as_bytes())[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
