//! The numbers of a page, taken or passed over from the front.

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::errors::Result;

use super::runs::{PACK, Run, Runs, broken, unpack, unpack_wide};

/// Bytes of a number.
const NUMBER: usize = size_of::<i64>();

/// The numbers of a page that were not taken yet.
#[derive(Debug)]
pub enum Values {
    /// As they are.
    Plain(Bytes),
    /// As places in a dictionary.
    Indexed(Indexed),
}

/// Places in a dictionary.
#[derive(Debug)]
pub struct Indexed {
    dictionary: Arc<[i64]>,
    bytes: Bytes,
    /// Where in them the next run begins.
    at: usize,
    bits: u8,
    runs: Runs,
    /// The run that was begun.
    run: Begun,
}

/// What is left of a run.
#[derive(Debug, Clone)]
enum Begun {
    Same {
        number: i64,
        left: usize,
    },
    /// The packs begin at `from`, and `done` of `count` numbers were taken.
    Packed {
        from: usize,
        done: usize,
        count: usize,
    },
}

impl Values {
    /// The numbers in `bytes`, of which there are `count`.
    ///
    /// # Errors
    /// There cannot be so many, or a way to write them that is not known here.
    pub fn new(encoding: Encoding, bytes: Bytes, count: usize, dictionary: Option<&Arc<[i64]>>) -> Result<Self> {
        match encoding {
            Encoding::PLAIN if bytes.len() / NUMBER < count => Err(broken("it ends too early")),
            Encoding::PLAIN => Ok(Self::Plain(bytes)),
            Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY => {
                let dictionary = dictionary.ok_or_else(|| broken("it has no dictionary"))?;
                Ok(Self::Indexed(Indexed::new(Arc::clone(dictionary), bytes, count)?))
            }
            _ => Err(broken("its numbers are written in an unknown way")),
        }
    }

    /// Memory of what was not taken.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Plain(bytes) => bytes.len(),
            Self::Indexed(indexed) => indexed.bytes.len(),
        }
    }

    /// Takes the next `count` numbers.
    ///
    /// # Errors
    /// There are fewer.
    pub fn take(&mut self, count: usize, into: &mut Vec<i64>) -> Result<()> {
        match self {
            Self::Plain(bytes) => {
                let taken = split(bytes, count)?;
                into.extend(numbers(&taken));
                Ok(())
            }
            Self::Indexed(indexed) => indexed.advance(count, Some(into)),
        }
    }

    /// Passes over the next `count` numbers.
    ///
    /// # Errors
    /// There are fewer.
    pub fn skip(&mut self, count: usize) -> Result<()> {
        match self {
            Self::Plain(bytes) => split(bytes, count).map(drop),
            Self::Indexed(indexed) => indexed.advance(count, None),
        }
    }
}

/// Numbers that are written as they are.
pub fn numbers(bytes: &[u8]) -> impl Iterator<Item = i64> {
    let (numbers, _) = bytes.as_chunks::<NUMBER>();
    numbers.iter().map(|number| i64::from_le_bytes(*number))
}

fn split(bytes: &mut Bytes, count: usize) -> Result<Bytes> {
    let length = count.saturating_mul(NUMBER);
    if length > bytes.len() { Err(broken("it ends too early")) } else { Ok(bytes.split_to(length)) }
}

impl Indexed {
    fn new(dictionary: Arc<[i64]>, bytes: Bytes, count: usize) -> Result<Self> {
        let bits = match bytes.first() {
            Some(bits) => *bits,
            None if count == 0 => 0,
            None => return Err(broken("it ends too early")),
        };
        let runs = Runs::new(bits, count)?;
        Ok(Self { dictionary, bytes, at: 1, bits, runs, run: Begun::Same { number: 0, left: 0 } })
    }

    /// Takes or, without `into`, passes over the next `count` numbers.
    fn advance(&mut self, mut count: usize, mut into: Option<&mut Vec<i64>>) -> Result<()> {
        while count > 0 {
            let done = match &mut self.run {
                Begun::Same { left: 0, .. } => {
                    self.begin()?;
                    continue;
                }
                Begun::Same { number, left } => {
                    let done = count.min(*left);
                    if let Some(into) = into.as_deref_mut() {
                        into.resize(into.len() + done, *number);
                    }
                    *left -= done;
                    done
                }
                Begun::Packed { done, count, .. } if done == count => {
                    self.begin()?;
                    continue;
                }
                Begun::Packed { from, done: before, count: all } => {
                    let done = count.min(*all - *before);
                    if let Some(into) = into.as_deref_mut() {
                        let packs = &self.bytes[*from..];
                        let packed = Packed { packs, bits: self.bits, dictionary: &self.dictionary };
                        packed.take(*before, done, into)?;
                    }
                    *before += done;
                    done
                }
            };
            count -= done;
        }
        Ok(())
    }

    /// Begins the next run.
    fn begin(&mut self) -> Result<()> {
        let bytes = self.bytes.as_ref();
        let mut rest = bytes.get(self.at..).unwrap_or_default();
        self.run = match self.runs.next(&mut rest)? {
            None => return Err(broken("it has too few numbers")),
            Some(Run::Same(place, left)) => {
                let number = self.dictionary.get(place as usize).ok_or_else(|| broken("no such place"))?;
                Begun::Same { number: *number, left }
            }
            Some(Run::Packed(packs, count)) => {
                Begun::Packed { from: bytes.len() - rest.len() - packs.len(), done: 0, count }
            }
        };
        self.at = bytes.len() - rest.len();
        Ok(())
    }
}

/// A packed run.
struct Packed<'a> {
    packs: &'a [u8],
    bits: u8,
    dictionary: &'a [i64],
}

impl Packed<'_> {
    /// Takes `count` numbers from the one at `from`.
    fn take(&self, from: usize, count: usize, into: &mut Vec<i64>) -> Result<()> {
        let pack_bytes = usize::from(self.bits);
        let (first, end) = (from / PACK, (from + count).div_ceil(PACK));
        let (before, behind) = (from % PACK, end * PACK - from - count);
        let packs = &self.packs[first * pack_bytes..end * pack_bytes];
        let whole = into.len();
        into.reserve((end - first) * PACK);
        macro_rules! by_bits {
            ($($bits:literal)*) => {
                match self.bits {
                    $($bits => self.look_up::<$bits>(packs, into),)*
                    _ => self.look_up_wide(packs, into),
                }
            };
        }
        let known = by_bits!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
        if !known {
            return Err(broken("no such place in its dictionary"));
        }
        into.truncate(into.len() - behind);
        into.drain(whole..whole + before);
        Ok(())
    }

    /// The numbers of whole packs, and whether all are in the dictionary.
    fn look_up<const BITS: usize>(&self, packs: &[u8], into: &mut Vec<i64>) -> bool {
        let mut known = true;
        for pack in packs.chunks_exact(BITS) {
            into.extend_from_slice(&look_up(unpack::<BITS>(pack), self.dictionary, &mut known));
        }
        known
    }

    fn look_up_wide(&self, packs: &[u8], into: &mut Vec<i64>) -> bool {
        let mut known = true;
        for pack in packs.chunks_exact(usize::from(self.bits)) {
            into.extend_from_slice(&look_up(unpack_wide(pack, self.bits), self.dictionary, &mut known));
        }
        known
    }
}

#[inline(always)]
fn look_up(places: [u32; PACK], dictionary: &[i64], known: &mut bool) -> [i64; PACK] {
    places.map(|place| {
        dictionary.get(place as usize).copied().unwrap_or_else(|| {
            *known = false;
            0
        })
    })
}
