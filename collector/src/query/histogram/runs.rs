//! Parquet's runs: numbers of a few bits each, as one number and how often it comes, or packed.
//!
//! Levels and places in a dictionary are written so. What comes from a file may be anything: numbers that are not there
//! are an error, never a panic.

use parquet::errors::{ParquetError, Result};

/// Numbers packed together: eight of them are as many bytes as each has bits.
pub const PACK: usize = 8;

/// Most bits a number may have.
const MOST_BITS: u8 = 32;

/// Numbers that come one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run<'a> {
    /// One number, this often.
    Same(u32, usize),
    /// Packs of eight, and how many of the numbers in them count.
    Packed(&'a [u8], usize),
}

impl Run<'_> {
    /// How many numbers.
    pub fn count(&self) -> usize {
        match self {
            Self::Same(_, count) | Self::Packed(_, count) => *count,
        }
    }
}

/// Takes one run after the other off encoded bytes.
#[derive(Debug, Clone, Copy)]
pub struct Runs {
    bits: u8,
    /// Numbers still to come.
    left: usize,
}

impl Runs {
    /// Over `count` numbers of so many bits.
    ///
    /// # Errors
    /// No number has so many bits.
    pub fn new(bits: u8, count: usize) -> Result<Self> {
        if bits > MOST_BITS { Err(broken("numbers of more than 32 bits")) } else { Ok(Self { bits, left: count }) }
    }

    /// The next run off the front of `rest`; `None` when all numbers came.
    ///
    /// # Errors
    /// The bytes end before the numbers do.
    pub fn next<'a>(&mut self, rest: &mut &'a [u8]) -> Result<Option<Run<'a>>> {
        if self.left == 0 {
            return Ok(None);
        }
        let head = varint(rest)?;
        let run = if self.bits == 0 {
            // All are zero, however they are written.
            let packs = usize::try_from(head >> 1).unwrap_or(usize::MAX);
            let count = if head & 1 == 1 { packs.saturating_mul(PACK) } else { packs };
            Run::Same(0, count.min(self.left))
        } else if head & 1 == 1 {
            let packs = usize::try_from(head >> 1).unwrap_or(usize::MAX);
            // The last packs of a page may be left away where no number in them counts.
            let wanted = packs.min(self.left.div_ceil(PACK));
            let bytes = take(rest, wanted.saturating_mul(usize::from(self.bits)))?;
            Run::Packed(bytes, wanted.saturating_mul(PACK).min(self.left))
        } else {
            let bytes = take(rest, usize::from(self.bits).div_ceil(8))?;
            let number = bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte));
            Run::Same(number, usize::try_from(head >> 1).unwrap_or(usize::MAX).min(self.left))
        };
        if run.count() == 0 {
            return Err(broken("an empty run"));
        }
        self.left -= run.count();
        Ok(Some(run))
    }
}

/// The eight numbers of a pack of `BITS` bytes, at most 16.
#[inline(always)]
pub fn unpack<const BITS: usize>(pack: &[u8]) -> [u32; PACK] {
    let mut numbers = [0; PACK];
    let mask = (1u32 << BITS) - 1;
    if BITS <= 8 {
        let mut word = [0; 8];
        word[..BITS].copy_from_slice(&pack[..BITS]);
        let word = u64::from_le_bytes(word);
        for (at, number) in numbers.iter_mut().enumerate() {
            *number = (word >> (at * BITS)) as u32 & mask;
        }
    } else {
        let mut word = [0; 16];
        word[..BITS].copy_from_slice(&pack[..BITS]);
        let word = u128::from_le_bytes(word);
        for (at, number) in numbers.iter_mut().enumerate() {
            *number = (word >> (at * BITS)) as u32 & mask;
        }
    }
    numbers
}

/// As [`unpack`], of any number of bits up to 32.
pub fn unpack_wide(pack: &[u8], bits: u8) -> [u32; PACK] {
    let mut numbers = [0; PACK];
    for (at, number) in numbers.iter_mut().enumerate() {
        let from = at * usize::from(bits);
        let word = pack[from / 8..].iter().take(5).rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        *number = ((word >> (from % 8)) & ((1 << bits) - 1)) as u32;
    }
    numbers
}

fn varint(rest: &mut &[u8]) -> Result<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(broken("a length without end"))
}

/// Takes `count` bytes off the front.
///
/// # Errors
/// There are fewer.
pub fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count).ok_or_else(|| broken("it ends too early"))?;
    *rest = left;
    Ok(taken)
}

/// What is wrong with a page of a histogram.
pub fn broken(what: &str) -> ParquetError {
    ParquetError::General(format!("a page of a histogram does not decode: {what}"))
}
