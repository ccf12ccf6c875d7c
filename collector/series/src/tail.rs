//! How large the residuals of one stream have been, each side for itself, and how surprising another one is.
//!
//! Sizes are counted in buckets of an eighth of an octave. Counts are in quarters, so that they can be halved twice
//! before a lone one is forgotten: a tail remembers between half of its `MEMORY` of values and all of it, the older ones
//! weighing less. Most series use a few dozen buckets of either side, some none: memory is taken for those between the
//! first and the last that hold something.

use crate::state::{Reader, StateError, Writer};

/// Buckets of one side: 24 octaves.
const BUCKETS: usize = 192;

/// Buckets in an octave.
const PER_OCTAVE: f64 = 8.0;

/// Where the first size ever seen is put: 18 octaves of smaller ones can be told apart, 6 of larger ones.
const FIRST: f64 = 144.0;

/// By so many buckets all move down when a size does not fit.
const SHIFT: usize = BUCKETS / 4;

/// One value.
const ONE: u16 = 4;

/// Values a surprise rests on at least.
const LEAST_VALUES: f64 = 50.0;

/// Decades of what a fifth of all values exceeds.
const FIFTH: f64 = 0.698_970_004_336_018_9;

/// A size of at least this share of another is "nearly as large".
const NEARLY: f64 = 0.8;

/// Which way a value is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Less than expected.
    Below,
    /// More than expected.
    Above,
}

impl Side {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Below => "below",
            Self::Above => "above",
        }
    }

    fn of(residual: f64) -> Self {
        if residual < 0.0 { Self::Below } else { Self::Above }
    }
}

/// What a stream thinks of a residual.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Surprise {
    /// Decades: 2 is one in a hundred, 3 is one in a thousand.
    pub decades: f64,
    /// Which side.
    pub side: Side,
    /// Values so far that were nearly as far out on that side.
    pub seen: f64,
    /// Of so many.
    pub of: f64,
}

/// Counts of one side; neither the first nor the last of them is 0.
#[derive(Debug, Clone, Default, PartialEq)]
struct Counts {
    /// Bucket of the first.
    first: usize,
    counts: Vec<u16>,
}

impl Counts {
    /// Bucket behind the last.
    fn end(&self) -> usize {
        self.first + self.counts.len()
    }

    fn get(&self, bucket: usize) -> u32 {
        bucket.checked_sub(self.first).and_then(|at| self.counts.get(at)).map_or(0, |&count| u32::from(count))
    }

    /// Of this bucket and all above it.
    fn from(&self, bucket: usize) -> u32 {
        let at = bucket.saturating_sub(self.first).min(self.counts.len());
        self.counts[at..].iter().map(|&count| u32::from(count)).sum()
    }

    fn sum(&self) -> u32 {
        self.from(0)
    }

    /// Buckets with their counts, the highest first.
    fn downwards(&self) -> impl Iterator<Item = (usize, u32)> {
        self.counts.iter().enumerate().rev().map(|(at, &count)| (self.first + at, u32::from(count)))
    }

    fn add(&mut self, bucket: usize) {
        if !(self.first..self.end()).contains(&bucket) {
            self.reach(bucket);
        }
        self.counts[bucket - self.first] += ONE;
    }

    fn reach(&mut self, bucket: usize) {
        if self.counts.is_empty() {
            self.first = bucket;
        }
        let (first, end) = (self.first.min(bucket), self.end().max(bucket + 1));
        self.counts.reserve_exact(end - first - self.counts.len());
        self.counts.splice(..0, std::iter::repeat_n(0, self.first - first));
        self.counts.resize(end - first, 0);
        self.first = first;
    }

    /// All move down by [`SHIFT`]; what would be below the lowest bucket is put into it.
    fn shift(&mut self) {
        let low = (SHIFT + 1).saturating_sub(self.first).min(self.counts.len());
        if low > 0 {
            let lowest: u32 = self.counts.drain(..low).map(u32::from).sum();
            self.counts.insert(0, lowest.min(u32::from(u16::MAX)) as u16);
        }
        self.first = self.first.saturating_sub(SHIFT);
    }

