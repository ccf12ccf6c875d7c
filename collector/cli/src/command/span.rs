//! Spans of time on the command line and moments in SQL.

use std::time::Duration;

use jiff::Timestamp;

/// Parses `10m`, `1h 30m`, `2d`.
///
/// # Errors
/// The parser's own words, for the usage message.
pub fn parse(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(span) if span.is_zero() => Err("must be longer than nothing".to_owned()),
        Ok(span) => Ok(span),
        Err(error) => Err(format!("{error} (write 30s, 10m, 2h or 7d)")),
    }
}

/// A moment, as written: `1h` is an hour ago, `2026-11-26T02:00:00Z` itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// So long ago.
    Ago(Duration),
    /// Microseconds since the epoch.
    At(i64),
}

impl Moment {
    /// Parses a span or a time with its zone.
    ///
    /// # Errors
    /// What may be written.
    pub fn parse(text: &str) -> Result<Self, String> {
        match (humantime::parse_duration(text), text.parse::<Timestamp>()) {
            (Ok(ago), _) => Ok(Self::Ago(ago)),
            (_, Ok(at)) => Ok(Self::At(at.as_microsecond())),
            (Err(_), Err(_)) => {
                Err("write how long ago, as in 10m, 2h or 7d, or a time, as in 2026-11-26T02:00:00Z".to_owned())
            }
        }
    }

    /// Microseconds since the epoch.
    pub fn us(self, now_us: i64) -> i64 {
        match self {
            Self::Ago(ago) => now_us.saturating_sub(i64::try_from(ago.as_micros()).unwrap_or(i64::MAX)).max(0),
            Self::At(us) => us,
        }
    }
}

/// Wall clock, microseconds since the epoch.
pub fn now_us() -> i64 {
    Timestamp::now().as_microsecond()
}

/// The SQL literal of a moment, of the same type as every `time` column so that files can be skipped by it.
pub fn moment(us: i64) -> String {
    format!("arrow_cast({us}, 'Timestamp(Microsecond, Some(\"UTC\"))')")
}

/// `time >= ...`, from `span` before `now_us` on.
pub fn newer_than(span: Duration, now_us: i64) -> String {
    let span_us = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    format!("time >= {}", moment(now_us.saturating_sub(span_us).max(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_parsed_and_zero_is_refused() {
        assert_eq!(parse("90s").unwrap(), Duration::from_secs(90));
        assert_eq!(parse("1h 30m").unwrap(), Duration::from_secs(5_400));
        assert!(parse("0s").is_err());
        assert!(parse("soon").unwrap_err().contains("10m"));
    }

    #[test]
    fn moments_are_spans_ago_or_times() {
        assert_eq!(Moment::parse("1h").unwrap().us(7_200_000_000), 3_600_000_000);
        assert_eq!(Moment::parse("1970-01-01T00:00:01+00:00").unwrap().us(5), 1_000_000);
        assert_eq!(Moment::parse("1000000d").unwrap().us(5), 0);
        assert!(Moment::parse("2026-11-26").unwrap_err().contains("2026-11-26T02:00:00Z"));
    }

    #[test]
    fn a_span_longer_than_history_starts_at_the_epoch() {
        assert!(newer_than(Duration::MAX, 5).contains("arrow_cast(0, "));
        assert!(newer_than(Duration::from_micros(2), 5).contains("arrow_cast(3, "));
    }
}
