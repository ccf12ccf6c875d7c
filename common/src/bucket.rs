//! The one histogram layout: high dynamic range, one significant digit, 16 sub-buckets an octave.
//!
//! Units: nanoseconds or any other non-negative integer. A bucket's midpoint is at most 1/32 (3.2 %) from any value in it;
//! below 32 every value has its own bucket. Only shifts, so that the verifier and the kernel's clock are both content.
//! The index equals the `counts` index of an `hdrhistogram` made with bounds `(1, MAX_VALUE)` and one digit.
//!
//! Source: Gil Tene, HdrHistogram, `countsArrayIndex`.

/// Sub-buckets in one octave, as a power of two.
pub const SUB_BUCKET_BITS: u32 = 4;

/// Largest value told apart: 2^42 - 1 ns is 73 minutes; anything longer counts as this.
pub const MAX_VALUE: u64 = (1 << 42) - 1;

/// Number of buckets; every index is below this.
pub const BUCKETS: usize = ((42 - SUB_BUCKET_BITS as usize) << SUB_BUCKET_BITS) + (1 << SUB_BUCKET_BITS);

/// Index of the bucket that holds `value`.
#[inline(always)]
pub const fn index(value: u64) -> u16 {
    let value = if value > MAX_VALUE { MAX_VALUE } else { value };
    let shift = shift_of(value);
    ((shift << SUB_BUCKET_BITS) + (value >> shift) as u32) as u16
}

/// How many low bits the bucket of `value` ignores.
#[inline(always)]
const fn shift_of(value: u64) -> u32 {
    let top = 63 - (value | 31).leading_zeros();
    top - SUB_BUCKET_BITS
}

/// Smallest value in bucket `index`.
#[inline]
pub const fn lowest(index: u16) -> u64 {
    let index = index as u64;
    if index < 32 {
        return index;
    }
    let shift = (index >> SUB_BUCKET_BITS) - 1;
    (16 + (index & 15)) << shift
}

/// Largest value in bucket `index`.
#[inline]
pub const fn highest(index: u16) -> u64 {
    lowest(index + 1) - 1
}

/// The value a bucket stands for in tables and quantiles.
#[inline]
pub const fn midpoint(index: u16) -> u64 {
    lowest(index) + (highest(index) - lowest(index)) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket() {
        let mut value = 0u64;
        while value < MAX_VALUE {
            for v in [value, value + 1, value.saturating_sub(1)] {
                let i = index(v);
                assert!(lowest(i) <= v && v <= highest(i), "{v} is not in bucket {i}");
            }
            value = value + value / 7 + 1;
        }
    }

    #[test]
    fn buckets_touch_and_do_not_overlap() {
        for i in 0..BUCKETS as u16 - 1 {
            assert_eq!(index(lowest(i)), i);
            assert_eq!(index(highest(i)), i);
            assert_eq!(highest(i) + 1, lowest(i + 1));
        }
    }

    #[test]
    fn midpoints_are_within_one_thirty_second() {
        for i in 1..BUCKETS as u16 {
            let (low, mid) = (lowest(i) as f64, midpoint(i) as f64);
            assert!((mid - low) / low <= 1.0 / 32.0, "bucket {i}");
            assert!((highest(i) as f64 - mid) / highest(i) as f64 <= 1.0 / 32.0, "bucket {i}");
        }
    }

    #[test]
    fn the_top_bucket_takes_whatever_is_longer() {
        assert_eq!(index(MAX_VALUE) as usize, BUCKETS - 1);
        assert_eq!(index(u64::MAX), index(MAX_VALUE));
    }
}
