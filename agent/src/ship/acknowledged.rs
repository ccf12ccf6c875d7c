//! What was acknowledged of the stream being sent, and by which collector. Pure.
//!
//! A stream goes to one collector at a time, in order: so what was acknowledged is runs of numbers, one after the other,
//! each of one collector, or of none: dropped by the spool, or sent before this agent started, who knows to whom. A
//! collector's hello says which of them are its own (what it does not know of them is lost) and which are not (what it does
//! not know of those is there, or in the ledger).

use std::collections::BTreeSet;
use std::fmt::Write as _;

use skep_wire::v1;
use tonic::transport::Uri;

use crate::spool::record::is_stream;

/// Runs remembered. With more, the two oldest count as one that both collectors have; it tells of too much loss should
/// one of them lose its disk, and of none that is not suspected.
const MAX_RUNS: usize = 64;

/// First line of its text.
const HEADER: &str = "skep-acknowledged 1";

/// Kept over sessions, and as far as [`super::memory`] goes over restarts of the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acknowledged {
    stream: String,
    runs: Vec<Run>,
}

/// The numbers after those of the run before.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    last: u64,
    /// By place in the agent's list; none for what nobody is known to have.
    by: BTreeSet<usize>,
}

impl Acknowledged {
    /// The collector at `place` has everything of `stream` up to `seq` that was not noted before; `None` if nobody was sent
    /// it.
    pub fn note(&mut self, stream: &str, place: Option<usize>, seq: u64) {
        if self.stream != stream {
            stream.clone_into(&mut self.stream);
            self.runs.clear();
        }
        if seq <= self.last(stream) {
            return;
        }
        let by = BTreeSet::from_iter(place);
        match self.runs.last_mut() {
            Some(run) if run.by == by => run.last = seq,
            _ => self.runs.push(Run { last: seq, by }),
        }
        if self.runs.len() > MAX_RUNS {
            let oldest = self.runs.remove(0);
            self.runs[0].by.extend(oldest.by);
        }
    }

    /// The last number that anybody acknowledged, or nobody was sent; 0 for another stream than the one noted last.
    pub fn last(&self, stream: &str) -> u64 {
        self.of(stream).last().map_or(0, |run| run.last)
    }

    /// The last number that the collector at `place` acknowledged.
    pub fn here(&self, stream: &str, place: usize) -> u64 {
        self.of(stream).iter().rev().find(|run| run.by.contains(&place)).map_or(0, |run| run.last)
    }

    /// What the collector at `place` did not acknowledge, ascending.
    pub fn elsewhere(&self, stream: &str, place: usize) -> Vec<v1::SeqRange> {
        let mut ranges: Vec<v1::SeqRange> = Vec::new();
        let mut from_seq = 1;
        for run in self.of(stream) {
            if !run.by.contains(&place) {
                match ranges.last_mut() {
                    Some(range) if range.to_seq + 1 == from_seq => range.to_seq = run.last,
                    _ => ranges.push(v1::SeqRange { from_seq, to_seq: run.last }),
                }
            }
            from_seq = run.last + 1;
        }
        ranges
    }

    /// For a file: the stream, and a line a run with its last number and the addresses of the collectors that have it.
    pub fn text(&self, collectors: &[Uri]) -> String {
        let mut text = format!("{HEADER}\nstream {}\n", self.stream);
        for run in &self.runs {
            // Writing to a string cannot fail.
            let _ = write!(text, "run {}", run.last);
            for collector in run.by.iter().filter_map(|place| collectors.get(*place)) {
                let _ = write!(text, " {collector}");
            }
            text.push('\n');
        }
        text
    }

    /// The inverse. Collectors that are not in the list any more count as nobody; `None` for text that makes no sense.
    pub fn parse(text: &str, collectors: &[Uri]) -> Option<Self> {
        let text = text.strip_suffix('\n')?;
        let mut lines = text.split('\n');
        let stream = (lines.next()? == HEADER).then(|| lines.next())??.strip_prefix("stream ")?;
        let mut acknowledged = Self { stream: stream.to_owned(), runs: Vec::new() };
        let mut before = 0;
        for line in lines {
            let mut words = line.strip_prefix("run ")?.split(' ');
            let last: u64 = words.next()?.parse().ok()?;
            let by = words.filter_map(|url| collectors.iter().position(|collector| *collector == url));
            acknowledged.runs.push(Run { last, by: by.collect() });
            if last <= std::mem::replace(&mut before, last) {
                return None;
            }
        }
        (is_stream(stream) && acknowledged.runs.len() <= MAX_RUNS).then_some(acknowledged)
    }

