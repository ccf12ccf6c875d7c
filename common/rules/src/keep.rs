//! What is usual, as one file.
//!
//! `SKHB`, version (u16), a mark (u64), then three lists, each behind its length (u32): workloads and nodes with the time
//! they are watched since (u64, i64); what was seen (u64); programs with the nodes that know them (u64, count (u8), u64
//! each). Then CRC-32C (Castagnoli) of all before it. Little-endian. All numbers are hashes; the mark is one of a known
//! text, by which a skep that hashes otherwise knows that it has to learn anew.

use thiserror::Error;

use crate::baseline::{Baseline, COMMON_NODES};
use crate::table::hash;

const MAGIC: &[u8; 4] = b"SKHB";
const VERSION: u16 = 1;
const CHECKSUM_BYTES: usize = 4;
const MARK: &str = "what is usual";

/// Why a file of what is usual is not read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum KeepError {
    /// Not ours, or cut off.
    #[error("this is no file of what is usual, or it is cut off")]
    Malformed,
    /// Of another skep.
    #[error("what is usual was written down by another version of skep")]
    Version,
    /// A bit is wrong.
    #[error("checksum {found:08x} where {expected:08x} is right: damaged")]
    Checksum {
        /// As stored.
        found: u32,
        /// As computed.
        expected: u32,
    },
}

impl Baseline {
    /// All that was learned, what was used longest ago first.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.seen.len() * 8 + self.nodes.len() * 32);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&hash(MARK).to_le_bytes());
        let length = |out: &mut Vec<u8>, length: usize| out.extend_from_slice(&(length as u32).to_le_bytes());
        length(&mut out, self.since_us.len());
        for (place, since_us) in self.since_us.iter() {
            out.extend_from_slice(&place.to_le_bytes());
            out.extend_from_slice(&since_us.to_le_bytes());
        }
        length(&mut out, self.seen.len());
        self.seen.iter().for_each(|(seen, ())| out.extend_from_slice(&seen.to_le_bytes()));
        length(&mut out, self.nodes.len());
        for (program, nodes) in self.nodes.iter() {
            out.extend_from_slice(&program.to_le_bytes());
            out.push(nodes.len() as u8);
            nodes.iter().for_each(|node| out.extend_from_slice(&node.to_le_bytes()));
        }
        let checksum = crc32c::crc32c(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    /// What was learned before.
    ///
    /// # Errors
    /// [`KeepError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeepError> {
        let body = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or(KeepError::Malformed)?;
        let (body, stored) = bytes.split_at(body);
        let mut from = From { bytes: body };
        if from.take(MAGIC.len())? != MAGIC {
            return Err(KeepError::Malformed);
        }
        if u16::from_le_bytes(from.array()?) != VERSION {
            return Err(KeepError::Version);
        }
        let (found, expected) = (u32::from_le_bytes(From { bytes: stored }.array()?), crc32c::crc32c(body));
        if found != expected {
            return Err(KeepError::Checksum { found, expected });
        }
        if from.number()? != hash(MARK) {
            return Err(KeepError::Version);
        }
        let mut own = Self::default();
        for _ in 0..from.length()? {
            own.since_us.put(from.number()?, i64::from_le_bytes(from.array()?));
        }
        for _ in 0..from.length()? {
            own.seen.put(from.number()?, ());
        }
        for _ in 0..from.length()? {
            let program = from.number()?;
            let [count] = from.array()?;
            let nodes = (0..count).map(|_| from.number()).collect::<Result<Vec<u64>, _>>()?;
            if nodes.len() > COMMON_NODES {
                return Err(KeepError::Malformed);
            }
            own.nodes.put(program, nodes);
        }
        if from.bytes.is_empty() { Ok(own) } else { Err(KeepError::Malformed) }
    }
}

struct From<'a> {
    bytes: &'a [u8],
}

impl<'a> From<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], KeepError> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(KeepError::Malformed)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], KeepError> {
        self.take(N)?.try_into().map_err(|_| KeepError::Malformed)
    }

    fn number(&mut self) -> Result<u64, KeepError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn length(&mut self) -> Result<u32, KeepError> {
        Ok(u32::from_le_bytes(self.array()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::LEARN_US;
    use crate::event::Exec;
    use crate::facts::{Facts, Field};

    fn news(baseline: &mut Baseline, exe: &str, day: i64) -> usize {
        let exec = Exec { node: "a", workload: "unit/x", exe, time_us: day * LEARN_US, ..Exec::default() };
        let mut facts = Facts::default();
        baseline.exec(&exec, &mut facts);
        facts.get(Field::FirstSeen).len()
    }

    #[test]
    fn what_was_learned_is_known_afterwards() {
        let mut before = Baseline::default();
        assert_eq!(news(&mut before, "/usr/bin/known", 0), 0);
        let mut after = Baseline::from_bytes(&before.to_bytes()).unwrap();
        assert_eq!(news(&mut after, "/usr/bin/known", 2), 0);
        assert_eq!(news(&mut after, "/usr/bin/strange", 2), 1, "the day of learning is over, start or no start");
    }

    #[test]
    fn what_is_damaged_is_refused() {
        let mut baseline = Baseline::default();
        news(&mut baseline, "/usr/bin/known", 0);
        let good = baseline.to_bytes();
        for length in 0..good.len() {
            assert!(Baseline::from_bytes(&good[..length]).is_err(), "{length} bytes");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 16;
            assert!(Baseline::from_bytes(&bad).is_err(), "byte {at}");
        }
    }
}
