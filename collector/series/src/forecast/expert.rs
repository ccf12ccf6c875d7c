//! Simple opinions about what comes next.

use crate::mean::Mean;
use crate::season::Season;
use crate::state::{Reader, StateError, Writer};

/// How many there are: the last value, three means that forget, the usual course of the day moved to where the value is
/// now, the value of a day ago, and the mean of all.
pub const EXPERTS: usize = 7;

/// The one everything is compared with.
pub const LAST: usize = 0;

const RATES: [f64; 3] = [0.3, 0.1, 0.02];

/// Steps of a day, at five minutes a step; with longer steps some stay empty.
const DAY_STEPS: usize = 288;

const DAY_S: f64 = 86_400.0;

/// After so long half of what the value is off its usual course is gone.
const OFFSET_HALF_LIFE_S: f64 = 3.0 * 3600.0;

/// What they have seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Experts {
    count: u64,
    last: f64,
    means: [Mean; RATES.len()],
    all: Mean,
    season: Season,
    offset: Mean,
    /// The last day, by step; not a number where nothing was seen.
    day: Box<[f32; DAY_STEPS]>,
    newest: i64,
}

impl Default for Experts {
    fn default() -> Self {
        Self {
            count: 0,
            last: 0.0,
            means: Default::default(),
            all: Mean::default(),
            season: Season::default(),
            offset: Mean::default(),
            day: Box::new([f32::NAN; DAY_STEPS]),
            newest: i64::MIN,
        }
    }
}

impl Experts {
    /// Memory of the last day.
    pub const DAY_BYTES: usize = DAY_STEPS * size_of::<f32>();

    /// Learns the value of a step.
    pub fn learn(&mut self, time_s: f64, slot: i64, step_s: f64, value: f64) {
        self.count += 1;
        self.last = value;
        for (mean, rate) in self.means.iter_mut().zip(RATES) {
            mean.learn(value, rate, self.count);
        }
        self.all.learn(value, 0.0, self.count);
        if let Some(usual) = self.season.daily(time_s) {
            self.offset.learn(value - usual, 0.3, self.count);
        }
        self.season.learn(time_s, value);
        // Steps nobody saw must not pass for what was there a day before.
        let skipped = if self.newest == i64::MIN { 0 } else { (slot - self.newest - 1).min(DAY_STEPS as i64) };
        for missing in slot - skipped..slot {
            self.day[day_slot(missing)] = f32::NAN;
        }
        self.day[day_slot(slot)] = value as f32;
        self.newest = slot;
        debug_assert!(step_s > 0.0);
    }

    /// What each thinks of the value so many steps after the newest.
    pub fn forecast(&self, time_s: f64, slot: i64, step_s: f64, steps: u32) -> [f64; EXPERTS] {
        let ahead_s = f64::from(steps) * step_s;
        let [fast, middle, slow] = self.means.map(Mean::value);
        let left = (-std::f64::consts::LN_2 * ahead_s / OFFSET_HALF_LIFE_S).exp();
        let course = self.season.daily(time_s + ahead_s).map(|usual| usual + left * self.offset.value());
        let day = (DAY_S / step_s).round() as i64;
        let ago = slot + i64::from(steps) - day;
        let known = day <= DAY_STEPS as i64 && ago <= slot;
        let yesterday = Some(f64::from(self.day[day_slot(ago)])).filter(|value| known && value.is_finite());
        let else_last = |opinion: Option<f64>| opinion.unwrap_or(self.last);
        [self.last, fast, middle, slow, else_last(course), else_last(yesterday), self.all.value()]
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.i64(self.count as i64);
        out.f64(self.last);
        for mean in self.means.iter().chain([&self.all, &self.offset]) {
            mean.write(out);
        }
        self.season.write(out);
        self.day.iter().for_each(|&value| out.f32(value));
        out.i64(self.newest);
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, StateError> {
        let mut experts = Self { count: from.i64()? as u64, last: from.f64()?, ..Self::default() };
        let Self { means, all, offset, .. } = &mut experts;
        for mean in means.iter_mut().chain([all, offset]) {
            *mean = Mean::read(from)?;
        }
        experts.season = Season::read(from)?;
        for value in experts.day.iter_mut() {
            *value = from.f32()?;
        }
        experts.newest = from.i64()?;
        Ok(experts)
    }
}

fn day_slot(slot: i64) -> usize {
    slot.rem_euclid(DAY_STEPS as i64) as usize
}
