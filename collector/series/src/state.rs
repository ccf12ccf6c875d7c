//! State as bytes, so that what was learned survives a restart.
//!
//! `SKSR`, version (u16), kind (u16), length of the body (u32), body, CRC-32C (Castagnoli) of all before it; integers and
//! floats little-endian. A body of another version, cut off, longer or changed is refused with a [`StateError`]; there
//! is no half-read state.

const MAGIC: [u8; 4] = *b"SKSR";

/// The only version there has been.
pub const VERSION: u16 = 1;

const HEAD_BYTES: usize = 12;
const CHECKSUM_BYTES: usize = 4;

/// Why bytes are no state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Cut off, or never one.
    #[error("{found} bytes where {expected} belong: cut off, or not the state of a series")]
    Length {
        /// Bytes there are.
        found: usize,
        /// Bytes there should be.
        expected: usize,
    },
    /// Something else.
    #[error("this does not begin like the state of a series")]
    Magic,
    /// Of another skep.
    #[error("state of version {found}, this skep reads version {VERSION}: it is learned anew")]
    Version {
        /// Version it claims.
        found: u16,
    },
    /// State of another part.
    #[error("state of kind {found} where kind {expected} belongs")]
    Kind {
        /// Kind it claims.
        found: u16,
        /// Kind asked for.
        expected: u16,
    },
    /// A bit is wrong.
    #[error("checksum {found:08x} where {expected:08x} is right: damaged")]
    Checksum {
        /// As stored.
        found: u32,
        /// As computed.
        expected: u32,
    },
    /// The checksum is right and the content cannot be.
    #[error("the content contradicts itself")]
    Inconsistent,
}

/// Whose state it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Novelty = 1,
    Level = 2,
    Forecast = 3,
    Limit = 4,
}

/// Writes one state.
#[derive(Debug)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

macro_rules! put {
    ($($name:ident),*) => {
        $(pub(crate) fn $name(&mut self, value: $name) {
            self.bytes.extend_from_slice(&value.to_le_bytes());
        })*
    };
}

impl Writer {
    pub(crate) fn new(kind: Kind) -> Self {
        let mut bytes = Vec::with_capacity(4096);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(kind as u16).to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        Self { bytes }
    }

    put!(u8, u16, u32, i64, f32, f64);

    pub(crate) fn finish(mut self) -> Vec<u8> {
        let body = (self.bytes.len() - HEAD_BYTES) as u32;
        self.bytes[8..HEAD_BYTES].copy_from_slice(&body.to_le_bytes());
        let checksum = crc32c::crc32c(&self.bytes);
        self.u32(checksum);
        self.bytes
    }
}

/// Reads one state.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    expected: usize,
}

macro_rules! take {
    ($($name:ident),*) => {
        $(pub(crate) fn $name(&mut self) -> Result<$name, StateError> {
            Ok($name::from_le_bytes(self.array()?))
        })*
    };
}

impl<'a> Reader<'a> {
    /// Checks everything around the body.
    pub(crate) fn new(bytes: &'a [u8], kind: Kind) -> Result<Self, StateError> {
        let least = HEAD_BYTES + CHECKSUM_BYTES;
        if bytes.len() < least {
            return Err(StateError::Length { found: bytes.len(), expected: least });
        }
        if bytes[..4] != MAGIC {
            return Err(StateError::Magic);
        }
        let mut head = Self { bytes: &bytes[4..HEAD_BYTES], expected: bytes.len() };
        let (version, found, body) = (head.u16()?, head.u16()?, head.u32()? as usize);
        if version != VERSION {
            return Err(StateError::Version { found: version });
        }
        if bytes.len() != least + body {
            return Err(StateError::Length { found: bytes.len(), expected: least + body });
        }
        let (all, mut end) = (&bytes[..least + body - CHECKSUM_BYTES], head);
        end.bytes = &bytes[all.len()..];
        let (stored, right) = (end.u32()?, crc32c::crc32c(all));
        if stored != right {
            return Err(StateError::Checksum { found: stored, expected: right });
        }
        if found != kind as u16 {
            return Err(StateError::Kind { found, expected: kind as u16 });
        }
        Ok(Self { bytes: &all[HEAD_BYTES..], expected: bytes.len() })
    }

    take!(u8, u16, u32, i64, f32, f64);

    /// Nothing may be left.
    pub(crate) fn end(&self) -> Result<(), StateError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(StateError::Inconsistent) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let Some((taken, rest)) = self.bytes.split_first_chunk::<N>() else {
            return Err(StateError::Length { found: self.expected, expected: self.expected + N - self.bytes.len() });
        };
        self.bytes = rest;
        Ok(*taken)
    }
}
