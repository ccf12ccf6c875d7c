//! What the value will be, between which bounds, and whether there is any skill in saying so.
//!
//! Seven simple experts ([`expert`]) forecast at several horizons. Each is weighed by how well it did lately at that
//! horizon, steeply, so that the best few speak ([`horizon`]). Bounds are quantiles of what the combination was off by
//! lately, not what a model thinks of itself. Where it is no better than repeating the last value, it says so.
//!
//! The forecaster lives on a grid of steps: of two values in one step the first is taken. A step without a value leaves
//! the experts as they are, and what was forecast for it is not judged.

pub mod expert;

pub mod horizon;

use expert::Experts;
use horizon::Horizon;
pub use horizon::Outlook;

use crate::point::{Ignored, Point};
use crate::state::{Kind, Reader, StateError, Writer};

/// Steps ahead: five minutes, one hour and six, at the five minutes a step that hosts are forecast with.
pub const HORIZONS: [u32; 3] = [1, 12, 72];

/// One series.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    step_s: f64,
    slot: i64,
    value: f64,
    experts: Experts,
    horizons: Box<[Horizon]>,
}

/// Most horizons, and the furthest: what is waiting to be judged is kept.
const MOST_HORIZONS: usize = 8;
const FURTHEST: u32 = 4096;

impl Forecast {
    /// Of a series that has a value every so many seconds.
    pub fn new(step_s: f64) -> Self {
        Self::at(step_s, &HORIZONS)
    }

    /// The same at other horizons, in steps; at most eight, none further than 4096.
    pub fn at(step_s: f64, horizons: &[u32]) -> Self {
        let step_s = if step_s.is_finite() { step_s.max(1.0) } else { 1.0 };
        let horizons = horizons.iter().take(MOST_HORIZONS);
        Self {
            step_s,
            slot: i64::MIN,
            value: 0.0,
            experts: Experts::default(),
            horizons: horizons.map(|&steps| Horizon::new(steps.clamp(1, FURTHEST))).collect(),
        }
    }

    /// Judges what was forecast for now, learns the value, and forecasts anew. Whether it was taken: the second of two
    /// in one step is not.
    ///
    /// # Errors
    /// When the point is none; nothing is learned from it then.
    pub fn observe(&mut self, point: Point) -> Result<bool, Ignored> {
        point.check(f64::NEG_INFINITY)?;
        let slot = (point.time_s / self.step_s).floor() as i64;
        if slot < self.slot {
            return Err(Ignored::Time);
        }
        if slot == self.slot {
            return Ok(false);
        }
        self.slot = slot;
        self.value = point.value;
        for horizon in self.horizons.iter_mut() {
            horizon.judge(slot, point.value);
        }
        self.experts.learn(point.time_s, slot, self.step_s, point.value);
        for horizon in self.horizons.iter_mut() {
            let forecasts = self.experts.forecast(point.time_s, slot, self.step_s, horizon.steps());
            horizon.issue(slot, &forecasts);
        }
        Ok(true)
    }

    /// What comes at each horizon, in the order given; nothing before the first value.
    pub fn outlooks(&self) -> impl Iterator<Item = Outlook> {
        let started = self.slot != i64::MIN;
        self.horizons.iter().filter(move |_| started).map(|horizon| horizon.outlook(self.step_s))
    }

    /// Memory it takes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + Experts::DAY_BYTES + self.horizons.iter().map(Horizon::bytes).sum::<usize>()
    }

    /// Seconds a step.
    pub fn step_s(&self) -> f64 {
        self.step_s
    }

    /// The newest value.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// As bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::new(Kind::Forecast);
        out.f64(self.step_s);
        out.i64(self.slot);
        out.f64(self.value);
        self.experts.write(&mut out);
        out.u8(self.horizons.len() as u8);
        self.horizons.iter().for_each(|horizon| horizon.write(&mut out));
        out.finish()
    }

    /// From bytes of [`Forecast::to_bytes`].
    ///
    /// # Errors
    /// When they are cut off, damaged or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StateError> {
        let mut from = Reader::new(bytes, Kind::Forecast)?;
        let mut forecast = Self::at(from.f64()?, &[]);
        forecast.slot = from.i64()?;
        forecast.value = from.f64()?;
        forecast.experts = Experts::read(&mut from)?;
        let horizons = from.u8()? as usize;
        if horizons > MOST_HORIZONS {
            return Err(StateError::Inconsistent);
        }
        forecast.horizons = (0..horizons).map(|_| Horizon::read(&mut from)).collect::<Result<_, _>>()?;
        from.end()?;
        Ok(forecast)
    }
}
