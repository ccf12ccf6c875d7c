//! When a value reaches a limit: a disk, an inode table, memory, a quota that is full.
//!
//! Two rings remember the course, one the last hour by the minute, one all of it, thinned whenever it is full. The pace is
//! the median of the changes between points half a ring apart (Theil and Sen's), and the interval comes from how much those
//! changes differ. There is skill if the older half of the ring would have told the newer one better than "it stays where
//! it is" does. Where all of the ring has none, its newer parts may; and nothing is said of times more than ten times as
//! far ahead as was watched.

use crate::point::{Ignored, Point};
use crate::state::{Kind, Reader, StateError, Writer};

const RECENT: usize = 64;
const LONG: usize = 128;

/// Seconds between two points of the recent ring, and of the long one before it is first thinned.
const RECENT_STEP_S: f64 = 60.0;
const LONG_STEP_S: f64 = 300.0;

/// Points below which nothing is said.
const LEAST_POINTS: usize = 16;

/// How many times as far ahead as was watched anything is said.
const REACH: f64 = 10.0;

/// No better than this share of the error of "it stays" is no skill.
const SKILFUL: f64 = 0.8;

/// Of the paces, a tenth is outside on each side.
const OUTSIDE: f64 = 0.1;

const DAY_S: f64 = 86_400.0;

/// When the limit is reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Until {
    /// Days from the newest value, at the usual pace.
    pub days: f64,
    /// With 90 % not before.
    pub earliest_days: f64,
    /// With 90 % not after; `None` if the pace may as well be none.
    pub latest_days: Option<f64>,
    /// Change a day, in the value's unit.
    pub pace_per_day: f64,
    /// Days it rests on.
    pub watched_days: f64,
}

/// Why nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSkill {
    /// Too few values so far.
    TooYoung,
    /// It does not move towards the limit.
    NotNearing,
    /// It moves, and not in a way that tells what follows.
    Unsteady,
    /// Further ahead than can be told from what was watched.
    TooFar,
}

impl NoSkill {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooYoung => "no skill: watched for too short a time",
            Self::NotNearing => "no skill: it does not move towards the limit",
            Self::Unsteady => "no skill: it moves too unsteadily",
            Self::TooFar => "no skill: further ahead than ten times what was watched",
        }
    }
}

/// Points at a distance of at least a step, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ring<const POINTS: usize> {
    step_s: f64,
    /// Points below which it says nothing.
    least: usize,
    first_s: f64,
    /// Seconds after the first, and the value.
    points: [(f32, f64); POINTS],
    len: usize,
}

impl<const POINTS: usize> Ring<POINTS> {
    pub(crate) fn new(step_s: f64, least: usize) -> Self {
        Self { step_s, least, first_s: 0.0, points: [(0.0, 0.0); POINTS], len: 0 }
    }

    /// Whether the point was far enough from the newest to be kept.
    pub(crate) fn push(&mut self, time_s: f64, value: f64, thin: bool) {
        if self.len == 0 {
            self.first_s = time_s;
        }
        let newest = self.points[..self.len].last().map(|&(at, _)| f64::from(at));
        // A tenth less than a step, so that points that come a little early are not left out.
        if newest.is_some_and(|newest| time_s - self.first_s - newest < 0.9 * self.step_s) {
            return;
        }
        if self.len == POINTS {
            if thin {
                self.thin();
            } else {
                self.drop_oldest();
            }
        }
        self.points[self.len] = ((time_s - self.first_s) as f32, value);
        self.len += 1;
    }

    fn thin(&mut self) {
        self.step_s *= 2.0;
        for kept in 0..POINTS / 2 {
            self.points[kept] = self.points[2 * kept];
        }
        self.len = POINTS / 2;
    }

    fn drop_oldest(&mut self) {
        let begin = self.points[1].0;
        self.first_s += f64::from(begin);
        self.points.copy_within(1.., 0);
        self.points.iter_mut().for_each(|(at, _)| *at -= begin);
        self.len -= 1;
    }

    /// All of the ring speaks if it can, else its newer half, else the newer half of that: what fills a disk may have begun
    /// just now. A part of the ring must know the latest time too.
    pub(crate) fn until(&self, newest_s: f64, value: f64, limit: f64) -> Result<Until, NoSkill> {
        let all = self.part(self.len, newest_s, value, limit);
        let mut length = self.len / 2;
        while all.is_err() && length >= self.least {
            if let Ok(until) = self.part(length, newest_s, value, limit)
                && until.latest_days.is_some()
            {
                return Ok(until);
            }
            length /= 2;
        }
        all
    }

