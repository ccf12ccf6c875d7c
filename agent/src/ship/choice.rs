//! Which collector is next. Pure.
//!
//! An agent stays with a collector that works. From one that does not it goes to the first of its list that may be tried:
//! each has waits of its own, which grow with every vain try and end with the first batch it acknowledges. From another
//! than the first it goes back after a while, and the less often the more it did so in vain, so that a first one that
//! lets agents in and takes nothing does not make a fleet go to and fro.

use std::time::Duration;

use skep_runtime::backoff::Backoff;
use tokio::time::Instant;

/// Waits between two tries of one collector.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Longest stay with another than the first while that one could be reached.
const LONGEST_STAY: Duration = Duration::from_secs(3600);

/// All collectors, by their place in the list.
#[derive(Debug)]
pub struct Choice {
    places: Vec<Place>,
    current: usize,
    return_after: Option<Duration>,
    /// Returns in a row after which nothing was acknowledged.
    vain: u32,
    /// The current one was returned to, and has acknowledged nothing yet.
    returned: bool,
}

#[derive(Debug)]
struct Place {
    backoff: Backoff,
    not_before: Instant,
}

impl Choice {
    /// `count` collectors, at least one, the first of which is best.
    pub fn new(count: usize, return_after: Option<Duration>, now: Instant) -> Self {
        let place = || Place { backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT), not_before: now };
        let places = (0..count.max(1)).map(|_| place()).collect();
        Self { places, current: 0, return_after, vain: 0, returned: false }
    }

    /// Place of the collector to talk to.
    pub fn current(&self) -> usize {
        self.current
    }

    /// The current one acknowledged something.
    pub fn served(&mut self) {
        self.places[self.current].backoff.reset();
        if std::mem::take(&mut self.returned) || self.current == 0 {
            self.vain = 0;
        }
    }

    /// The current one cannot be reached, does not take what is sent, or is stuck. Another may be current now; returns how
    /// long to wait before it is tried.
    pub fn failed(&mut self, now: Instant) -> Duration {
        if std::mem::take(&mut self.returned) {
            self.vain = self.vain.saturating_add(1);
        }
        let place = &mut self.places[self.current];
        place.not_before = now + place.backoff.next_wait();
        let soonest = self.places.iter().enumerate().min_by_key(|(at, place)| (place.not_before.max(now), *at));
        let (at, not_before) = soonest.map_or((0, now), |(at, place)| (at, place.not_before));
        self.current = at;
        not_before.saturating_duration_since(now)
    }

    /// How long to stay with the current one before those in front of it are looked for; `None` for ever.
    pub fn stay(&self) -> Option<Duration> {
        let after = self.return_after.filter(|_| self.current > 0)?;
        let whole = after.saturating_mul(1 << self.vain.min(16)).min(LONGEST_STAY.max(after));
        // Shortened at random, so that a fleet does not come back at one moment.
        Some(Backoff::new(whole, whole).next_wait())
    }

    /// The one at `place` can be reached again.
    pub fn go_back(&mut self, place: usize) {
        self.current = place;
        self.returned = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn one_collector_is_tried_again_after_waits_that_grow() {
        let now = Instant::now();
        let mut choice = Choice::new(1, Some(MINUTE), now);
        let waits: Vec<Duration> = (0..12).map(|_| choice.failed(now)).collect();
        assert!(waits[0] >= FIRST_WAIT / 2 && waits[0] <= FIRST_WAIT, "{waits:?}");
        assert!(waits[11] >= LONGEST_WAIT / 2 && waits[11] <= LONGEST_WAIT, "{waits:?}");
        choice.served();
        assert!(choice.failed(now) <= FIRST_WAIT);
        assert_eq!((choice.current(), choice.stay()), (0, None));
    }

    #[test]
    fn the_next_one_is_tried_at_once_and_the_first_that_may_be_tried_after_that() {
        let mut now = Instant::now();
        let mut choice = Choice::new(3, Some(MINUTE), now);
        assert_eq!((choice.failed(now), choice.current()), (Duration::ZERO, 1));
        assert_eq!((choice.failed(now), choice.current()), (Duration::ZERO, 2));
        // All have failed: whichever may be tried first, after its wait.
        let wait = choice.failed(now);
        assert!(wait > Duration::ZERO && wait <= FIRST_WAIT, "{wait:?}");
        // Long after that each may be: the first again.
        now += MINUTE;
        choice.failed(now);
        assert_eq!(choice.current(), if choice.places[0].not_before > now { 1 } else { 0 });
        now += MINUTE;
        choice.current = 2;
        assert_eq!((choice.failed(now), choice.current()), (Duration::ZERO, 0));
    }

    #[test]
    fn a_collector_that_does_not_serve_is_left_alone_for_longer_each_time() {
        let mut now = Instant::now();
        let mut choice = Choice::new(2, None, now);
        let mut tries = 0;
        let until = now + MINUTE;
        while now < until {
            // The second one works for a second at a time.
            if choice.current() == 1 {
                choice.served();
                now += Duration::from_secs(1);
            } else {
                tries += 1;
            }
            now += choice.failed(now);
        }
        assert!((8..25).contains(&tries), "{tries} tries in a minute");
        choice.current = 1;
        assert_eq!(choice.stay(), None, "it was said never to go back");
    }

    #[test]
    fn it_goes_back_after_a_while_and_seldom_where_that_is_in_vain() {
        let now = Instant::now();
        let mut choice = Choice::new(2, Some(MINUTE), now);
        choice.failed(now);
        let stay = choice.stay().unwrap();
        assert!(stay >= MINUTE / 2 && stay <= MINUTE, "{stay:?}");
        for _ in 0..3 {
            choice.go_back(0);
            assert_eq!((choice.current(), choice.stay()), (0, None));
            assert_eq!((choice.failed(now), choice.current()), (Duration::ZERO, 1));
            choice.served();
        }
        let stay = choice.stay().unwrap();
        assert!(stay >= MINUTE * 4 && stay <= MINUTE * 8, "{stay:?}");
        choice.go_back(0);
        choice.served();
        choice.failed(now);
        assert!(choice.stay().unwrap() <= MINUTE, "it served: all is well again");
    }
}
