//! Is it far from what is usual now, or beyond a limit?
//!
//! A robust z: the distance from the median of the last values in units of their spread (scaled median absolute
//! deviation, never below a floor). It knows the last hour and nothing else, so it answers every time something comes,
//! however often: it is the signal for alerts that must not get used to things. Beside it, limits that somebody set.

use crate::point::{Ignored, Point};
use crate::state::{Kind, Reader, StateError, Writer};
use crate::tail::Side;

/// Values the median rests on: an hour by the minute.
const VALUES: usize = 60;

/// Values below which nothing is said.
const LEAST_VALUES: usize = 10;

/// Spreads from the median beyond which a value is far.
pub const FAR: f64 = 6.0;

/// From the median absolute deviation to the standard deviation of a normal distribution.
pub const MAD_TO_SIGMA: f64 = 1.4826;

/// What does not matter, and what somebody said must not be exceeded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// The spread is not taken for less: a series that never moved would make anything infinitely far.
    pub least_spread: f64,
    /// Nor for less than this share of the median.
    pub least_spread_ratio: f64,
    /// Beyond it on this side the value is over its limit.
    pub limit: Option<(Side, f64)>,
}

/// What is known of one value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// Median of the values before it.
    pub median: f64,
    /// Their spread, not below the floor.
    pub spread: f64,
    /// Distance from the median in spreads; negative below it.
    pub z: f64,
    /// It is far out: the distance is beyond [`FAR`].
    pub far: bool,
    /// It is beyond its limit.
    pub over_limit: bool,
    /// Values of the last sixty that were nearly as far out on that side.
    pub seen: usize,
    /// Values it rests on.
    pub of: usize,
}

impl Level {
    /// All within [`FAR`] spreads.
    pub fn expected(&self) -> (f64, f64) {
        (self.median - FAR * self.spread, self.median + FAR * self.spread)
    }
}

/// The last values of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct Levels {
    last_s: f64,
    values: [f64; VALUES],
    count: u64,
}

impl Default for Levels {
    fn default() -> Self {
        Self { last_s: f64::NEG_INFINITY, values: [0.0; VALUES], count: 0 }
    }
}

impl Levels {
    /// Judges a value by the ones before it, then learns it; `None` while there are too few.
    ///
    /// # Errors
    /// When the point is none; nothing is learned from it then.
    pub fn observe(&mut self, point: Point, bounds: &Bounds) -> Result<Option<Level>, Ignored> {
        point.check(self.last_s)?;
        self.last_s = point.time_s;
        let before = &self.values[..(self.count as usize).min(VALUES)];
        let level = (before.len() >= LEAST_VALUES).then(|| judge(before, point.value, bounds));
        self.values[(self.count % VALUES as u64) as usize] = point.value;
        self.count += 1;
        Ok(level)
    }

    /// As bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::new(Kind::Level);
        out.f64(self.last_s);
        out.i64(self.count as i64);
        self.values.iter().for_each(|&value| out.f64(value));
        out.finish()
    }

    /// From bytes of [`Levels::to_bytes`].
    ///
    /// # Errors
    /// When they are cut off, damaged or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StateError> {
        let mut from = Reader::new(bytes, Kind::Level)?;
        let mut levels = Self { last_s: from.f64()?, count: from.i64()? as u64, ..Self::default() };
        for value in &mut levels.values {
            *value = from.f64()?;
        }
        from.end()?;
        Ok(levels)
    }
}

fn judge(before: &[f64], value: f64, bounds: &Bounds) -> Level {
    let mut sorted = [0.0; VALUES];
    let sorted = &mut sorted[..before.len()];
    sorted.copy_from_slice(before);
    let median = median(sorted);
    for (deviation, earlier) in sorted.iter_mut().zip(before) {
        *deviation = (earlier - median).abs();
    }
    let floor = bounds.least_spread.max(bounds.least_spread_ratio * median.abs()).max(f64::MIN_POSITIVE);
    let spread = (MAD_TO_SIGMA * self::median(sorted)).max(floor);
    let off = value - median;
    let nearly = |earlier: &&f64| (**earlier - median) * off.signum() >= 0.8 * off.abs();
    let over_limit = bounds.limit.is_some_and(|(side, limit)| match side {
        Side::Above => value > limit,
        Side::Below => value < limit,
    });
    Level {
        median,
        spread,
        z: off / spread,
        far: (off / spread).abs() > FAR,
        over_limit,
        seen: before.iter().filter(nearly).count(),
        of: before.len(),
    }
}

/// The median of at least one value, in linear time; changes their order.
pub fn median(values: &mut [f64]) -> f64 {
    let middle = values.len() / 2;
    let odd = values.len() % 2 == 1;
    let (below, &mut upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    if odd { upper } else { (below.iter().copied().fold(f64::NEG_INFINITY, f64::max) + upper) / 2.0 }
}
