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

    /// When it is over, microseconds since the epoch.
    pub fn end_us(self) -> i64 {
        (self.0 + 1) * HOUR_US
    }

    /// The folders of this hour, below the table's.
    pub fn folders(self) -> String {
        format!("date={}/hour={:02}", self.date(), self.hour())
    }

    /// The hour a path below the table's folder lies in; `None` for paths no file of ours has.
    pub fn of_path(path: &str) -> Option<Self> {
        let mut parts = path.split('/');
        let date: jiff::civil::Date = parts.next()?.strip_prefix("date=")?.parse().ok()?;
        let hour: i64 = parts.next()?.strip_prefix("hour=")?.parse().ok()?;
        let midnight = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second();
        (0..24).contains(&hour).then(|| Self(midnight / 3600 + hour))
    }
}

impl std::fmt::Display for Hour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:02}:00", self.date(), self.hour())
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
    /// What it was made of, where that was other files.
    pub merged: Option<Merged>,
}

/// A file that took the place of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// 16 hex digits, the same for the same files and purpose.
    pub digest: String,
    /// Length its windows were brought to, in seconds; 0 for rows as they came.
    pub window_s: u32,
}

impl FileName {
    /// Path below the table's folder. The same rows always get the same path.
    pub fn build(&self, hour: Hour) -> String {
        let merged = match &self.merged {
            None => String::new(),
            Some(Merged { digest, window_s: 0 }) => format!("-m{digest}"),
            Some(Merged { digest, window_s }) => format!("-m{digest}-{window_s}s"),
        };
        format!("{}/{}-{}-{}{merged}.parquet", hour.folders(), self.collector, self.first, self.last)
    }

    /// Reads the last part of a path; `None` for files of other programs.
    pub fn parse(name: &str) -> Option<Self> {
        let (stem, merged) = Merged::split(name.strip_suffix(".parquet")?);
        let mut parts = stem.rsplitn(3, '-');
        let last = parts.next()?.parse().ok().map(SegmentId)?;
        let first = parts.next()?.parse().ok().map(SegmentId)?;
        let collector = parts.next()?.to_owned();
        Some(Self { collector, first, last, merged })
    }
}

impl Merged {
    /// The stem of a name, and what its end says of a merge.
    fn split(stem: &str) -> (&str, Option<Self>) {
        let ending = |text: &str| Some(text.strip_prefix('m')?.to_owned()).filter(|digest| digest.len() == 16);
        let Some((before, last)) = stem.rsplit_once('-') else { return (stem, None) };
        if let Some(digest) = ending(last) {
            return (before, Some(Self { digest, window_s: 0 }));
        }
        let window_s = last.strip_suffix('s').and_then(|number| number.parse().ok());
        match (window_s, before.rsplit_once('-').and_then(|(before, digest)| Some((before, ending(digest)?)))) {
            (Some(window_s), Some((before, digest))) => (before, Some(Self { digest, window_s })),
            _ => (stem, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_parses_back() {
        let hour = Hour::of(1_769_842_800_000_000);
        let merged = |window_s| Some(Merged { digest: "0123456789abcdef".to_owned(), window_s });
        for (merged, text) in [
            (None, "c0ffee-3-12"),
            (merged(0), "c0ffee-3-12-m0123456789abcdef"),
            (merged(60), "c0ffee-3-12-m0123456789abcdef-60s"),
        ] {
            let name = FileName { collector: "c0ffee".to_owned(), first: SegmentId(3), last: SegmentId(12), merged };
            let path = name.build(hour);
            assert_eq!(path, format!("date=2026-01-31/hour=07/{text}.parquet"));
            assert_eq!(FileName::parse(path.rsplit('/').next().unwrap()), Some(name));
            assert_eq!(Hour::of_path(&path), Some(hour));
        }
        for other in ["part-0.parquet", "c-3-12.parquet.tmp", "x.json", "c-3-12-60s.parquet", "c-3-12-m01.parquet"] {
            assert_eq!(FileName::parse(other), None, "{other}");
        }
        for other in
            ["x.parquet", "date=2026-02-30/hour=01/x", "date=2026-02-03/hour=24/x", "hour=01/date=2026-02-03/x"]
        {
            assert_eq!(Hour::of_path(other), None, "{other}");
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
