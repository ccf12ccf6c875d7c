//! How long things took, of one kind in one window.

use skep_common::bucket;

use super::random::Random;

/// Most durations drawn for one distribution; more of them change neither its size nor its cost.
const MOST_DRAWN: u64 = 1000;

/// Buckets with their counts, ascending.
pub(crate) type Buckets = Vec<(u16, u64)>;

/// Durations.
#[derive(Debug)]
pub(crate) struct Waits {
    values: Vec<u64>,
    /// How many each of `values` stands for.
    weight: u64,
}

impl Waits {
    /// About `count` of them.
    pub(crate) fn draw(random: &mut Random, count: u64, median_ns: f64, sigma: f64) -> Self {
        let weight = count.div_ceil(MOST_DRAWN).max(1);
        let values = (0..count / weight).map(|_| random.log_normal(median_ns, sigma) as u64).collect();
        Self { values, weight }
    }

    /// How many they are.
    pub(crate) fn count(&self) -> u64 {
        self.values.len() as u64 * self.weight
    }

    /// All together.
    pub(crate) fn sum(&self) -> u64 {
        self.values.iter().sum::<u64>() * self.weight
    }

    /// The shortest.
    pub(crate) fn min(&self) -> Option<u64> {
        self.values.iter().min().copied()
    }

    /// The longest.
    pub(crate) fn max(&self) -> Option<u64> {
        self.values.iter().max().copied()
    }

    /// Their distribution.
    pub(crate) fn buckets(mut self) -> Buckets {
        self.values.sort_unstable();
        let mut buckets = Buckets::new();
        for value in self.values {
            let index = bucket::index(value);
            match buckets.last_mut() {
                Some((last, count)) if *last == index => *count += self.weight,
                _ => buckets.push((index, self.weight)),
            }
        }
        buckets
    }
}