    fn halve(&mut self) {
        self.counts.iter_mut().for_each(|count| *count /= 2);
        self.trim();
    }

    fn trim(&mut self) {
        let Some(from) = self.counts.iter().position(|&count| count > 0) else {
            *self = Self::default();
            return;
        };
        let to = self.counts.iter().rposition(|&count| count > 0).map_or(from, |last| last + 1);
        self.counts.truncate(to);
        self.counts.drain(..from);
        self.counts.shrink_to_fit();
        self.first += from;
    }

    fn bytes(&self) -> usize {
        self.counts.capacity() * size_of::<u16>()
    }

    fn write(&self, out: &mut Writer) {
        out.u8(self.first as u8);
        out.u8(self.end() as u8);
        self.counts.iter().for_each(|&count| out.u16(count));
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, StateError> {
        let (first, end) = (from.u8()? as usize, from.u8()? as usize);
        if first > end || end > BUCKETS {
            return Err(StateError::Inconsistent);
        }
        let mut counts = Self { first, counts: (first..end).map(|_| from.u16()).collect::<Result<_, _>>()? };
        counts.trim();
        Ok(counts)
    }
}

/// The residuals of one stream; at `MEMORY` values (16,000 at most) all counts halve.
#[derive(Debug, Clone, PartialEq)]
pub struct Tail<const MEMORY: u32> {
    counts: [Counts; 2],
    /// Largest on each side.
    most: [f64; 2],
    /// All values, the zeros too, in units of [`ONE`].
    total: u32,
    /// Logarithm of the size at which bucket 0 begins; not a number until the first size.
    begin: f64,
}

impl<const MEMORY: u32> Default for Tail<MEMORY> {
    fn default() -> Self {
        Self { counts: Default::default(), most: [0.0; 2], total: 0, begin: f64::NAN }
    }
}

impl<const MEMORY: u32> Tail<MEMORY> {
    /// How surprising this is, by what was learned; `None` while that is too little.
    pub fn judge(&self, residual: f64) -> Option<Surprise> {
        let of = self.values();
        if of < LEAST_VALUES {
            return None;
        }
        let side = Side::of(residual);
        let size = residual.abs();
        if size == 0.0 {
            return Some(Surprise { decades: 0.0, side, seen: of, of });
        }
        let seen = self.at_least(side, NEARLY * size);
        let (near, far) = self.scales(side, size);
        let fit = if size < near { FIFTH * size / near } else { FIFTH + (size - near) / (far - near) };
        let counted = ((of + 1.0) / (seen + 1.0)).log10();
        Some(Surprise { decades: fit.min(counted), side, seen, of })
    }

    /// Learns a residual.
    pub fn learn(&mut self, residual: f64) {
        let side = Side::of(residual) as usize;
        let size = residual.abs();
        self.total += u32::from(ONE);
        if size > 0.0 {
            if self.begin.is_nan() {
                self.begin = size.log2() - FIRST / PER_OCTAVE;
            }
            let mut bucket = self.position(size);
            while bucket >= BUCKETS as f64 {
                self.shift();
                bucket = self.position(size);
            }
            self.counts[side].add(bucket.max(0.0) as usize);
            self.most[side] = self.most[side].max(size);
        }
        if self.total >= MEMORY * u32::from(ONE) {
            self.halve();
        }
    }

    /// Values it remembers.
    pub fn values(&self) -> f64 {
        f64::from(self.total) / f64::from(ONE)
    }

    /// The size that the given share of all values exceeds on this side; 0 if less than that share is on it at all.
    pub fn exceeded_by(&self, side: Side, share: f64) -> f64 {
        let [size] = self.exceeded_by_each(side, [share]);
        size
    }

    /// The same for several shares, the smallest first.
    fn exceeded_by_each<const SHARES: usize>(&self, side: Side, shares: [f64; SHARES]) -> [f64; SHARES] {
        let mut sizes = [0.0; SHARES];
        let (counts, most) = (&self.counts[side as usize], self.most[side as usize]);
        let mut next = 0;
        let mut above = 0;
        for (bucket, here) in counts.downwards() {
            while here > 0 && next < SHARES {
                let wanted = shares[next] * f64::from(self.total);
                if f64::from(above + here) < wanted {
                    break;
                }
                let position = bucket as f64 + 1.0 - (wanted - f64::from(above)) / f64::from(here);
                sizes[next] = self.size_at(position).min(most);
                next += 1;
            }
            if next == SHARES {
                break;
            }
            above += here;
        }
        sizes
    }

