//! All series of all nodes by the minute: what is new in them, what is far out, and what nears its limit.
//!
//! Two signals, never fused: novelty (nothing like it was ever seen) and level (far from the last hour, or beyond a
//! limit). A workload that is not there has rates of zero for an hour, then it is let be until it comes back.
//!
//! A series takes some 5 KiB, one that can be full 8; there are at most [`MAX_SERIES`], and the ones seen longest ago go,
//! counted.

use std::collections::HashMap;

use skep_series::level::{Bounds, Level, Levels};
use skep_series::limit::{Limit, NoSkill, Until};
use skep_series::tail::Side;
use skep_series::{Novelty, Point, Verdict};
use skep_wire::v1;

use super::minute::{Minute, Minutes, Value};
use super::siblings::{Siblings, Unlike};

/// Series over all nodes.
pub const MAX_SERIES: usize = 16_384;

/// Minutes a rate is zero after its workload was seen last.
const ZERO_MINUTES: i64 = 60;

const MINUTE_US: i64 = 60_000_000;

/// Spreads from which on a value is far out: people are told, so it is more than what the signal itself calls far.
const FAR: f64 = 10.0;

/// Of the last hour, minutes before these that may have been nearly as far out; more, and it is what this series does.
const SEEN: usize = 1;

/// Gauges that are full at one, and the share at which that is said without any forecast.
const FULL: [(&str, f64); 4] =
    [("disk_used_ratio", 0.95), ("inodes_used_ratio", 0.95), ("memory_used_ratio", 0.97), ("files_used_ratio", 0.8)];

/// What is known of one value.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// Start of its minute.
    pub time_us: i64,
    /// Workload or the node, signal, value and coverage.
    pub what: Value,
    /// Was nothing like it ever seen?
    pub novelty: Verdict,
    /// Is it far from the last hour, or beyond its limit?
    pub level: Option<Level>,
    /// Minutes in a row, this one included, that it has been far out as hardly ever in the last hour.
    pub far_minutes: u32,
    /// Minutes in a row, this one included, that it has been beyond its limit.
    pub over_minutes: u32,
    /// When it is full, for what can be.
    pub until: Option<Result<Until, NoSkill>>,
    /// How it stands among its siblings, if that is far off.
    pub unlike: Option<Unlike>,
}

impl Judged {
    /// Whether it is worth a row.
    pub fn is_notable(&self) -> bool {
        self.novelty.score > 0.0 && self.novelty.decades > 1.5
            || self.level.is_some_and(|level| level.far || level.over_limit)
            || matches!(self.until, Some(Ok(_)))
            || self.unlike.is_some()
    }
}

/// One series.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) novelty: Novelty,
    pub(super) levels: Levels,
    pub(super) limit: Option<Limit>,
    /// Minutes in a row far out, and beyond its limit.
    pub(super) far_minutes: u32,
    pub(super) over_minutes: u32,
    /// Start of the last minute it was measured in.
    pub(super) seen_us: i64,
    pub(super) rate: bool,
}

impl Known {
    fn new(signal: &str) -> Self {
        Self {
            novelty: Novelty::default(),
            levels: Levels::default(),
            limit: full_at(signal).map(|_| Limit::default()),
            far_minutes: 0,
            over_minutes: 0,
            seen_us: 0,
            rate: false,
        }
    }

    fn judge(&mut self, time_us: i64, what: Value) -> Option<Judged> {
        let point = Point { time_s: time_us as f64 / 1e6, value: what.value, coverage: what.coverage };
        let novelty = self.novelty.observe(point).ok()?;
        let level = self.levels.observe(point, &bounds(&what.signal)).ok().flatten();
        let far = level.is_some_and(|level| level.z.abs() >= FAR && level.seen <= SEEN + self.far_minutes as usize);
        self.far_minutes = if far { self.far_minutes + 1 } else { 0 };
        let over = level.is_some_and(|level| level.over_limit);
        self.over_minutes = if over { self.over_minutes + 1 } else { 0 };
        let until = self.limit.as_mut().map(|limit| {
            // What is no point was refused above already.
            let _refused = limit.observe(point).is_err();
            limit.until(1.0)
        });
        let (far_minutes, over_minutes) = (self.far_minutes, self.over_minutes);
        Some(Judged { time_us, what, novelty, level, far_minutes, over_minutes, until, unlike: None })
    }
}

/// Workload and signal.
pub(super) type Name = (String, String);

/// One node.
#[derive(Debug, Default)]
struct Node {
    minutes: Minutes,
    /// Each apart: a table keeps free places for as many as it has, and a series takes KiB.
    known: HashMap<Name, Box<Known>>,
}

/// All series of all nodes.
#[derive(Debug)]
pub struct Gallery {
    nodes: HashMap<String, Node>,
    siblings: Siblings,
    max_series: usize,
    evicted: u64,
    late: u64,
}

