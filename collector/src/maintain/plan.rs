//! Which files of an hour become one. Pure.

use std::collections::BTreeMap;

use super::settings::Tier;
use crate::history::path::Hour;
use crate::history::upkeep::HourFile;

/// Files larger than this stay as they are: merging them saves nothing a reader would notice.
const LARGEST_INPUT_BYTES: u64 = 512 << 20;

/// Files merged at once: each is open and has a page of every column in memory.
pub(super) const MOST_INPUTS: usize = 64;

/// So many files of an hour are merged whatever their sizes.
const MANY: usize = 16;

/// A file this many times as large as all others together is not rewritten for their sake,
const FAR_LARGER: u64 = 4;

/// until the hour has been over for this long.
const LATE_US: i64 = 24 * 3600 * 1_000_000;

/// The files of one table to make one of next, all of one hour; `None` when none are due.
///
/// `files` are in the order of their hours; hours that end after `closed_us` may still get rows and are let be, and so
/// is what `leave` says.
pub fn next_merge(files: &[HourFile], closed_us: i64, leave: impl Fn(Hour) -> bool) -> Option<Vec<HourFile>> {
    // Windows of one length each, so that a file's name says which.
    let mut hours: BTreeMap<(Hour, u32), Vec<&HourFile>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.file.bytes <= LARGEST_INPUT_BYTES) {
        hours.entry((file.hour, file.window_s())).or_default().push(file);
    }
    let closed = hours.into_iter().filter(|((hour, _), _)| hour.end_us() <= closed_us && !leave(*hour));
    for ((hour, _), mut files) in closed {
        if is_worthwhile(&files, closed_us.saturating_sub(hour.end_us())) {
            files.sort_by_key(|file| file.file.bytes);
            files.truncate(MOST_INPUTS);
            return Some(files.into_iter().cloned().collect());
        }
    }
    None
}

/// The files of one hour whose windows are to become longer next, and how long; `None` when none are.
///
/// An hour with more files than are merged at once is merged first, by [`next_merge`].
pub fn next_tier(
    files: &[HourFile],
    tiers: &[Tier],
    now_us: i64,
    leave: impl Fn(Hour) -> bool,
) -> Option<(u32, Vec<HourFile>)> {
    let mut hours: BTreeMap<Hour, Vec<&HourFile>> = BTreeMap::new();
    for file in files {
        hours.entry(file.hour).or_default().push(file);
    }
    for (hour, files) in hours.into_iter().filter(|(hour, _)| !leave(*hour)) {
        let Some(window_s) = window_s(tiers, hour, now_us) else { continue };
        if files.len() <= MOST_INPUTS && files.iter().any(|file| file.window_s() < window_s) {
            return Some((window_s, files.into_iter().cloned().collect()));
        }
    }
    None
}

/// How long an hour's windows should be by now; `None` for as they came.
fn window_s(tiers: &[Tier], hour: Hour, now_us: i64) -> Option<u32> {
    let is_due = |tier: &&Tier| {
        let after_us = i64::try_from(tier.after.as_micros()).unwrap_or(i64::MAX);
        hour.end_us().saturating_add(after_us) <= now_us
    };
    tiers.iter().rev().find(is_due).map(|tier| tier.window_s)
}

fn is_worthwhile(files: &[&HourFile], closed_for_us: i64) -> bool {
    let largest = files.iter().map(|file| file.file.bytes).max().unwrap_or(0);
    let others = files.iter().map(|file| file.file.bytes).sum::<u64>() - largest;
    files.len() >= 2
        && (files.len() >= MANY || closed_for_us >= LATE_US || largest <= others.saturating_mul(FAR_LARGER))
}

#[cfg(test)]
mod tests {
    use skep_seglog::SegmentId;

    use super::*;
    use crate::history::DataFile;
    use crate::history::path::FileName;

    const HOUR_US: i64 = 3_600_000_000;

    fn file(hour: i64, segment: u64, bytes: u64) -> HourFile {
        let hour = Hour::of(hour * HOUR_US);
        let name =
            FileName { collector: "c".to_owned(), first: SegmentId(segment), last: SegmentId(segment), merged: None };
        let path = name.build(hour);
        let file = DataFile { path: path.clone().into(), bytes, rows: None, times_us: None, crc32c: None };
        HourFile { path, name, hour, file }
    }

    /// Segments of the files merged next.
    fn next(files: &[HourFile], closed_hours: i64) -> Option<Vec<u64>> {
        let merge = next_merge(files, closed_hours * HOUR_US, |_| false)?;
        Some(merge.iter().map(|file| file.name.first.0).collect())
    }

    #[test]
    fn an_hour_is_merged_when_it_is_closed() {
        let files = [file(5, 1, 10), file(5, 2, 9), file(6, 2, 5), file(6, 3, 5)];
        assert_eq!(next(&files, 5), None);
        assert_eq!(next(&files, 6), Some(vec![2, 1]));
        assert_eq!(next(&files[2..], 7), Some(vec![2, 3]));
        assert_eq!(next(&files[1..3], 9), None, "one file an hour is what is wanted");
        assert_eq!(
            next_merge(&files, 7 * HOUR_US, |hour| hour == Hour::of(5 * HOUR_US)).unwrap()[0].path,
            files[2].path
        );
    }

    #[test]
    fn a_little_that_comes_late_waits_until_it_is_worth_it() {
        let mut files = vec![file(5, 1, 1000), file(5, 2, 10)];
        assert_eq!(next(&files, 7), None);
        assert_eq!(next(&files, 6 + 24), Some(vec![2, 1]), "a day later");
        assert_eq!(next(&[file(5, 1, 1000), file(5, 2, 250)], 7), Some(vec![2, 1]), "or when it is much");
        files.extend((3..=16).map(|segment| file(5, segment, 1)));
        assert_eq!(next(&files, 7).map(|merge| merge.len()), Some(16), "or when it is many");
    }

    #[test]
    fn windows_become_longer_with_age_and_late_rows_join_them() {
        use std::time::Duration;

        use crate::history::path::Merged;

        let tier = |window_s, after_h: u64| Tier { window_s, after: Duration::from_secs(3600 * after_h) };
        let tiers = [tier(60, 10), tier(300, 20)];
        let mut files = vec![file(5, 1, 10), file(5, 2, 10)];
        let due = |files: &[HourFile], hour: i64| {
            let (window_s, inputs) = next_tier(files, &tiers, hour * HOUR_US, |_| false)?;
            Some((window_s, inputs.len()))
        };
        assert_eq!(due(&files, 15), None);
        assert_eq!(due(&files, 16), Some((60, 2)));
        assert_eq!(due(&files, 26), Some((300, 2)));
        files[0].name.merged = Some(Merged { digest: String::new(), window_s: 60 });
        assert_eq!(due(&files[..1], 25), None);
        assert_eq!(due(&files[..1], 26), Some((300, 1)));
        assert_eq!(due(&files, 16), Some((60, 2)), "the second came late");
        assert_eq!(due(&vec![file(5, 1, 1); 65], 16), None);
    }

    #[test]
    fn memory_is_bounded_by_the_number_of_files_and_large_ones_stay() {
        let mut files: Vec<HourFile> = (1..=200).map(|segment| file(5, segment, segment)).collect();
        assert_eq!(next(&files, 6), Some((1..=64).collect()));
        files = vec![file(5, 1, LARGEST_INPUT_BYTES + 1), file(5, 2, 10)];
        assert_eq!(next(&files, 100), None);
    }
}
