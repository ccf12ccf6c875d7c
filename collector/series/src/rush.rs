//! When a value reaches its limit, of what fills up while one looks on: a disk somebody writes to at full speed, a table of
//! open files that leaks.
//!
//! As [`crate::limit`], by the window instead of by the minute and of the last few minutes alone: it speaks after eight
//! windows, and of no more than ten times as far ahead as those took. What goes on for longer is the other's.

use crate::limit::{NoSkill, Ring, Until};
use crate::point::{Ignored, Point};

const POINTS: usize = 32;

/// Windows below which nothing is said.
const LEAST_POINTS: usize = 8;

/// The last course of one value. It is not worth keeping over a restart.
#[derive(Debug, Clone, PartialEq)]
pub struct Rush {
    newest: (f64, f64),
    ring: Ring<POINTS>,
}

impl Rush {
    /// Of values that come once in a window of so many seconds.
    pub fn new(window_s: f64) -> Self {
        Self { newest: (f64::NEG_INFINITY, 0.0), ring: Ring::new(window_s, LEAST_POINTS) }
    }

    /// Learns a value.
    ///
    /// # Errors
    /// When the point is none; nothing is learned from it then.
    pub fn observe(&mut self, point: Point) -> Result<(), Ignored> {
        point.check(self.newest.0)?;
        self.newest = (point.time_s, point.value);
        self.ring.push(point.time_s, point.value, false);
        Ok(())
    }

    /// When the limit is reached.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn until(&self, limit: f64) -> Result<Until, NoSkill> {
        let (newest_s, value) = self.newest;
        self.ring.until(newest_s, value, limit)
    }
}