    /// By the newest so many points.
    fn part(&self, length: usize, newest_s: f64, value: f64, limit: f64) -> Result<Until, NoSkill> {
        let points = &self.points[self.len - length..self.len];
        if points.len() < self.least {
            return Err(NoSkill::TooYoung);
        }
        let mut paces = [0.0; POINTS];
        let paces = paces_of(points, &mut paces);
        let pace = at_share(paces, 0.5);
        let left = limit - value;
        if pace == 0.0 || pace.signum() != left.signum() {
            return Err(NoSkill::NotNearing);
        }
        if !steady(points) {
            return Err(NoSkill::Unsteady);
        }
        let watched_s = newest_s - self.first_s - f64::from(points[0].0);
        let reached_s = left / pace;
        if reached_s > REACH * watched_s {
            return Err(NoSkill::TooFar);
        }
        let (slow, fast) = (at_share(paces, OUTSIDE), at_share(paces, 1.0 - OUTSIDE));
        let (slow, fast) = if pace > 0.0 { (slow, fast) } else { (fast, slow) };
        let days = |pace: f64| left / pace / DAY_S;
        Ok(Until {
            days: days(pace),
            earliest_days: days(fast),
            latest_days: (slow.signum() == pace.signum() && slow != 0.0).then(|| days(slow)),
            pace_per_day: pace * DAY_S,
            watched_days: watched_s / DAY_S,
        })
    }

    fn write(&self, out: &mut Writer) {
        out.f64(self.step_s);
        out.f64(self.first_s);
        out.u8(self.len as u8);
        for &(at, value) in &self.points[..self.len] {
            out.f32(at);
            out.f64(value);
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, StateError> {
        let mut ring = Self {
            step_s: from.f64()?,
            first_s: from.f64()?,
            len: from.u8()? as usize,
            ..Self::new(1.0, LEAST_POINTS)
        };
        if ring.len > POINTS {
            return Err(StateError::Inconsistent);
        }
        for point in &mut ring.points[..ring.len] {
            *point = (from.f32()?, from.f64()?);
        }
        Ok(ring)
    }
}

/// Changes a second between points half the ring apart, in order of size.
fn paces_of<'a>(points: &[(f32, f64)], paces: &'a mut [f64]) -> &'a [f64] {
    let half = points.len() / 2;
    let pairs = points.iter().zip(&points[half..]);
    let mut count = 0;
    for (pace, (from, to)) in paces.iter_mut().zip(pairs) {
        *pace = (to.1 - from.1) / f64::from(to.0 - from.0);
        count += 1;
    }
    paces[..count].sort_unstable_by(f64::total_cmp);
    &paces[..count]
}

fn at_share(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

/// Whether the pace of the older half tells the newer half better than "it stays" does.
fn steady(points: &[(f32, f64)]) -> bool {
    let (older, newer) = points.split_at(points.len() / 2);
    let mut paces = [0.0; LONG];
    let pace = at_share(paces_of(older, &mut paces), 0.5);
    let (at, value) = older[older.len() - 1];
    let (mut told, mut stays) = (0.0, 0.0);
    for &(then, seen) in newer {
        told += (seen - value - pace * f64::from(then - at)).abs();
        stays += (seen - value).abs();
    }
    told < SKILFUL * stays
}

/// The course of one value towards its limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Limit {
    newest: (f64, f64),
    recent: Ring<RECENT>,
    long: Ring<LONG>,
}

impl Default for Limit {
    fn default() -> Self {
        Self {
            newest: (f64::NEG_INFINITY, 0.0),
            recent: Ring::new(RECENT_STEP_S, LEAST_POINTS),
            long: Ring::new(LONG_STEP_S, LEAST_POINTS),
        }
    }
}

impl Limit {
    /// Learns a value.
    ///
    /// # Errors
    /// When the point is none; nothing is learned from it then.
    pub fn observe(&mut self, point: Point) -> Result<(), Ignored> {
        point.check(self.newest.0)?;
        self.newest = (point.time_s, point.value);
        self.recent.push(point.time_s, point.value, false);
        self.long.push(point.time_s, point.value, true);
        Ok(())
    }

    /// When the limit is reached. The last hour speaks if it can, the whole course if not.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn until(&self, limit: f64) -> Result<Until, NoSkill> {
        let (newest_s, value) = self.newest;
        self.recent.until(newest_s, value, limit).or_else(|_| self.long.until(newest_s, value, limit))
    }

    /// As bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::new(Kind::Limit);
        out.f64(self.newest.0);
        out.f64(self.newest.1);
        self.recent.write(&mut out);
        self.long.write(&mut out);
        out.finish()
    }

    /// From bytes of [`Limit::to_bytes`].
    ///
    /// # Errors
    /// When they are cut off, damaged or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StateError> {
        let mut from = Reader::new(bytes, Kind::Limit)?;
        let newest = (from.f64()?, from.f64()?);
        let limit = Self { newest, recent: Ring::read(&mut from)?, long: Ring::read(&mut from)? };
        from.end()?;
        Ok(limit)
    }
}