    /// The residual that the given share of all is below: negative where that lies on the lower side.
    pub fn quantile(&self, share: f64) -> f64 {
        let mass = |side: Side| f64::from(self.counts[side as usize].sum());
        let total = f64::from(self.total);
        if share * total < mass(Side::Below) {
            -self.exceeded_by(Side::Below, share)
        } else if share * total > total - mass(Side::Above) {
            self.exceeded_by(Side::Above, 1.0 - share)
        } else {
            0.0
        }
    }

    /// Share of all residuals above a number.
    pub fn share_above(&self, residual: f64) -> f64 {
        let size = residual.abs().max(f64::MIN_POSITIVE);
        let beyond = self.at_least(Side::of(residual), size) / self.values().max(1.0);
        if residual < 0.0 { 1.0 - beyond } else { beyond }
    }

    /// Sizes that a fifth and a fiftieth of all values exceed; apart, and not nothing beside the record.
    fn scales(&self, side: Side, size: f64) -> (f64, f64) {
        let most = self.most[side as usize];
        // Nothing was ever off on this side: it is measured against itself.
        let least = if most > 0.0 { 0.01 * most } else { size / 2.0 };
        let [far, near] = self.exceeded_by_each(side, [0.02, 0.2]);
        let near = near.max(least);
        (near, far.max(1.2 * near))
    }

    /// Values at least that large on this side; the bucket the size falls into counts in part.
    fn at_least(&self, side: Side, size: f64) -> f64 {
        if self.begin.is_nan() {
            return 0.0;
        }
        let position = self.position(size).max(0.0);
        let bucket = position as usize;
        let counts = &self.counts[side as usize];
        if bucket >= counts.end() {
            return 0.0;
        }
        let here = f64::from(counts.get(bucket)) * (bucket as f64 + 1.0 - position);
        (f64::from(counts.from(bucket + 1)) + here) / f64::from(ONE)
    }

    /// Memory it takes beside itself.
    pub fn bytes(&self) -> usize {
        self.counts.iter().map(Counts::bytes).sum()
    }

    fn position(&self, size: f64) -> f64 {
        (size.log2() - self.begin) * PER_OCTAVE
    }

    fn size_at(&self, position: f64) -> f64 {
        (self.begin + position / PER_OCTAVE).exp2()
    }

    fn shift(&mut self) {
        self.counts.iter_mut().for_each(Counts::shift);
        self.begin += SHIFT as f64 / PER_OCTAVE;
    }

    fn halve(&mut self) {
        self.counts.iter_mut().for_each(Counts::halve);
        self.total /= 2;
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.u32(self.total);
        out.f64(self.begin);
        for (counts, &most) in self.counts.iter().zip(&self.most) {
            out.f64(most);
            counts.write(out);
        }
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, StateError> {
        let mut tail = Self { total: from.u32()?, begin: from.f64()?, ..Self::default() };
        for side in 0..2 {
            tail.most[side] = from.f64()?;
            tail.counts[side] = Counts::read(from)?;
        }
        let counted: u32 = tail.counts.iter().map(Counts::sum).sum();
        let sound = tail.total < MEMORY * u32::from(ONE) && counted <= tail.total;
        if sound { Ok(tail) } else { Err(StateError::Inconsistent) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_beyond_the_largest_however_far_one_looks() {
        let mut tail = Tail::<2000>::default();
        (1..=100).for_each(|size| tail.learn(f64::from(size)));
        assert!(tail.share_above(1.0) > 0.9);
        assert_eq!(tail.share_above(1e300), 0.0);
        assert_eq!(tail.share_above(f64::INFINITY), 0.0);
        assert_eq!(tail.share_above(f64::NEG_INFINITY), 1.0);
    }
}
