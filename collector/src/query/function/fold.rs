//! Many histograms into one a group.
//!
//! The layout's midpoints are known ([`skep_common::bucket`]), so a group is an array of counts over the octaves it has
//! seen and a bucket is added by its index; nothing is searched, sorted or allocated a row. A value that is no midpoint
//! (somebody's own histogram) is kept aside by its value, and is as exact.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use skep_common::bucket::{self, BUCKETS};

/// Arrays grow by this many buckets: an octave.
const STEP: usize = 1 << bucket::SUB_BUCKET_BITS;

/// Bits of a float behind those that tell its bucket.
const SUB_BUCKET_SHIFT: u32 = f64::MANTISSA_DIGITS - 1 - bucket::SUB_BUCKET_BITS;

/// A power of two, so that no index has to be compared with it.
const PLACES: usize = BUCKETS.next_power_of_two();

/// The value each index stands for; those behind the last stand for one whose index is another.
static MIDPOINTS: LazyLock<[i64; PLACES]> = LazyLock::new(|| {
    let midpoint = |index| if index < BUCKETS { bucket::midpoint(index as u16) as i64 } else { i64::MIN };
    std::array::from_fn(midpoint)
});

/// A histogram for each group.
#[derive(Debug, Default)]
pub struct Folded {
    groups: Vec<Group>,
    odd: BTreeMap<(usize, i64), u64>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Group {
    /// Index of the first of `counts`.
    first: usize,
    counts: Vec<u64>,
    /// At least what any of them is.
    most: u64,
}

impl Folded {
    /// Makes room for groups `0..groups`.
    pub fn resize(&mut self, groups: usize) {
        if groups > self.groups.len() {
            self.bytes += (groups - self.groups.len()) * size_of::<Group>();
            self.groups.resize_with(groups, Group::default);
        }
    }

    /// How many groups there are.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Adds a histogram to a group there is room for. Counts below zero are none.
    pub fn add(&mut self, group: usize, values: &[i64], counts: &[i64]) {
        // None is more than the bits of all, and below zero if one is.
        let most = counts.iter().fold(0, |all, count| all | count);
        let mut done = 0;
        loop {
            // A bucket there is no place for is rare, and kept out of the loop.
            done += self.groups[group].add(&values[done..], &counts[done..], most);
            let (Some(value), Some(count)) = (values.get(done), counts.get(done)) else { return };
            self.add_one(group, *value, (*count).max(0) as u64);
            done += 1;
        }
    }

    fn add_one(&mut self, group: usize, value: i64, count: u64) {
        let index = index_if_midpoint(value) % PLACES;
        let sum = if MIDPOINTS[index] == value {
            let into = &mut self.groups[group];
            self.bytes += into.reach(index);
            &mut into.counts[index - into.first]
        } else {
            self.odd.entry((group, value)).or_default()
        };
        *sum = sum.saturating_add(count);
    }

    /// The non-empty buckets of `group`, ascending, into `buckets`.
    pub fn read(&self, group: usize, buckets: &mut Vec<(i64, u64)>) {
        buckets.clear();
        let Group { first, counts, .. } = &self.groups[group];
        let dense = MIDPOINTS.iter().skip(*first).copied().zip(counts.iter().copied());
        buckets.extend(dense.filter(|(_, count)| *count > 0));
        if !self.odd.is_empty() {
            let odd = self.odd.range((group, i64::MIN)..=(group, i64::MAX));
            buckets.extend(odd.map(|((_, value), count)| (*value, *count)).filter(|(_, count)| *count > 0));
            buckets.sort_unstable();
        }
    }

    /// As [`Self::read`], behind what `values` and `counts` have; returns how many.
    pub fn append(&self, group: usize, values: &mut Vec<i64>, counts: &mut Vec<i64>) -> usize {
        let start = values.len();
        if !self.odd.is_empty() {
            let mut buckets = Vec::new();
            self.read(group, &mut buckets);
            values.extend(buckets.iter().map(|(value, _)| *value));
            counts.extend(buckets.iter().map(|(_, count)| i64::try_from(*count).unwrap_or(i64::MAX)));
            return buckets.len();
        }
        let Group { first, counts: dense, .. } = &self.groups[group];
        values.resize(start + dense.len(), 0);
        counts.resize(start + dense.len(), 0);
        let (into_values, into_counts) = (&mut values[start..], &mut counts[start..]);
        let mut filled = 0;
        for (value, count) in MIDPOINTS[*first..].iter().zip(dense) {
            // The next overwrites what is empty; to jump over it instead is guessed wrong too often.
            into_values[filled] = *value;
            into_counts[filled] = i64::try_from(*count).unwrap_or(i64::MAX);
            filled += usize::from(*count > 0);
        }
        values.truncate(start + filled);
        counts.truncate(start + filled);
        filled
    }

    /// At least how much room the buckets of the first `groups` take while they are appended.
    pub fn room(&self, groups: usize) -> usize {
        let groups = &self.groups[..groups.min(self.groups.len())];
        let filled: usize = groups.iter().map(|group| group.counts.iter().filter(|count| **count > 0).count()).sum();
        filled + groups.iter().map(|group| group.counts.len()).max().unwrap_or(0)
    }

    /// Forgets the first `groups`; those behind move to the front.
    pub fn forget(&mut self, groups: usize) {
        let gone = self.groups.drain(..groups.min(self.groups.len()));
        self.bytes -= gone.map(|group| size_of::<Group>() + group.counts.len() * size_of::<u64>()).sum::<usize>();
        let stay = self.odd.split_off(&(groups, i64::MIN));
        self.odd = stay.into_iter().map(|((group, value), count)| ((group - groups, value), count)).collect();
    }

