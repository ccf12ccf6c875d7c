//! Names of Parquet files.

use skep_seglog::SegmentId;

/// Hours since the epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour(i64);

const HOUR_US: i64 = 3_600_000_000;

/// End of the year 9998: later times, which no clock shows, are filed under it.
const LAST_HOUR: i64 = 253_370_764_799 / 3600;

impl Hour {
    /// The hour a time lies in; times before 1970 or after 9998 are filed under the first and the last.
    pub fn of(time_us: i64) -> Self {
        Self((time_us.div_euclid(HOUR_US)).clamp(0, LAST_HOUR))
    }

    /// `2026-01-31`.
    pub fn date(self) -> String {
        // Within 1970..=9998 a timestamp always exists.
        jiff::Timestamp::from_second(self.0 * 3600).unwrap_or_default().strftime("%Y-%m-%d").to_string()
    }

    /// 0 to 23.
    pub fn hour(self) -> i64 {
        self.0 % 24
    }
}

/// Which file of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileName {
    /// Who wrote it.
    pub collector: String,
    /// First WAL segment in it.
    pub first: SegmentId,
    /// Last WAL segment in it.
    pub last: SegmentId,
}

impl FileName {
    /// Path below the table's folder. The same rows always get the same path.
    pub fn build(&self, hour: Hour) -> String {
        format!("date={}/hour={:02}/{}-{}-{}.parquet", hour.date(), hour.hour(), self.collector, self.first, self.last)
    }

    /// Reads the last part of a path; `None` for files of other programs.
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(".parquet")?.rsplitn(3, '-');
        let last = parts.next()?.parse().ok().map(SegmentId)?;
        let first = parts.next()?.parse().ok().map(SegmentId)?;
        let collector = parts.next()?.to_owned();
        Some(Self { collector, first, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_parses_back() {
        let name = FileName { collector: "c0ffee".to_owned(), first: SegmentId(3), last: SegmentId(12) };
        let path = name.build(Hour::of(1_769_842_800_000_000));
        assert_eq!(path, "date=2026-01-31/hour=07/c0ffee-3-12.parquet");
        assert_eq!(FileName::parse(path.rsplit('/').next().unwrap()), Some(name));
        for other in ["part-0.parquet", "c-3-12.parquet.tmp", "x.json"] {
            assert_eq!(FileName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn an_hour_ends_where_the_next_begins() {
        assert_ne!(Hour::of(3_599_999_999), Hour::of(3_600_000_000));
        assert_eq!(Hour::of(0).date(), "1970-01-01");
        assert_eq!(Hour::of(86_399_999_999).hour(), 23);
    }

    #[test]
    fn times_no_clock_shows_still_have_an_hour() {
        assert_eq!(Hour::of(i64::MIN).date(), "1970-01-01");
        assert_eq!(Hour::of(i64::MAX).date(), "9998-12-31");
    }
}
