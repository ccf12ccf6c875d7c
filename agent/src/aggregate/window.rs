//! Windows aligned to the wall clock. Pure.

use std::time::Duration;

/// Where the boundaries lie: at whole multiples of the length since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    length_us: i64,
}

/// A closed span as the rows state it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// Start, wall clock in microseconds; on the boundary where the reading began at one.
    pub from_us: i64,
    /// End, likewise.
    pub until_us: i64,
    /// How long was really counted, in seconds.
    pub length_s: f64,
}

impl Windows {
    /// Windows of `length`, at least a millisecond.
    pub fn new(length: Duration) -> Self {
        Self { length_us: i64::try_from(length.as_micros()).unwrap_or(i64::MAX).max(1000) }
    }

    /// The first boundary after `wall_us`.
    pub fn next_boundary_us(self, wall_us: i64) -> i64 {
        wall_us - wall_us.rem_euclid(self.length_us) + self.length_us
    }

    /// What was counted between two flips, given in wall time.
    ///
    /// A flip comes a little after its boundary; the rows state the boundary, so that the windows of a fleet carry the
    /// same stamps, and the true length beside it.
    pub fn span(self, from_us: i64, until_us: i64) -> Span {
        let length_s = (until_us - from_us).max(0) as f64 / 1e6;
        Span { from_us: self.snap(from_us), until_us: self.snap(until_us), length_s }
    }

    /// As [`Windows::span`], for what was counted since the start: that is no late flip. Moved to the boundary after it,
    /// the window would carry the stamp of the next one, and to the one before, perhaps that of an earlier run's last.
    pub fn first_span(self, from_us: i64, until_us: i64) -> Span {
        Span { from_us, ..self.span(from_us, until_us) }
    }

    /// The boundary just before or after, if it is near: within a tenth of the window, and half a second.
    fn snap(self, wall_us: i64) -> i64 {
        let near = (self.length_us / 10).min(500_000);
        let past = wall_us.rem_euclid(self.length_us);
        if past <= near {
            wall_us - past
        } else if self.length_us - past <= near {
            wall_us - past + self.length_us
        } else {
            wall_us
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_secs(10);
    const S: i64 = 1_000_000;

    #[test]
    fn boundaries_are_multiples_of_the_length() {
        let windows = Windows::new(TEN);
        assert_eq!(windows.next_boundary_us(1_700_000_003 * S), 1_700_000_010 * S);
        assert_eq!(windows.next_boundary_us(1_700_000_010 * S), 1_700_000_020 * S, "a boundary begins the next");
        assert_eq!(Windows::new(Duration::from_secs(1)).next_boundary_us(5 * S + 1), 6 * S);
    }

    #[test]
    fn a_late_flip_is_stated_at_its_boundary_with_its_true_length() {
        let span = Windows::new(TEN).span(1_700_000_010 * S + 3_000, 1_700_000_020 * S + 7_000);
        assert_eq!((span.from_us, span.until_us), (1_700_000_010 * S, 1_700_000_020 * S));
        assert!((span.length_s - 10.004).abs() < 1e-9);
    }

    #[test]
    fn a_first_window_starts_when_it_started() {
        let span = Windows::new(TEN).first_span(1_700_000_013 * S, 1_700_000_020 * S + 1_000);
        assert_eq!((span.from_us, span.until_us), (1_700_000_013 * S, 1_700_000_020 * S));
        assert!((span.length_s - 7.001).abs() < 1e-9);
    }

    #[test]
    fn a_first_window_that_starts_just_before_a_boundary_does_not_carry_the_next_ones_stamp() {
        let windows = Windows::new(TEN);
        let first = windows.first_span(1_700_000_009 * S + 700_000, 1_700_000_010 * S + 2_000);
        let second = windows.span(1_700_000_010 * S + 2_000, 1_700_000_020 * S + 1_000);
        assert_eq!((first.from_us, first.until_us), (1_700_000_009 * S + 700_000, 1_700_000_010 * S));
        assert_eq!(second.from_us, 1_700_000_010 * S);
    }

    #[test]
    fn a_clock_that_was_set_back_gives_no_negative_length() {
        assert!(Windows::new(TEN).span(20 * S, 10 * S).length_s.abs() < f64::EPSILON);
    }
}
