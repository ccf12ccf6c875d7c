//! Parquet's levels to how many buckets each row has.

use parquet::errors::Result;

use super::runs::{PACK, Run, Runs, broken, unpack};

/// The length of a row that is null.
pub const NULL: u32 = u32::MAX;

/// Which definition level says what of a histogram in one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// There is a bucket with both its numbers.
    pub whole: u32,
    /// There is a bucket; one less is none.
    pub bucket: u32,
    /// Whether a row may be null: two less, or fewer.
    pub nullable: bool,
}

/// The levels of one page, still encoded.
#[derive(Debug, Clone, Copy)]
pub struct Levels<'a> {
    /// Zero where a row begins.
    pub repetition: &'a [u8],
    /// What of a bucket there is.
    pub definition: &'a [u8],
    /// How many there are of each.
    pub entries: usize,
}

/// How many buckets each of a page's `rows` rows has, or [`NULL`].
///
/// # Errors
/// Levels that cannot be, or a bucket without one of its numbers.
pub fn lengths(shape: Shape, levels: Levels<'_>, rows: usize) -> Result<Vec<u32>> {
    let Levels { mut repetition, mut definition, entries } = levels;
    let starts = starts(&mut repetition, entries, rows)?;
    if starts.len() != rows || starts.first().is_some_and(|first| *first != 0) {
        return Err(broken("its rows are not those of the index"));
    }
    let absent = absent(&mut definition, entries, rows, shape.whole)?;
    let mut absent = absent.into_iter().peekable();
    let ends = starts.iter().skip(1).copied().chain([entries as u32]);
    let mut lengths = Vec::with_capacity(starts.len());
    for (&start, end) in starts.iter().zip(ends) {
        let length = match absent.next_if(|(entry, _)| *entry == start) {
            None => end - start,
            Some((_, level)) if end - start > 1 || level >= shape.bucket => return Err(broken("a bucket is null")),
            Some((_, level)) if shape.nullable && level + 1 < shape.bucket => NULL,
            Some(_) => 0,
        };
        lengths.push(length);
    }
    // One that was passed over began no row.
    if absent.next().is_some() { Err(broken("a bucket is null")) } else { Ok(lengths) }
}

/// The entries that begin a row: those that repeat nothing. There are `rows`.
fn starts(encoded: &mut &[u8], entries: usize, rows: usize) -> Result<Vec<u32>> {
    let mut runs = Runs::new(1, entries)?;
    let mut starts = Vec::with_capacity(rows.min(entries));
    let mut entry = 0u32;
    while let Some(run) = runs.next(encoded)? {
        let count = run.count() as u32;
        match run {
            // Not before it is known that they are not too many.
            Run::Same(0, _) if run.count() > rows.saturating_sub(starts.len()) => return Err(broken("too many rows")),
            Run::Same(0, _) => starts.extend(entry..entry + count),
            Run::Same(..) => {}
            Run::Packed(packs, _) => {
                for (at, pack) in packs.iter().enumerate() {
                    let mut zeros = !pack;
                    while zeros != 0 {
                        let within = at as u32 * PACK as u32 + zeros.trailing_zeros();
                        if within < count {
                            starts.push(entry + within);
                        }
                        zeros &= zeros - 1;
                    }
                }
            }
        }
        entry += count;
    }
    Ok(starts)
}

/// The entries that are no bucket, and their levels. Each has a row to itself.
fn absent(encoded: &mut &[u8], entries: usize, rows: usize, whole: u32) -> Result<Vec<(u32, u32)>> {
    // At most 4, of a list and a bucket that may be null: three bits.
    let bits = (u32::BITS - whole.leading_zeros()) as u8;
    let mut runs = Runs::new(bits, entries)?;
    let mut absent = Vec::new();
    let mut entry = 0u32;
    while let Some(run) = runs.next(encoded)? {
        let count = run.count() as u32;
        match run {
            Run::Same(level, _) if level == whole => {}
            Run::Same(..) if run.count() > rows.saturating_sub(absent.len()) => return Err(broken("a bucket is null")),
            Run::Same(level, _) => absent.extend((entry..entry + count).map(|entry| (entry, level))),
            Run::Packed(packs, _) => {
                for (at, pack) in packs.chunks_exact(usize::from(bits)).enumerate() {
                    let levels = match bits {
                        1 => unpack::<1>(pack),
                        2 => unpack::<2>(pack),
                        _ => unpack::<3>(pack),
                    };
                    let entries = at as u32 * PACK as u32..count;
                    let others = entries.zip(levels).filter(|(_, level)| *level != whole);
                    absent.extend(others.map(|(within, level)| (entry + within, level)));
                }
            }
        }
        entry += count;
    }
    Ok(absent)
}
