//! `skep-collector score`: series from files of other tools through the scorer that watches hosts, with the same settings.

use std::path::{Path, PathBuf};

use serde::Serialize;
use skep_series::novelty::Tuning;
use skep_series::replay::{self, ReplayError};
use thiserror::Error;

/// Folders in folders, at most.
const DEEPEST: usize = 8;

/// Why it was not done.
#[derive(Debug, Error)]
pub enum ScoreError {
    /// The file system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is no series.
    #[error("{} is no series", path.display())]
    NoSeries {
        /// Which.
        path: PathBuf,
        /// Why.
        source: ReplayError,
    },
    /// There is nothing to score.
    #[error("{} holds no CSV file", path.display())]
    Nothing {
        /// Which folder.
        path: PathBuf,
    },
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Done {
    /// From this score on it is an alarm.
    pub alarm_score: f64,
    /// Files scored.
    pub files: usize,
    /// Their rows.
    pub rows: usize,
    /// Of these, alarms.
    pub alarms: usize,
    /// Of these, without a number, or not after the row before: their score is 0.
    pub ignored: usize,
}

/// Scores every CSV file below `input` into a file of the same name below `output`.
///
/// # Errors
/// [`ScoreError`]; files before the one it speaks of are scored.
pub fn score(input: &Path, output: &Path) -> Result<Done, ScoreError> {
    let tuning = Tuning::SHIPPED;
    let mut done = Done { alarm_score: tuning.alarm_score(), files: 0, rows: 0, alarms: 0, ignored: 0 };
    let mut files = Vec::new();
    list(input, DEEPEST, &mut files)?;
    files.sort();
    for path in &files {
        let text = std::fs::read_to_string(path).map_err(|source| io("read", path, source))?;
        let scored =
            replay::score(&text, &tuning).map_err(|source| ScoreError::NoSeries { path: path.clone(), source })?;
        let to = output.join(path.strip_prefix(input).unwrap_or(path));
        let folder = to.parent().unwrap_or(output);
        std::fs::create_dir_all(folder).map_err(|source| io("create", folder, source))?;
        std::fs::write(&to, &scored.text).map_err(|source| io("write", &to, source))?;
        done.files += 1;
        done.rows += scored.rows;
        done.alarms += scored.alarms;
        done.ignored += scored.ignored;
    }
    if files.is_empty() { Err(ScoreError::Nothing { path: input.to_owned() }) } else { Ok(done) }
}

fn list(folder: &Path, deepest: usize, files: &mut Vec<PathBuf>) -> Result<(), ScoreError> {
    for entry in std::fs::read_dir(folder).map_err(|source| io("list", folder, source))? {
        let path = entry.map_err(|source| io("list", folder, source))?.path();
        if path.is_dir() && deepest > 0 {
            list(&path, deepest - 1, files)?;
        } else if path.extension().is_some_and(|extension| extension == "csv") {
            files.push(path);
        }
    }
    Ok(())
}

fn io(action: &'static str, path: &Path, source: std::io::Error) -> ScoreError {
    ScoreError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_scored_row_by_row() {
        let temp = tempfile::tempdir().unwrap();
        let (input, output) = (temp.path().join("in"), temp.path().join("out"));
        std::fs::create_dir_all(input.join("group")).unwrap();
        let mut text = String::from("timestamp,value\n");
        for minute in 0..1200 {
            let value = if minute == 1100 { 900 } else { 10 + minute % 7 };
            text += &format!("2026-11-26 {:02}:{:02}:00,{value}\n", minute / 60, minute % 60);
        }
        std::fs::write(input.join("group/one.csv"), text + "2026-11-26 19:59:00,1\n2026-11-26 20:00:00,\n").unwrap();
        let done = score(&input, &output).unwrap();
        assert_eq!((done.files, done.rows, done.ignored), (1, 1202, 2));
        assert!((done.alarm_score - 0.2).abs() < 1e-9);
        let scored = std::fs::read_to_string(output.join("group/one.csv")).unwrap();
        let lines: Vec<&str> = scored.lines().collect();
        assert_eq!((lines.len(), lines[0]), (1203, "timestamp,value,anomaly_score"));
        assert!(lines[1101].starts_with("2026-11-26 18:20:00,900,0.2"), "{}", lines[1101]);
        assert_eq!(lines[1202], "2026-11-26 20:00:00,,0");
    }

    #[test]
    fn what_is_no_series_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let nothing = score(temp.path(), &temp.path().join("out")).unwrap_err();
        assert!(nothing.to_string().ends_with("holds no CSV file"));
        std::fs::write(temp.path().join("x.csv"), "timestamp,value\nyesterday,1\n").unwrap();
        let error = score(temp.path(), &temp.path().join("out")).unwrap_err();
        assert!(crate::error::chain(&error).contains("line 2: \"yesterday\" is no time"), "{error}");
    }
}
