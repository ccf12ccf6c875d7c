//! Rows of the table `canaries`. Pure.

use std::time::Duration;

use skep_wire::chunk::{Builder, ChunkError};
use skep_wire::{tables, v1};

/// One canary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// 32 hex digits.
    pub marker: String,
    /// Counts from 1.
    pub number: u64,
    /// Where it connects to.
    pub port: u16,
    /// Parts that must arrive.
    pub expects: Vec<&'static str>,
}

/// A step in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// It is about to be run.
    Sent,
    /// It ended as it should.
    Ran {
        /// Process id.
        pid: u32,
    },
    /// It did not.
    Failed {
        /// Process id, if it got one.
        pid: Option<u32>,
        /// Why, for people.
        detail: &'a str,
    },
    /// There will be none from here on.
    Off {
        /// Why, for people.
        detail: &'a str,
    },
}

impl Step<'_> {
    fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Ran { .. } => "ran",
            Self::Failed { .. } => "failed",
            Self::Off { .. } => "off",
        }
    }

    fn pid(self) -> Option<i64> {
        match self {
            Self::Ran { pid } => Some(pid),
            Self::Failed { pid, .. } => pid,
            Self::Sent | Self::Off { .. } => None,
        }
        .map(i64::from)
    }

    fn detail(&self) -> Option<&str> {
        match self {
            Self::Failed { detail, .. } | Self::Off { detail } => Some(detail),
            Self::Sent | Self::Ran { .. } => None,
        }
    }
}

/// A chunk of one row.
///
/// # Errors
/// [`ChunkError`]: the row does not fit its table, a fault of this program.
pub fn chunk(
    time_us: i64,
    interval: Duration,
    marked: &Marked,
    step: Step<'_>,
) -> Result<Option<v1::Chunk>, ChunkError> {
    let mut row = Builder::new(&tables::CANARIES);
    row.int("time", time_us)
        .text("event", step.name())
        .text("marker", &marked.marker)
        .count("number", marked.number)
        .int("port", i64::from(marked.port))
        .float("interval_s", interval.as_secs_f64())
        .text_list("expects", &marked.expects)
        .maybe_int("pid", step.pid())
        .maybe_text("detail", step.detail())
        .end_row()?;
    Ok(row.finish())
}

#[cfg(test)]
mod tests {
    use skep_wire::chunk;

    use super::*;

    #[test]
    fn every_step_is_a_row_its_table_takes() {
        let marked = Marked { marker: "ab".repeat(16), number: 7, port: 4000, expects: vec!["exec", "exit"] };
        let steps = [
            (Step::Sent, "sent", None, None),
            (Step::Ran { pid: 9 }, "ran", Some(9), None),
            (Step::Failed { pid: None, detail: "no memory" }, "failed", None, Some("no memory")),
            (Step::Off { detail: "not wanted" }, "off", None, Some("not wanted")),
        ];
        for (step, event, pid, detail) in steps {
            let chunk = super::chunk(5, Duration::from_secs(60), &marked, step).unwrap().unwrap();
            chunk::check(&chunk, &tables::CANARIES).unwrap();
            let row = chunk::rows(&chunk).next().unwrap();
            assert_eq!((row.text("event"), row.int("pid"), row.text("detail")), (Some(event), pid, detail));
            assert_eq!((row.int("number"), row.float("interval_s")), (Some(7), Some(60.0)));
            assert_eq!(row.text_list("expects"), Some(vec!["exec", "exit"]));
        }
    }
}
