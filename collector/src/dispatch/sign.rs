//! Signs commands.

use ed25519_dalek::{Signer as _, SigningKey};
use prost::Message;
use sha2::{Digest, Sha256};
use skep_wire::{COMMAND_CONTEXT, v1};

use super::draw::hex;

/// Holds the key that executors trust.
pub struct Signer {
    key: SigningKey,
    key_id: String,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl Signer {
    /// Signs with `key`.
    pub fn new(key: SigningKey) -> Self {
        let key_id = hex(&Sha256::digest(key.verifying_key().as_bytes())[..8]);
        Self { key, key_id }
    }

    /// Encodes and signs.
    pub fn sign(&self, command: &v1::Command) -> v1::SignedCommand {
        let command = command.encode_to_vec();
        let signature = self.key.sign(&[COMMAND_CONTEXT, &command].concat()).to_bytes().to_vec();
        v1::SignedCommand { command, signature, key_id: self.key_id.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_covers_context_and_command() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let signed = Signer::new(key.clone()).sign(&v1::Command { id: "a".to_owned(), ..Default::default() });
        let signature = ed25519_dalek::Signature::from_slice(&signed.signature).unwrap();
        let covered = [COMMAND_CONTEXT, &signed.command].concat();
        assert!(key.verifying_key().verify_strict(&covered, &signature).is_ok());
        assert!(key.verifying_key().verify_strict(&signed.command, &signature).is_err());
        assert_eq!(signed.key_id.len(), 16);
    }
}
