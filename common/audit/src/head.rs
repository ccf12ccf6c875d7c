//! The signed end of a chain.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::entry::key_id;
use crate::{hex, unhex};

const SIGNED: &[u8] = b"skep.v1.AuditHead\0";

/// The last entry there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Whose chain.
    pub chain: String,
    /// Number of the last entry.
    pub number: u64,
    /// Its hash.
    pub hash: String,
    /// When this was signed, microseconds since the epoch.
    pub time_us: i64,
    /// First 16 hex digits of SHA-256 over the public key.
    pub key: String,
    /// 128 hex digits over all above.
    pub signature: String,
}

impl Head {
    /// Signs the end.
    pub fn sign(chain: &str, number: u64, hash: &str, time_us: i64, key: &SigningKey) -> Self {
        let mut head = Self {
            chain: chain.to_owned(),
            number,
            hash: hash.to_owned(),
            time_us,
            key: key_id(&key.verifying_key()),
            signature: String::new(),
        };
        head.signature = hex(&key.sign(&head.covered()).to_bytes());
        head
    }

    fn covered(&self) -> Vec<u8> {
        let mut bytes = SIGNED.to_vec();
        for text in [&self.chain, &self.hash, &self.key] {
            bytes.extend((text.len() as u64).to_le_bytes());
            bytes.extend(text.as_bytes());
        }
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(self.time_us.to_le_bytes());
        bytes
    }

    /// Whether `key` signed it.
    pub fn is_signed_by(&self, key: &VerifyingKey) -> bool {
        let Some(signature) = unhex::<64>(&self.signature) else { return false };
        key.verify_strict(&self.covered(), &Signature::from_bytes(&signature)).is_ok()
    }

    /// As it stands in its file.
    ///
    /// # Errors
    /// Never for a head of ours.
    pub fn text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self).map(|text| text + "\n")
    }

    /// The inverse; `None` for every other text.
    pub fn parse(text: &str) -> Option<Self> {
        let head: Self = serde_json::from_str(text).ok()?;
        (head.text().ok()? == text).then_some(head)
    }
}
