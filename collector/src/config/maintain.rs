//! The sections on what is kept, and what is done to it in the background.

use std::collections::BTreeMap;
use std::time::Duration;

use skep_runtime::settings::Section;
use skep_wire::tables::TABLES;

use crate::maintain::Settings;
use crate::maintain::settings::{Retention, Tier};

/// Seconds of a window, and hours after which they are that long.
const TIERS: [(u32, u64); 2] = [(60, 48), (300, 720)];

/// Days that rows are kept,
const DAYS: u32 = 365;

/// but for the tables that say who did what and why.
const TABLE_DAYS: [(&str, u32); 4] = [("findings", 1825), ("incidents", 1825), ("actions", 1825), ("audit", 1825)];

const MOST_DAYS: i64 = 36_500;

/// Reads `[maintain]` and `[retention]`.
pub(super) fn read(top: &mut Section, adopt_after: Option<Duration>) -> Settings {
    let mut section = top.section("maintain");
    let interval = Duration::from_secs(integer(&mut section, "interval_s", 1, 86_400, 60));
    let checkpoint_commits = integer(&mut section, "checkpoint_commits", 1, 1_000_000, 100);
    let log_age = Duration::from_secs(3600 * integer(&mut section, "log_hours", 0, 87_600, 168));
    let closed_after = Duration::from_secs(integer(&mut section, "closed_s", 0, 86_400, 600));
    let grace = Duration::from_secs(integer(&mut section, "grace_s", 0, 30 * 86_400, 3600));
    let tiers = tiers(&mut section);
    section.finish();
    let retention = retention(top);
    Settings { interval, checkpoint_commits, log_age, closed_after, grace, tiers, retention, adopt_after }
}

fn tiers(section: &mut Section) -> Vec<Tier> {
    let Some(given) = section.sections("tier") else {
        return TIERS.map(|(window_s, hours)| tier(window_s, hours)).into();
    };
    let mut tiers: Vec<Tier> = Vec::new();
    for mut part in given {
        let window_s = part.integer("window_s", 1..=3600).and_then(|window_s| u32::try_from(window_s).ok());
        let after_h = part.integer("after_h", 0..=876_000);
        match (window_s, after_h) {
            (Some(window_s), Some(after_h)) => {
                let next = tier(window_s, after_h.unsigned_abs());
                let follows = |before: &Tier| window_s.is_multiple_of(before.window_s) && next.after > before.after;
                if !3600_u32.is_multiple_of(window_s) {
                    part.note("window_s", format_args!("{window_s} seconds do not divide an hour"));
                } else if !tiers.last().is_none_or(follows) {
                    part.note("window_s", "a tier's windows are a multiple of those before and begin later");
                }
                tiers.push(next);
            }
            _ => part.note("window_s", "a tier needs window_s and after_h"),
        }
        part.finish();
    }
    tiers
}

fn tier(window_s: u32, after_h: u64) -> Tier {
    Tier { window_s, after: Duration::from_secs(3600 * after_h) }
}

fn retention(top: &mut Section) -> Retention {
    let mut section = top.section("retention");
    let days = section.integer("days", 0..=MOST_DAYS).map_or(Some(DAYS), whole_days);
    let bytes = section.integer("max_gib", 0..=1 << 20).filter(|&gib| gib > 0).map(|gib| gib.unsigned_abs() << 30);
    let mut own = section.section("tables");
    let mut tables = BTreeMap::from(TABLE_DAYS.map(|(table, days)| (table, Some(days))));
    for table in TABLES {
        if let Some(days) = own.integer(table.name, 0..=MOST_DAYS) {
            tables.insert(table.name, whole_days(days));
        }
    }
    own.finish();
    section.finish();
    Retention { days, tables, bytes }
}

/// 0 is for ever.
fn whole_days(days: i64) -> Option<u32> {
    u32::try_from(days).ok().filter(|&days| days > 0)
}

fn integer(section: &mut Section, key: &str, least: i64, most: i64, default: u64) -> u64 {
    section.integer(key, least..=most).map_or(default, i64::unsigned_abs)
}