impl Default for Gallery {
    fn default() -> Self {
        Self { nodes: HashMap::new(), siblings: Siblings::default(), max_series: MAX_SERIES, evicted: 0, late: 0 }
    }
}

impl Gallery {
    #[cfg(test)]
    pub(super) fn with_room(max_series: usize) -> Self {
        Self { max_series, ..Self::default() }
    }

    /// Takes a checked chunk of a node; what is notable in the minute that it closed, if it did.
    pub fn chunk(&mut self, node: &str, chunk: &v1::Chunk) -> Vec<Judged> {
        let entry = match self.nodes.get_mut(node) {
            Some(entry) => entry,
            None => self.nodes.entry(node.to_owned()).or_default(),
        };
        let Some(minute) = entry.minutes.chunk(chunk) else { return Vec::new() };
        self.late += entry.minutes.take_late();
        let mut judged = entry.minute(minute);
        for judged in &mut judged {
            let Judged { time_us, what, .. } = &*judged;
            judged.unlike = self.siblings.observe(node, *time_us, what, &bounds(&what.signal));
        }
        self.make_room();
        judged.into_iter().filter(Judged::is_notable).collect()
    }

    /// Forgets all series of a node.
    pub fn forget(&mut self, node: &str) {
        self.nodes.remove(node);
        self.siblings.forget(node);
    }

    /// Series dropped for want of room since the call before, and values without siblings for want of it.
    pub fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted) + self.siblings.take_refused()
    }

    /// Rows that came after their minute was over, since the call before.
    pub fn take_late(&mut self) -> u64 {
        std::mem::take(&mut self.late)
    }

    /// Series there are.
    pub fn len(&self) -> usize {
        self.nodes.values().map(|node| node.known.len()).sum()
    }

    /// Whether nothing was learned yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every series with its node, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &Name, &Known)> {
        self.nodes
            .iter()
            .flat_map(|(node, state)| state.known.iter().map(|(name, known)| (node.as_str(), name, known.as_ref())))
    }

    /// Puts a series back.
    pub(super) fn put(&mut self, node: &str, name: Name, known: Known) {
        self.nodes.entry(node.to_owned()).or_default().known.insert(name, Box::new(known));
        self.make_room();
    }

    fn make_room(&mut self) {
        let tracked = self.len();
        if tracked <= self.max_series {
            return;
        }
        let mut seen: Vec<i64> = self.all().map(|(.., known)| known.seen_us).collect();
        // A tenth more than needed, so that this is not done again for every new series.
        let excess = (tracked - self.max_series + self.max_series / 10).min(tracked);
        let (_, newest_to_go, _) = seen.select_nth_unstable(excess - 1);
        let newest_to_go = *newest_to_go;
        let mut left = excess;
        for node in self.nodes.values_mut() {
            node.known.retain(|_, known| {
                let goes = known.seen_us <= newest_to_go && left > 0;
                left -= usize::from(goes);
                !goes
            });
        }
        self.evicted += (excess - left) as u64;
    }
}

impl Node {
    fn minute(&mut self, minute: Minute) -> Vec<Judged> {
        let mut judged = Vec::with_capacity(minute.values.len());
        for value in minute.values {
            let name = (value.workload.clone(), value.signal.clone());
            let known = self.known.entry(name).or_insert_with(|| Box::new(Known::new(&value.signal)));
            known.seen_us = minute.time_us;
            known.rate = value.rate;
            judged.extend(known.judge(minute.time_us, value));
        }
        let oldest_us = minute.time_us - ZERO_MINUTES * MINUTE_US;
        for ((workload, signal), known) in &mut self.known {
            if known.rate && known.seen_us < minute.time_us && known.seen_us >= oldest_us {
                let (workload, signal) = (workload.clone(), signal.clone());
                let zero = Value { workload, signal, value: 0.0, coverage: 1.0, rate: true };
                judged.extend(known.judge(minute.time_us, zero));
            }
        }
        judged.sort_by(|a, b| (&a.what.workload, &a.what.signal).cmp(&(&b.what.workload, &b.what.signal)));
        judged
    }
}

/// The share at which a gauge is as good as full.
pub(super) fn full_at(signal: &str) -> Option<f64> {
    let metric = signal.split('{').next().unwrap_or(signal);
    FULL.iter().find(|(full, _)| *full == metric).map(|(_, share)| *share)
}

/// What does not matter in a signal, by its unit.
fn bounds(signal: &str) -> Bounds {
    let metric = signal.split('{').next().unwrap_or(signal);
    let units = [("_ratio", 0.02), ("_cores", 0.1), ("_ns", 1e6), ("_bytes_per_s", 1e6), ("_bytes", 16e6)];
    let least_spread = units.iter().find(|(unit, _)| metric.ends_with(unit)).map_or(1.0, |(_, least)| *least);
    Bounds { least_spread, least_spread_ratio: 0.05, limit: full_at(signal).map(|share| (Side::Above, share)) }
}
