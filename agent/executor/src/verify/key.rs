//! The keys that are trusted.

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
    /// It is no Ed25519 public key in PEM.
    #[error("{} is no Ed25519 public key in PEM form", path.display())]
    NotAKey {
        /// Which file.
        path: PathBuf,
    },
}

/// Public keys by id.
#[derive(Debug, Clone, Default)]
pub struct Trusted {
    keys: Vec<(String, VerifyingKey)>,
}

impl Trusted {
    /// Trusts this key too.
    pub fn add(&mut self, key: VerifyingKey) {
        self.keys.push((key_id(&key), key));
    }

    /// Trusts the key in this file too.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn add_file(&mut self, path: &Path) -> Result<(), KeyError> {
        let text = std::fs::read_to_string(path).map_err(|source| KeyError::Read { path: path.to_owned(), source })?;
        let key =
            VerifyingKey::from_public_key_pem(text.trim()).map_err(|_| KeyError::NotAKey { path: path.to_owned() })?;
        self.add(key);
        Ok(())
    }

    /// Checks the signature over the command's bytes as they stand.
    ///
    /// # Errors
    /// [`Refusal::UnknownKey`] and [`Refusal::BadSignature`].
    pub fn check(&self, signed: &v1::SignedCommand) -> Result<(), Refusal> {
        let found = self.keys.iter().find(|(id, _)| *id == signed.key_id);
        let Some((_, key)) = found else { return Err(Refusal::UnknownKey { key_id: signed.key_id.clone() }) };
        let signature = Signature::from_slice(&signed.signature).map_err(|_| Refusal::BadSignature)?;
        let covered = [COMMAND_CONTEXT, &signed.command].concat();
        key.verify_strict(&covered, &signature).map_err(|_| Refusal::BadSignature)
    }
}

/// First 16 hex digits of SHA-256 over the public key.
pub fn key_id(key: &VerifyingKey) -> String {
    Sha256::digest(key.as_bytes())[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
