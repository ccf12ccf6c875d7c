//! How often what was measured fell into each bucket, in little memory: every node has one under way for each workload
//! and signal.

use skep_common::bucket;

/// Buckets that are made room for at a time: an octave.
const STEP: usize = 1 << bucket::SUB_BUCKET_BITS;

/// Counts from about the first bucket that has any to about the last.
#[derive(Debug, Default)]
pub(super) struct Distribution {
    /// The bucket `low` begins with.
    first: usize,
    /// Of each count, the lower half.
    low: Vec<u16>,
    /// Of each count, the upper half; empty while no count needs one.
    high: Vec<u16>,
    count: u64,
}

impl Distribution {
    /// How much was measured.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn add(&mut self, buckets: impl Iterator<Item = (u16, u64)>) {
        for (bucket, count) in buckets {
            let at = self.place(usize::from(bucket));
            self.count = self.count.saturating_add(count);
            match u16::try_from(u64::from(self.low[at]).saturating_add(count)) {
                Ok(sum) => self.low[at] = sum,
                Err(_) => self.add_much(at, count),
            }
        }
    }

    /// What is in the buckets that are not empty.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (u16, u64)> {
        let counts = (0..self.low.len()).map(move |at| ((self.first + at) as u16, u64::from(self.at(at))));
        counts.filter(|(_, count)| *count > 0)
    }

    fn at(&self, at: usize) -> u32 {
        u32::from(self.low[at]) | u32::from(self.high.get(at).copied().unwrap_or(0)) << 16
    }

    fn add_much(&mut self, at: usize, count: u64) {
        let sum = self.at(at).saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        self.low[at] = sum as u16;
        self.high.resize(self.low.len(), 0);
        self.high[at] = (sum >> 16) as u16;
    }

    /// Where a bucket's count is, after making room for it.
    fn place(&mut self, bucket: usize) -> usize {
        if self.low.is_empty() {
            self.first = bucket - bucket % STEP;
        } else if bucket < self.first {
            let more = (self.first - bucket).next_multiple_of(STEP);
            let begin_earlier = |halves: &mut Vec<u16>| {
                halves.reserve_exact(more);
                drop(halves.splice(0..0, std::iter::repeat_n(0, more)));
            };
            begin_earlier(&mut self.low);
            if !self.high.is_empty() {
                begin_earlier(&mut self.high);
            }
            self.first -= more;
        }
        let at = bucket - self.first;
        if at >= self.low.len() {
            let length = (at + 1).next_multiple_of(STEP);
            self.low.reserve_exact(length - self.low.len());
            self.low.resize(length, 0);
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_the_sum_of_what_was_added(
            rows in prop::collection::vec(
                prop::collection::btree_map(0u16..bucket::BUCKETS as u16, prop_oneof![1u64..9, 1u64..1 << 20], 0..6),
                0..40,
            ),
        ) {
            let (mut distribution, mut sums) = (Distribution::default(), BTreeMap::new());
            for row in rows {
                row.iter().for_each(|(bucket, count)| *sums.entry(*bucket).or_insert(0) += count);
                distribution.add(row.into_iter());
            }
            prop_assert_eq!(distribution.count(), sums.values().sum::<u64>());
            prop_assert_eq!(distribution.buckets().collect::<BTreeMap<_, _>>(), sums);
        }
    }

    #[test]
    fn a_count_stops_at_its_largest() {
        let mut distribution = Distribution::default();
        distribution.add([(5, u64::MAX >> 1), (700, 3)].into_iter());
        distribution.add([(5, 1), (2, 70_000)].into_iter());
        let buckets: Vec<_> = distribution.buckets().collect();
        assert_eq!(buckets, [(2, 70_000), (5, u64::from(u32::MAX)), (700, 3)]);
    }
}
