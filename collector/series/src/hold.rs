//! One incident is one alarm, and many alarms make the next one dearer.

use crate::novelty::Tuning;
use crate::state::{Reader, StateError, Writer};

/// Points after which an alarm of the past counts half.
const BUDGET_HALF_LIFE: f64 = 10_000.0;

/// So many decades above the peak are worse; less is the same again.
const WORSE: f64 = 0.1;

/// An incident lasts this many points at least, however far apart they are.
const LEAST_POINTS: u64 = 10;

/// What is under way, and how much was said so far.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Hold {
    /// Alarms so far, the old ones counting less.
    said: f64,
    /// The highest of the incident.
    peak: f64,
    begun_s: f64,
    begun_at: u64,
}

impl Hold {
    /// What the next surprise costs, in decades.
    pub fn price(&self) -> f64 {
        0.5 * (1.0 + self.said).log10()
    }

    /// What is left of a surprise at this time: nothing while an incident is under way that saw a higher one.
    pub fn pass(&mut self, time_s: f64, point: u64, decades: f64, tuning: &Tuning) -> f64 {
        self.said *= (-std::f64::consts::LN_2 / BUDGET_HALF_LIFE).exp();
        let under_way = self.peak > 0.0
            && (time_s - self.begun_s < tuning.hold_s || point - self.begun_at < LEAST_POINTS)
            && tuning.hold_s > 0.0;
        if decades <= 0.0 || (under_way && decades <= self.peak + WORSE) {
            return 0.0;
        }
        if decades >= tuning.alarm_decades - 0.1 {
            if tuning.budget {
                self.said += 1.0;
            }
            (self.peak, self.begun_s, self.begun_at) = (decades, time_s, point);
        }
        decades
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.f64(self.said);
        out.f64(self.peak);
        out.f64(self.begun_s);
        out.i64(self.begun_at as i64);
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, StateError> {
        Ok(Self { said: from.f64()?, peak: from.f64()?, begun_s: from.f64()?, begun_at: from.i64()? as u64 })
    }
}
