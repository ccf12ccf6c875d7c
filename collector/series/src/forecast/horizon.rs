//! The experts at one horizon: how well each did, what they say together, and how far off that was.

use super::expert::{EXPERTS, LAST};
use crate::mean::Mean;
use crate::state::{Reader, StateError, Writer};
use crate::tail::Tail;

/// How fast it is forgotten who was right.
const RATE: f64 = 0.01;

/// How steeply the better are preferred.
const STEEPNESS: i32 = 8;

/// Errors the bounds rest on at most; at least half of them.
const MEMORY: u32 = 2000;

/// Forecasts that must have been judged before skill is claimed, and bounds are given.
const LEAST_JUDGED: u64 = 100;

/// No better than this share of the last value's error is no skill.
const SKILFUL: f64 = 0.98;

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlook {
    /// So many seconds after the newest value.
    pub ahead_s: f64,
    /// Most likely.
    pub value: f64,
    /// Between these with 80 %; not known before enough forecasts were judged.
    pub within_80: Option<(f64, f64)>,
    /// Between these with 95 %.
    pub within_95: Option<(f64, f64)>,
    /// 1 is perfect, 0 is what repeating the last value does; `None` is no skill: look at the bounds, not at the value.
    pub skill: Option<f64>,
    /// Forecasts at this horizon that were judged so far.
    pub judged: u64,
}

/// What was forecast at one step.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Issued {
    slot: i64,
    forecasts: [f32; EXPERTS],
    combined: f32,
}

const NOTHING: Issued = Issued { slot: i64::MIN, forecasts: [0.0; EXPERTS], combined: 0.0 };

/// One horizon.
#[derive(Debug, Clone, PartialEq)]
pub struct Horizon {
    steps: u32,
    judged: u64,
    errors: [Mean; EXPERTS],
    combined_error: Mean,
    off: Tail<MEMORY>,
    newest: f64,
    /// By slot, as many as are waiting to be judged.
    issued: Box<[Issued]>,
}

impl Horizon {
    /// So many steps ahead.
    pub fn new(steps: u32) -> Self {
        Self {
            steps,
            judged: 0,
            errors: [Mean::default(); EXPERTS],
            combined_error: Mean::default(),
            off: Tail::default(),
            newest: 0.0,
            issued: vec![NOTHING; steps as usize + 1].into_boxed_slice(),
        }
    }

    /// Memory it takes: what is waiting to be judged, and how far off it was.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.issued) + self.off.bytes()
    }

    /// Steps ahead.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// Compares what was forecast for this step with what came.
    pub fn judge(&mut self, slot: i64, value: f64) {
        let from = slot - i64::from(self.steps);
        let issued = self.issued[self.place(from)];
        if issued.slot != from {
            return;
        }
        self.judged += 1;
        for (error, forecast) in self.errors.iter_mut().zip(issued.forecasts) {
            error.learn((value - f64::from(forecast)).abs(), RATE, self.judged);
        }
        let off = value - f64::from(issued.combined);
        self.combined_error.learn(off.abs(), RATE, self.judged);
        self.off.learn(off);
    }

    /// Combines what the experts say.
    pub fn issue(&mut self, slot: i64, forecasts: &[f64; EXPERTS]) {
        let least = self.errors.iter().map(|error| error.value()).fold(f64::INFINITY, f64::min);
        let (mut sum, mut weights) = (0.0, 0.0);
        for (error, forecast) in self.errors.iter().zip(forecasts) {
            // One that was never wrong: nobody else is asked.
            let weight = if error.value() <= 0.0 { 1.0 } else { (least / error.value()).powi(STEEPNESS) };
            sum += weight * forecast;
            weights += weight;
        }
        self.newest = if weights > 0.0 && self.judged > 0 { sum / weights } else { forecasts[LAST] };
        let place = self.place(slot);
        self.issued[place] =
            Issued { slot, forecasts: forecasts.map(|forecast| forecast as f32), combined: self.newest as f32 };
    }

    /// What comes so many steps after the newest value.
    pub fn outlook(&self, step_s: f64) -> Outlook {
        let enough = self.judged >= LEAST_JUDGED;
        let within = |share: f64| {
            let outside = (1.0 - share) / 2.0;
            enough.then(|| (self.newest + self.off.quantile(outside), self.newest + self.off.quantile(1.0 - outside)))
        };
        let last = self.errors[LAST].value();
        let ratio = if last > 0.0 { self.combined_error.value() / last } else { 1.0 };
        Outlook {
            ahead_s: f64::from(self.steps) * step_s,
            value: self.newest,
            within_80: within(0.8),
            within_95: within(0.95),
            skill: (enough && ratio < SKILFUL).then_some(1.0 - ratio),
            judged: self.judged,
        }
    }

    /// How likely the value is above a limit then; `None` before enough forecasts were judged.
    pub fn chance_above(&self, limit: f64) -> Option<f64> {
        (self.judged >= LEAST_JUDGED).then(|| self.off.share_above(limit - self.newest))
    }

    fn place(&self, slot: i64) -> usize {
        slot.rem_euclid(self.issued.len() as i64) as usize
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.u32(self.steps);
        out.i64(self.judged as i64);
        self.errors.iter().chain([&self.combined_error]).for_each(|error| error.write(out));
        self.off.write(out);
        out.f64(self.newest);
        for issued in &self.issued {
            out.i64(issued.slot);
            issued.forecasts.iter().for_each(|&forecast| out.f32(forecast));
            out.f32(issued.combined);
        }
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, StateError> {
        let steps = from.u32()?;
        if steps == 0 || steps > super::FURTHEST {
            return Err(StateError::Inconsistent);
        }
        let mut horizon = Self { judged: from.i64()? as u64, ..Self::new(steps) };
        let Self { errors, combined_error, .. } = &mut horizon;
        for error in errors.iter_mut().chain([combined_error]) {
            *error = Mean::read(from)?;
        }
        horizon.off = Tail::read(from)?;
        horizon.newest = from.f64()?;
        for issued in &mut horizon.issued {
            issued.slot = from.i64()?;
            for forecast in &mut issued.forecasts {
                *forecast = from.f32()?;
            }
            issued.combined = from.f32()?;
        }
        Ok(horizon)
    }
}
