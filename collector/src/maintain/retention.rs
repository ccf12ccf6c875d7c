//! Which hours go, because of their age or for want of room. Pure, but for the words about it.

use std::collections::BTreeMap;

use skep_wire::chunk::{Builder, ChunkError};
use skep_wire::tables::LOSS;
use skep_wire::v1;

use crate::history::path::Hour;
use crate::history::upkeep::HourFile;
use crate::missing;

/// `loss.reason` of rows that were kept as long as they should.
pub const REASON: &str = "expired";

/// Files that leave one table together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// Which table.
    pub table: &'static str,
    /// Whole hours of it.
    pub files: Vec<HourFile>,
    /// Why, for people.
    pub why: String,
}

/// Files of hours that were over before `before_us`.
pub fn older(files: &[HourFile], before_us: i64) -> Vec<HourFile> {
    files.iter().filter(|file| file.hour.end_us() <= before_us).cloned().collect()
}

/// The oldest closed hours of all tables that must go so that the rest takes at most `most_bytes`.
pub fn over(
    tables: &[(&'static str, Vec<HourFile>)],
    most_bytes: u64,
    closed_us: i64,
) -> Vec<(&'static str, Vec<HourFile>)> {
    let all = || tables.iter().flat_map(|(table, files)| files.iter().map(move |file| (*table, file)));
    let mut hours: BTreeMap<Hour, Vec<(&'static str, &HourFile)>> = BTreeMap::new();
    for (table, file) in all() {
        hours.entry(file.hour).or_default().push((table, file));
    }
    let mut left: u64 = all().map(|(_, file)| file.file.bytes).sum();
    let mut gone: BTreeMap<&'static str, Vec<HourFile>> = BTreeMap::new();
    for (_, files) in hours.into_iter().take_while(|(hour, _)| hour.end_us() <= closed_us) {
        if left <= most_bytes {
            break;
        }
        for (table, file) in files {
            left = left.saturating_sub(file.file.bytes);
            gone.entry(table).or_default().push(file.clone());
        }
    }
    gone.into_iter().collect()
}

impl Expired {
    /// Rows that go, where the log knows.
    pub fn rows(&self) -> Option<u64> {
        self.files.iter().map(|file| file.file.rows).sum()
    }

    /// Bytes that go.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.file.bytes).sum()
    }

    /// From which hour to which, and why.
    fn detail(&self) -> String {
        let hours = || self.files.iter().map(|file| file.hour);
        let (first, last) = (hours().min().unwrap_or(Hour::of(0)), hours().max().unwrap_or(Hour::of(0)));
        let Self { table, files, why } = self;
        format!("{table}, hours {first} to {last}: {} files, {} bytes; {why}", files.len(), self.bytes())
    }

    /// The ledger's row: the rows were stored, and are not in the tables any more.
    ///
    /// # Errors
    /// [`ChunkError`].
    pub fn ledger_row(&self, now_us: i64) -> Result<Option<v1::Chunk>, ChunkError> {
        let rows = self.rows().and_then(|rows| i64::try_from(rows).ok());
        let mut builder = Builder::new(&LOSS);
        builder.int("time", now_us).int("until", now_us).text("probe", missing::PROBE).text("reason", REASON);
        builder.maybe_int("attempted", rows).maybe_int("delivered", rows.map(|_| 0)).maybe_int("lost", rows);
        builder.text("detail", &self.detail()).end_row()?;
        Ok(builder.finish())
    }
}

#[cfg(test)]
mod tests {
    use skep_seglog::SegmentId;

    use super::*;
    use crate::history::DataFile;
    use crate::history::path::FileName;

    const HOUR_US: i64 = 3_600_000_000;

    fn file(hour: i64, bytes: u64) -> HourFile {
        let hour = Hour::of(hour * HOUR_US);
        let name = FileName { collector: "c".to_owned(), first: SegmentId(1), last: SegmentId(1), merged: None };
        let path = name.build(hour);
        HourFile {
            file: DataFile { path: path.clone().into(), bytes, rows: Some(3), times_us: None, crc32c: None },
            path,
            name,
            hour,
        }
    }

    fn hours(files: &[HourFile]) -> Vec<i64> {
        files.iter().map(|file| file.hour.end_us() / HOUR_US - 1).collect()
    }

    #[test]
    fn whole_hours_go_when_their_last_row_is_old_enough() {
        let files = [file(5, 1), file(6, 1), file(7, 1)];
        assert_eq!(hours(&older(&files, 7 * HOUR_US)), [5, 6]);
        assert_eq!(hours(&older(&files, 7 * HOUR_US - 1)), [5]);
    }

    #[test]
    fn the_oldest_hours_of_all_tables_make_room() {
        let tables = [("cpu", vec![file(5, 10), file(6, 10), file(8, 10)]), ("host", vec![file(5, 1), file(7, 1)])];
        let gone = |most, closed| {
            let gone = over(&tables, most, closed * HOUR_US);
            gone.iter().map(|(table, files)| (*table, hours(files))).collect::<Vec<_>>()
        };
        assert_eq!(gone(32, 100), []);
        assert_eq!(gone(31, 100), [("cpu", vec![5]), ("host", vec![5])]);
        assert_eq!(gone(20, 100), [("cpu", vec![5, 6]), ("host", vec![5])]);
        assert_eq!(gone(0, 8), [("cpu", vec![5, 6]), ("host", vec![5, 7])], "what may still get rows stays");
    }

    #[test]
    fn the_ledger_says_what_went_and_adds_up() {
        let expired =
            Expired { table: "cpu", files: vec![file(5, 7), file(6, 7)], why: "older than 3 days".to_owned() };
        let chunk = expired.ledger_row(9).unwrap().unwrap();
        let row = skep_wire::chunk::rows(&chunk).next().unwrap();
        assert_eq!((row.int("attempted"), row.int("delivered"), row.int("lost")), (Some(6), Some(0), Some(6)));
        let detail = row.text("detail").unwrap().to_owned();
        assert_eq!(detail, "cpu, hours 1970-01-01 05:00 to 1970-01-01 06:00: 2 files, 14 bytes; older than 3 days");
    }
}
