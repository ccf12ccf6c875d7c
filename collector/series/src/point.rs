//! One value at one time.

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Seconds since the epoch.
    pub time_s: f64,
    /// In whatever unit; the scores do not depend on it.
    pub value: f64,
    /// 0..1: how much of what happened was seen. Less of it makes a score less sure.
    pub coverage: f64,
}

impl Point {
    /// One that was seen entirely.
    pub fn new(time_s: f64, value: f64) -> Self {
        Self { time_s, value, coverage: 1.0 }
    }

    /// Whether it can follow a point of that time; nothing is learned from one that cannot.
    ///
    /// # Errors
    /// When it is no number, not after the point before, or of a time in which nobody watched.
    pub fn check(&self, last_s: f64) -> Result<(), Ignored> {
        if !self.value.is_finite() || self.value.abs() > LARGEST {
            return Err(Ignored::NoNumber);
        }
        if !self.time_s.is_finite() || self.time_s.abs() > LATEST_S || self.time_s <= last_s {
            return Err(Ignored::Time);
        }
        if self.coverage > 0.0 { Ok(()) } else { Err(Ignored::Unseen) }
    }
}

/// Beyond it sums of squares are no numbers any more.
const LARGEST: f64 = 1e150;

/// Some three million years; hours since the epoch stay exact.
const LATEST_S: f64 = 1e14;

/// Why a point was let be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ignored {
    /// NaN, infinite, or beyond anything measured.
    NoNumber,
    /// At the time of the point before, or earlier, or no time.
    Time,
    /// Coverage is zero: the value says nothing.
    Unseen,
}

impl Ignored {
    /// The reason, as counters name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoNumber => "no_number",
            Self::Time => "not_after_the_last",
            Self::Unseen => "not_seen",
        }
    }
}
