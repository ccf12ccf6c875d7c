//! What is usual at this hour of the day and of the week: the mean of each hour, in UTC.

use crate::state::{Reader, StateError, Writer};

const HOUR_S: f64 = 3600.0;

/// Weight of the newest day in an hour's mean, and of the newest week.
const DAY_RATE: f32 = 0.3;
const WEEK_RATE: f32 = 0.5;

/// Days an hour must have been seen, and weeks: one hour of one week is no habit.
const LEAST_DAYS: u8 = 1;
const LEAST_WEEKS: u8 = 2;

/// Means by hour, and of how many days or weeks.
#[derive(Debug, Clone, PartialEq)]
struct Profile<const HOURS: usize> {
    means: [f32; HOURS],
    /// Stops at 255.
    seen: [u8; HOURS],
}

impl<const HOURS: usize> Profile<HOURS> {
    fn new() -> Self {
        Self { means: [0.0; HOURS], seen: [0; HOURS] }
    }

    fn fold(&mut self, hour: usize, mean: f32, rate: f32) {
        self.seen[hour] = self.seen[hour].saturating_add(1);
        let rate = rate.max(1.0 / f32::from(self.seen[hour]));
        self.means[hour] += rate * (mean - self.means[hour]);
    }

    /// Between the middles of two hours; `None` where this hour was not seen often enough.
    fn at(&self, hours: f64, least: u8) -> Option<f64> {
        let here = hours.floor() as usize % HOURS;
        if self.seen[here] < least {
            return None;
        }
        let from_middle = hours - hours.floor() - 0.5;
        let other = if from_middle < 0.0 { (here + HOURS - 1) % HOURS } else { (here + 1) % HOURS };
        let share = if self.seen[other] == 0 { 0.0 } else { from_middle.abs() };
        Some(f64::from(self.means[here]) * (1.0 - share) + f64::from(self.means[other]) * share)
    }

    fn write(&self, out: &mut Writer) {
        for (&mean, &seen) in self.means.iter().zip(&self.seen) {
            out.u8(seen);
            if seen > 0 {
                out.f32(mean);
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, StateError> {
        let mut profile = Self::new();
        for hour in 0..HOURS {
            profile.seen[hour] = from.u8()?;
            if profile.seen[hour] > 0 {
                profile.means[hour] = from.f32()?;
            }
        }
        Ok(profile)
    }
}

/// The usual course of a day and of a week.
#[derive(Debug, Clone, PartialEq)]
pub struct Season {
    day: Profile<24>,
    week: Profile<168>,
    /// The hour that is under way, since the epoch, and what was seen in it.
    hour: i64,
    sum: f64,
    count: u32,
}

impl Default for Season {
    fn default() -> Self {
        Self { day: Profile::new(), week: Profile::new(), hour: i64::MIN, sum: 0.0, count: 0 }
    }
}

impl Season {
    /// What this hour of the day usually brings.
    pub fn daily(&self, time_s: f64) -> Option<f64> {
        self.day.at((time_s / HOUR_S).rem_euclid(24.0), LEAST_DAYS)
    }

    /// What this hour of the week usually brings.
    pub fn weekly(&self, time_s: f64) -> Option<f64> {
        self.week.at((time_s / HOUR_S).rem_euclid(168.0), LEAST_WEEKS)
    }

    /// How far off a value is from whichever of the two it is nearer to.
    pub fn residual(&self, time_s: f64, value: f64) -> Option<f64> {
        let daily = self.daily(time_s).map(|usual| value - usual);
        let weekly = self.weekly(time_s).map(|usual| value - usual);
        match (daily, weekly) {
            (Some(daily), Some(weekly)) => Some(if weekly.abs() < daily.abs() { weekly } else { daily }),
            (daily, weekly) => daily.or(weekly),
        }
    }

    /// Learns a value; an hour counts once it is over.
    pub fn learn(&mut self, time_s: f64, value: f64) {
        let hour = (time_s / HOUR_S).floor() as i64;
        if hour != self.hour {
            if self.count > 0 {
                let mean = (self.sum / f64::from(self.count)) as f32;
                self.day.fold(self.hour.rem_euclid(24) as usize, mean, DAY_RATE);
                self.week.fold(self.hour.rem_euclid(168) as usize, mean, WEEK_RATE);
            }
            (self.hour, self.sum, self.count) = (hour, 0.0, 0);
        }
        self.sum += value;
        self.count += 1;
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        self.day.write(out);
        self.week.write(out);
        out.i64(self.hour);
        out.f64(self.sum);
        out.u32(self.count);
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, StateError> {
        Ok(Self {
            day: Profile::read(from)?,
            week: Profile::read(from)?,
            hour: from.i64()?,
            sum: from.f64()?,
            count: from.u32()?,
        })
    }
}
