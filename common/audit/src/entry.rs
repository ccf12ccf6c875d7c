//! One step of the chain.
//!
//! As a line of a file it is compact JSON with its fields in the order below and facts sorted by name; there is one way
//! to write an entry, so any other bytes are a change. What is hashed is not that text but the values, so that an entry
//! is the same in a Parquet export:
//!
//! ```text
//! hash      = SHA-256("skep.audit.entry.v1\0", chain, number, time_us, actor, step, subject, node, detail,
//!                     number of facts, (name, value)*, previous)      each text with its length (u64, little endian)
//! signature = Ed25519("skep.v1.AuditEntry\0", hash)
//! ```

use std::collections::BTreeMap;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{hex, unhex};

const ENTRY: &[u8] = b"skep.audit.entry.v1\0";

const SIGNED: &[u8] = b"skep.v1.AuditEntry\0";

/// What stands before the first entry.
pub const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What happened, before it has its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Microseconds since the epoch.
    pub time_us: i64,
    /// policy, operator name, collector or executor.
    pub actor: String,
    /// What was done.
    pub step: String,
    /// Id of the finding or action.
    pub subject: String,
    /// Node it concerns; may be empty.
    pub node: String,
    /// One line for people.
    pub detail: String,
    /// What else belongs to it: the request, its evidence, the policy's version, who approved, readings, undo.
    pub facts: BTreeMap<String, String>,
}

/// One step of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Whose chain this is: the collector's name in files.
    pub chain: String,
    /// Contiguous from 1.
    pub number: u64,
    /// Microseconds since the epoch.
    pub time_us: i64,
    /// As in [`Record`].
    pub actor: String,
    /// As in [`Record`].
    pub step: String,
    /// As in [`Record`].
    pub subject: String,
    /// As in [`Record`].
    pub node: String,
    /// As in [`Record`].
    pub detail: String,
    /// As in [`Record`].
    pub facts: BTreeMap<String, String>,
    /// `hash` of the entry before; [`NOTHING`] for the first.
    pub previous: String,
    /// 64 hex digits over all above.
    pub hash: String,
    /// First 16 hex digits of SHA-256 over the public key.
    pub key: String,
    /// 128 hex digits over `hash`.
    pub signature: String,
}

/// How a key is called: the first 16 hex digits of SHA-256 over its public half.
pub fn key_id(key: &VerifyingKey) -> String {
    hex(&Sha256::digest(key.as_bytes())[..8])
}

impl Entry {
    /// Gives a record its place behind `previous`.
    pub fn seal(record: Record, chain: &str, number: u64, previous: &str, key: &SigningKey) -> Self {
        let mut entry = Self {
            chain: chain.to_owned(),
            number,
            time_us: record.time_us,
            actor: record.actor,
            step: record.step,
            subject: record.subject,
            node: record.node,
            detail: record.detail,
            facts: record.facts,
            previous: previous.to_owned(),
            hash: String::new(),
            key: key_id(&key.verifying_key()),
            signature: String::new(),
        };
        let digest = entry.digest();
        entry.hash = hex(&digest);
        entry.signature = hex(&key.sign(&[SIGNED, &digest].concat()).to_bytes());
        entry
    }

    /// What `hash` is to be.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(ENTRY);
        let mut put = |text: &[u8]| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        put(self.chain.as_bytes());
        put(&self.number.to_le_bytes());
        put(&self.time_us.to_le_bytes());
        for text in [&self.actor, &self.step, &self.subject, &self.node, &self.detail] {
            put(text.as_bytes());
        }
        put(&(self.facts.len() as u64).to_le_bytes());
        for (name, value) in &self.facts {
            put(name.as_bytes());
            put(value.as_bytes());
        }
        put(self.previous.as_bytes());
        hash.finalize().into()
    }

    /// Whether its hash is that of its values.
    pub fn is_whole(&self) -> bool {
        unhex(&self.hash) == Some(self.digest())
    }

    /// Whether `key` signed it.
    pub fn is_signed_by(&self, key: &VerifyingKey) -> bool {
        let (Some(digest), Some(signature)) = (unhex::<32>(&self.hash), unhex::<64>(&self.signature)) else {
            return false;
        };
        key.verify_strict(&[SIGNED, &digest].concat(), &Signature::from_bytes(&signature)).is_ok()
    }

    /// The one line it is written as, without its end.
    ///
    /// # Errors
    /// Never for an entry of ours.
    pub fn line(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// The inverse of [`Entry::line`]: `None` for every other text, also one that merely means the same.
    pub fn parse(line: &str) -> Option<Self> {
        let entry: Self = serde_json::from_str(line).ok()?;
        (entry.line().ok()?.as_bytes() == line.as_bytes()).then_some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let facts = [("verb", "throttle"), ("evidence", "cpu_cores=0.99\n\"quoted\"")];
        Record {
            time_us: 5,
            actor: "ann".to_owned(),
            step: "approve".to_owned(),
            subject: "a".to_owned(),
            node: "n".to_owned(),
            detail: "known runaway".to_owned(),
            facts: facts.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        }
    }

    #[test]
    fn the_digest_is_what_the_format_says() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let entry = Entry::seal(Record::default(), "c", 1, NOTHING, &key);
        let mut bytes = b"skep.audit.entry.v1\0".to_vec();
        let mut put = |text: &[u8]| {
            bytes.extend((text.len() as u64).to_le_bytes());
            bytes.extend(text);
        };
        for text in [&b"c"[..], &1_u64.to_le_bytes(), &0_i64.to_le_bytes(), b"", b"", b"", b"", b"", &[0; 8]] {
            put(text);
        }
        put(NOTHING.as_bytes());
        assert_eq!(entry.hash, hex(&Sha256::digest(&bytes)));
        assert_eq!((entry.key.len(), entry.signature.len()), (16, 128));
    }

    #[test]
    fn there_is_one_way_to_write_an_entry() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let entry = Entry::seal(record(), "c", 9, NOTHING, &key);
        let line = entry.line().unwrap();
        assert_eq!(Entry::parse(&line), Some(entry.clone()));
        assert!(entry.is_whole() && entry.is_signed_by(&key.verifying_key()));
        for other in [line.replacen(':', ": ", 1), line.replacen("\\n", "\\u000a", 1), format!("{line} ")] {
            assert_ne!(other, line);
            assert_eq!(Entry::parse(&other), None, "{other}");
        }
        assert!(!entry.is_signed_by(&SigningKey::from_bytes(&[8; 32]).verifying_key()));
    }
}