    fn of(&self, stream: &str) -> &[Run] {
        if self.stream == stream { &self.runs } else { &[] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elsewhere(acknowledged: &Acknowledged, place: usize) -> Vec<(u64, u64)> {
        acknowledged.elsewhere("s", place).iter().map(|range| (range.from_seq, range.to_seq)).collect()
    }

    #[test]
    fn what_a_wiped_collector_once_acknowledged_is_not_forgotten() {
        let mut acknowledged = Acknowledged::default();
        acknowledged.note("s", Some(0), 7);
        acknowledged.note("s", Some(0), 0);
        assert_eq!((acknowledged.here("s", 0), acknowledged.here("t", 0)), (7, 0));
        acknowledged.note("t", Some(0), 2);
        assert_eq!((acknowledged.here("s", 0), acknowledged.here("t", 0)), (0, 2));
    }

    #[test]
    fn each_collector_is_told_what_it_had_and_what_others_have() {
        let mut acknowledged = Acknowledged::default();
        for (place, seq) in [(0, 40), (0, 56), (1, 80), (2, 89), (0, 120)] {
            acknowledged.note("s", Some(place), seq);
        }
        // What was acknowledged before is no news, whoever says so.
        acknowledged.note("s", Some(1), 100);
        assert_eq!(acknowledged.last("s"), 120);
        let here: Vec<_> = (0..4).map(|place| acknowledged.here("s", place)).collect();
        assert_eq!(here, [120, 80, 89, 0]);
        assert_eq!(elsewhere(&acknowledged, 0), [(57, 89)]);
        assert_eq!(elsewhere(&acknowledged, 1), [(1, 56), (81, 120)]);
        assert_eq!(elsewhere(&acknowledged, 3), [(1, 120)]);
        assert_eq!(acknowledged.elsewhere("t", 3), []);
    }

    #[test]
    fn what_nobody_was_sent_is_lost_by_nobody() {
        let mut acknowledged = Acknowledged::default();
        // An agent that was restarted: the spool begins with 81, and later drops 91 to 95.
        for (place, seq) in [(None, 80), (Some(1), 90), (None, 95), (Some(1), 100)] {
            acknowledged.note("s", place, seq);
        }
        assert_eq!((acknowledged.here("s", 1), acknowledged.here("s", 0)), (100, 0));
        assert_eq!(elsewhere(&acknowledged, 1), [(1, 80), (91, 95)]);
        assert_eq!(elsewhere(&acknowledged, 0), [(1, 100)]);
    }

    #[test]
    fn it_reads_as_it_was_written_though_the_list_has_changed() {
        let stream = "00112233445566778899aabbccddeeff";
        let uris = |names: &[&str]| -> Vec<Uri> {
            names.iter().map(|name| format!("https://{name}.example:7443").parse().unwrap()).collect()
        };
        let (before, after) = (uris(&["a", "b", "c"]), uris(&["c", "a"]));
        let mut acknowledged = Acknowledged::default();
        for (place, seq) in [(Some(0), 56), (Some(1), 80), (Some(2), 89), (None, 95), (Some(0), 120)] {
            acknowledged.note(stream, place, seq);
        }
        let text = acknowledged.text(&before);
        assert_eq!(Acknowledged::parse(&text, &before), Some(acknowledged));
        let changed = Acknowledged::parse(&text, &after).unwrap();
        assert_eq!((changed.here(stream, 0), changed.here(stream, 1), changed.last(stream)), (89, 120, 120));
        let elsewhere: Vec<_> = changed.elsewhere(stream, 1).iter().map(|r| (r.from_seq, r.to_seq)).collect();
        assert_eq!(elsewhere, [(57, 95)]);
        let torn = &text[..text.len() - 3];
        let back = format!("{HEADER}\nstream {stream}\nrun 5\nrun 5\n");
        for nonsense in ["", "skep-acknowledged 2\n", &format!("{HEADER}\nstream x\n"), torn, &back] {
            assert_eq!(Acknowledged::parse(nonsense, &before), None, "{nonsense}");
        }
    }

    #[test]
    fn an_agent_that_goes_to_and_fro_for_ever_remembers_so_much() {
        let mut acknowledged = Acknowledged::default();
        for seq in 1..=1000 {
            acknowledged.note("s", Some((seq % 2) as usize), seq);
        }
        assert_eq!(acknowledged.runs.len(), MAX_RUNS);
        assert_eq!((acknowledged.last("s"), acknowledged.here("s", 1), acknowledged.here("s", 0)), (1000, 999, 1000));
        assert_eq!(elsewhere(&acknowledged, 2), [(1, 1000)]);
        let of_one = elsewhere(&acknowledged, 0);
        assert!(of_one.len() <= MAX_RUNS && of_one.iter().all(|(from, to)| from == to && from % 2 == 1), "{of_one:?}");
        assert_eq!(of_one.last(), Some(&(999, 999)));
    }
}
