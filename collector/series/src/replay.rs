//! Series from files of other tools: `timestamp,value` with a header, one row a point.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::novelty::{Novelty, Tuning};
use crate::point::Point;

/// Why a text is no series.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// A row without a second column.
    #[error("line {line}: two columns belong here, a time and a value")]
    Columns {
        /// Counted from 1.
        line: usize,
    },
    /// A time that is none.
    #[error("line {line}: {text:?} is no time; write 2026-11-26 12:00:00, 2026-11-26T12:00:00Z or seconds since 1970")]
    Time {
        /// Counted from 1.
        line: usize,
        /// As found.
        text: String,
    },
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row<'a> {
    /// The time as in the file.
    pub time: &'a str,
    /// The value as in the file.
    pub text: &'a str,
    /// Seconds since the epoch; a time without a zone is UTC.
    pub time_s: f64,
    /// Not a number where the row has none.
    pub value: f64,
}

/// The rows of a file, the first line being a header; columns after the second are let be.
///
/// # Errors
/// When a row has no time.
pub fn rows(text: &str) -> Result<Vec<Row<'_>>, ReplayError> {
    let lines = text.lines().enumerate().skip(1).filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(at, line)| row(at + 1, line)).collect()
}

fn row(line: usize, content: &str) -> Result<Row<'_>, ReplayError> {
    let mut columns = content.split(',').map(|column| column.trim().trim_matches('"'));
    let (Some(time), Some(text)) = (columns.next(), columns.next()) else {
        return Err(ReplayError::Columns { line });
    };
    let time_s = seconds(time).ok_or_else(|| ReplayError::Time { line, text: time.to_owned() })?;
    Ok(Row { time, text, time_s, value: text.parse().unwrap_or(f64::NAN) })
}

fn seconds(text: &str) -> Option<f64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return seconds.is_finite().then_some(seconds);
    }
    let zoned = text.parse::<Timestamp>().ok();
    let civil = || TimeZone::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok();
    zoned.or_else(civil).map(|time| time.as_nanosecond() as f64 / 1e9)
}

/// The usual distance between two rows; `None` of fewer than two.
pub fn step_s(rows: &[Row<'_>]) -> Option<f64> {
    let mut steps: Vec<f64> =
        rows.windows(2).map(|pair| pair[1].time_s - pair[0].time_s).filter(|step| *step > 0.0).collect();
    let middle = steps.len() / 2;
    (!steps.is_empty()).then(|| *steps.select_nth_unstable_by(middle, f64::total_cmp).1)
}

/// All rows, scored in one pass without looking ahead: time, value and score, as `timestamp,value,anomaly_score`. A row that
/// is no point has the score 0; how many were alarms, and how many were none.
///
/// # Errors
/// As [`rows`].
pub fn score(text: &str, tuning: &Tuning) -> Result<Scored, ReplayError> {
    let mut novelty = Novelty::default();
    let mut scored = Scored { text: String::from("timestamp,value,anomaly_score\n"), rows: 0, alarms: 0, ignored: 0 };
    for row in rows(text)? {
        let verdict = novelty.observe_with(Point::new(row.time_s, row.value), tuning);
        let score = verdict.map_or(0.0, |verdict| verdict.score);
        scored.rows += 1;
        scored.ignored += usize::from(verdict.is_err());
        scored.alarms += usize::from(verdict.is_ok_and(|verdict| verdict.alarm));
        // Text takes everything.
        let _written = writeln!(scored.text, "{},{},{score}", row.time, row.text).is_ok();
    }
    Ok(scored)
}

/// A scored file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scored {
    /// Its rows, with a header.
    pub text: String,
    /// How many.
    pub rows: usize,
    /// Of these, alarms.
    pub alarms: usize,
    /// Of these, no points: no number, or not after the row before.
    pub ignored: usize,
}
