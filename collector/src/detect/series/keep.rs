//! What was learned of all series, as one file in the data folder.
//!
//! `SKGL`, version (u16), number of series (u32); for each: node, workload, signal, last minute (i64), flags (u8), minutes
//! far out and over the limit (u32 each), and the states of novelty, levels and, if flagged, limit; texts and states stand
//! behind their length (u32). Then CRC-32C (Castagnoli) of all before it. Little-endian. Each state has a version of its
//! own: a series whose state this skep does not read is learned anew, the others stay.

use skep_series::Novelty;
use skep_series::level::Levels;
use skep_series::limit::Limit;
use skep_series::state::StateError;
use thiserror::Error;

use super::gallery::{Gallery, Known};

const MAGIC: &[u8; 4] = b"SKGL";
const VERSION: u16 = 1;
const CHECKSUM_BYTES: usize = 4;

const RATE: u8 = 1;
const LIMITED: u8 = 2;

/// Why a file of series is not read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum KeepError {
    /// Not ours, or cut off.
    #[error("this is no file of learned series, or it is cut off")]
    Malformed,
    /// Of another skep.
    #[error("learned series of version {found}, this skep reads version {VERSION}")]
    Version {
        /// Version it claims.
        found: u16,
    },
    /// A bit is wrong.
    #[error("checksum {found:08x} where {expected:08x} is right: damaged")]
    Checksum {
        /// As stored.
        found: u32,
        /// As computed.
        expected: u32,
    },
}

impl Gallery {
    /// All series, in the order of their names.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut all: Vec<_> = self.all().collect();
        all.sort_by_key(|(node, name, _)| (*node, *name));
        let mut out = Vec::with_capacity(all.len() * 4096);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(all.len() as u32).to_le_bytes());
        for (node, (workload, signal), known) in all {
            for text in [node, workload, signal] {
                put(&mut out, text.as_bytes());
            }
            out.extend_from_slice(&known.seen_us.to_le_bytes());
            out.push(if known.rate { RATE } else { 0 } | if known.limit.is_some() { LIMITED } else { 0 });
            out.extend_from_slice(&known.far_minutes.to_le_bytes());
            out.extend_from_slice(&known.over_minutes.to_le_bytes());
            put(&mut out, &known.novelty.to_bytes());
            put(&mut out, &known.levels.to_bytes());
            if let Some(limit) = &known.limit {
                put(&mut out, &limit.to_bytes());
            }
        }
        let checksum = crc32c::crc32c(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Takes up what was learned before; returns how many series were not read.
    ///
    /// # Errors
    /// [`KeepError`]: nothing was taken up.
    pub fn take_up(&mut self, bytes: &[u8]) -> Result<usize, KeepError> {
        let body = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or(KeepError::Malformed)?;
        let (body, stored) = bytes.split_at(body);
        let mut from = From { bytes: body };
        if from.take(MAGIC.len())? != MAGIC {
            return Err(KeepError::Malformed);
        }
        let found = u16::from_le_bytes(from.array()?);
        if found != VERSION {
            return Err(KeepError::Version { found });
        }
        let (found, expected) = (From { bytes: stored }.u32()?, crc32c::crc32c(body));
        if found != expected {
            return Err(KeepError::Checksum { found, expected });
        }
        let count = from.u32()?;
        let mut unread = 0;
        for _ in 0..count {
            let (node, workload, signal) = (from.text()?, from.text()?, from.text()?);
            match from.known()? {
                Ok(known) => self.put(&node, (workload, signal), known),
                Err(_of_another_version) => unread += 1,
            }
        }
        Ok(unread)
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
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

    fn u32(&mut self) -> Result<u32, KeepError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn long(&mut self) -> Result<&'a [u8], KeepError> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    fn text(&mut self) -> Result<String, KeepError> {
        Ok(String::from_utf8_lossy(self.long()?).into_owned())
    }

    fn known(&mut self) -> Result<Result<Known, StateError>, KeepError> {
        let seen_us = i64::from_le_bytes(self.array()?);
        let [flags] = self.array()?;
        let (far_minutes, over_minutes) = (self.u32()?, self.u32()?);
        let (novelty, levels) = (self.long()?, self.long()?);
        let limit = if flags & LIMITED != 0 { Some(self.long()?) } else { None };
        let read = || {
            Ok(Known {
                novelty: Novelty::from_bytes(novelty)?,
                levels: Levels::from_bytes(levels)?,
                limit: limit.map(Limit::from_bytes).transpose()?,
                far_minutes,
                over_minutes,
                seen_us,
                rate: flags & RATE != 0,
            })
        };
        Ok(read())
    }
}