    /// Memory in use.
    pub fn bytes(&self) -> usize {
        self.bytes + self.odd.len() * 2 * size_of::<((usize, i64), u64)>()
    }
}

/// Index of the bucket `value` is the midpoint of, if it is one; else anything.
///
/// As [`bucket::index`] in fewer steps: a float's exponent and the first bits behind it are octave and sub-bucket.
#[inline(always)]
fn index_if_midpoint(value: i64) -> usize {
    // Of the first value that has an octave of its own, less its index.
    const BEFORE: u64 = ((STEP as f64).to_bits() >> SUB_BUCKET_SHIFT) - STEP as u64;
    if value < STEP as i64 {
        value as usize
    } else {
        (((value as f64).to_bits() >> SUB_BUCKET_SHIFT) - BEFORE) as usize
    }
}

impl Group {
    /// Adds buckets up to the first that it has no place for, and says how many; `most` is at least what each has.
    fn add(&mut self, values: &[i64], counts: &[i64], most: i64) -> usize {
        // Of one below zero nothing is said of the others.
        let most = u64::try_from(most).unwrap_or(u64::MAX);
        self.most = self.most.saturating_add(most.saturating_mul(values.len() as u64));
        if self.most == u64::MAX {
            return 0;
        }
        let (midpoints, first, sums) = (&*MIDPOINTS, self.first, self.counts.as_mut_slice());
        for (at, (&value, &count)) in values.iter().zip(counts).enumerate() {
            let index = index_if_midpoint(value) % PLACES;
            match sums.get_mut(index.wrapping_sub(first)) {
                // It cannot overflow, and to look whether it did takes a tenth of the time.
                Some(sum) if midpoints[index] == value => *sum = sum.wrapping_add(count as u64),
                _ => return at,
            }
        }
        values.len().min(counts.len())
    }

    /// Makes room for `index`; returns by how many bytes.
    fn reach(&mut self, index: usize) -> usize {
        let before = self.counts.len();
        let (low, high) = (index / STEP * STEP, (index / STEP + 1) * STEP);
        if self.counts.is_empty() {
            self.first = low;
            self.counts = vec![0; STEP];
        } else if low < self.first {
            self.counts.splice(0..0, std::iter::repeat_n(0, self.first - low));
            self.first = low;
        } else {
            self.counts.resize(self.counts.len().max(high - self.first), 0);
        }
        (self.counts.len() - before) * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(folded: &Folded, group: usize) -> Vec<(i64, u64)> {
        let mut buckets = Vec::new();
        folded.read(group, &mut buckets);
        buckets
    }

    /// Few as they are seen, below zero, and so many that sums are no more.
    fn count() -> impl Strategy<Value = i64> {
        prop_oneof![8 => 0i64..1000, 1 => -5i64..0, 1 => Just(i64::MAX)]
    }

    #[test]
    fn every_midpoint_has_its_index() {
        for index in 0..BUCKETS {
            assert_eq!(index_if_midpoint(MIDPOINTS[index]), index);
        }
    }

    proptest! {
        /// Whatever comes in whatever order, a group is the sum by value, and moving groups up changes none.
        #[test]
        fn a_group_is_the_sum_by_value(
            rows in prop::collection::vec((0usize..4, prop::collection::vec((any::<u64>(), any::<bool>(), count()), 0..20)), 0..50),
            gone in 0usize..5,
        ) {
            let mut folded = Folded::default();
            folded.resize(4);
            let mut expected: BTreeMap<(usize, i64), u64> = BTreeMap::new();
            for (group, row) in &rows {
                let midpoint = |value: u64| bucket::midpoint(bucket::index(value >> (value % 64))) as i64;
                let value = |(value, odd, _): &(u64, bool, i64)| if *odd { *value as i64 } else { midpoint(*value) };
                let values: Vec<i64> = row.iter().map(value).collect();
                let counts: Vec<i64> = row.iter().map(|(_, _, count)| *count).collect();
                folded.add(*group, &values, &counts);
                for (value, count) in values.iter().zip(counts) {
                    let sum = expected.entry((*group, *value)).or_default();
                    *sum = sum.saturating_add(count.max(0) as u64);
                }
            }
            let of = |group: usize| -> Vec<(i64, u64)> {
                let all = expected.iter().filter(|((of, _), count)| *of == group && **count > 0);
                all.map(|((_, value), count)| (*value, *count)).collect()
            };
            for group in 0..4 {
                prop_assert_eq!(read(&folded, group), of(group));
                let (mut values, mut counts) = (vec![7], vec![7]);
                let appended = folded.append(group, &mut values, &mut counts);
                let buckets = values.iter().copied().zip(counts.iter().map(|count| *count as u64)).skip(1);
                // What is more than a column can have is the most it can.
                let of_column = of(group).into_iter().map(|(value, count)| (value, count.min(i64::MAX as u64)));
                prop_assert_eq!(buckets.collect::<Vec<_>>(), of_column.collect::<Vec<_>>());
                prop_assert_eq!((values.len(), counts.len()), (appended + 1, appended + 1));
            }
            folded.forget(gone);
            prop_assert_eq!(folded.groups(), 4usize.saturating_sub(gone));
            for group in gone..4 {
                prop_assert_eq!(read(&folded, group - gone), of(group));
            }
            if gone >= 4 {
                prop_assert_eq!(folded.bytes(), 0);
            }
        }
    }
}
