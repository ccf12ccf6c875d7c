//! The section on what is done in the background.

use std::time::Duration;

use skep_runtime::settings::Section;

use crate::maintain::Settings;

/// Reads `[maintain]`.
pub(super) fn read(top: &mut Section) -> Settings {
    let mut section = top.section("maintain");
    let interval = Duration::from_secs(integer(&mut section, "interval_s", 1, 86_400, 60));
    let checkpoint_commits = integer(&mut section, "checkpoint_commits", 1, 1_000_000, 100);
    let log_age = Duration::from_secs(3600 * integer(&mut section, "log_hours", 0, 87_600, 168));
    let closed_after = Duration::from_secs(integer(&mut section, "closed_s", 0, 86_400, 600));
    let grace = Duration::from_secs(integer(&mut section, "grace_s", 0, 30 * 86_400, 3600));
    section.finish();
    Settings { interval, checkpoint_commits, log_age, closed_after, grace }
}

fn integer(section: &mut Section, key: &str, least: i64, most: i64, default: u64) -> u64 {
    section.integer(key, least..=most).map_or(default, i64::unsigned_abs)
}
