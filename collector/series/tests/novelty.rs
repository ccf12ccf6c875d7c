//! The scorer on series whose truth is known.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use skep_series::novelty::Stream;
use skep_series::tail::Side;
use skep_series::{Ignored, Novelty, Point, Verdict};

const MINUTE_S: f64 = 60.0;
const START_S: f64 = 1_700_000_000.0;

/// Noise in [0, 1) that is the same on every run.
fn noise(at: u32) -> f64 {
    let mut bits = at.wrapping_mul(0x9e37_79b9) ^ 0x5bd1_e995;
    bits = (bits ^ (bits >> 15)).wrapping_mul(0x85eb_ca6b);
    bits = (bits ^ (bits >> 13)).wrapping_mul(0xc2b2_ae35);
    f64::from(bits ^ (bits >> 16)) / f64::from(u32::MAX)
}

struct Feed {
    novelty: Novelty,
    at: u32,
}

impl Feed {
    fn new() -> Self {
        Self { novelty: Novelty::default(), at: 0 }
    }

    fn give(&mut self, value: f64) -> Verdict {
        let time_s = START_S + MINUTE_S * f64::from(self.at);
        self.at += 1;
        self.novelty.observe(Point::new(time_s, value)).unwrap()
    }

    /// So many minutes of `value`; how many of them were alarms.
    fn alarms(&mut self, minutes: u32, value: impl Fn(u32) -> f64) -> usize {
        (0..minutes).filter(|_| self.give(value(self.at)).alarm).count()
    }
}

fn usual(at: u32) -> f64 {
    100.0 + 10.0 * noise(at)
}

#[test]
fn noise_alone_raises_hardly_anything() {
    let mut feed = Feed::new();
    let alarms = feed.alarms(7 * 1440, usual);
    assert!(alarms <= 2, "{alarms} alarms in a week of noise");
}

#[test]
fn a_spike_never_seen_is_an_alarm_that_explains_itself() {
    let mut feed = Feed::new();
    feed.alarms(2000, usual);
    let verdict = feed.give(400.0);
    assert!(verdict.alarm && verdict.score >= 0.2, "{verdict:?}");
    assert!((verdict.confidence - 1.0).abs() < 1e-9);
    let reason = verdict.reason.unwrap();
    assert_eq!((reason.side, reason.observed), (Side::Above, 400.0));
    assert_eq!(reason.seen, 0.0, "nothing like it was seen");
    assert!(reason.of > 1900.0);
    assert!(reason.expected.0 > 80.0 && reason.expected.1 < 130.0, "{reason:?}");
}

#[test]
fn what_comes_every_hour_is_known() {
    let mut feed = Feed::new();
    let hourly = |at: u32| if at % 60 < 2 { 400.0 } else { usual(at) };
    feed.alarms(3 * 1440, hourly);
    assert_eq!(feed.alarms(1440, hourly), 0);
}

#[test]
fn a_lasting_shift_is_one_alarm_and_becomes_normal() {
    let mut feed = Feed::new();
    feed.alarms(3000, usual);
    let during = feed.alarms(600, |at| usual(at) + 60.0);
    assert!((1..=6).contains(&during), "one incident gets worse a few times at most: {during}");
    assert_eq!(feed.alarms(5000, |at| usual(at) + 60.0), 0);
}

#[test]
fn a_series_that_stops_swinging_or_stops_at_all_is_seen_by_its_side() {
    let mut feed = Feed::new();
    feed.alarms(3000, usual);
    let verdicts: Vec<Verdict> = (0..30).map(|_| feed.give(0.0)).collect();
    let first = verdicts.iter().find(|verdict| verdict.alarm).unwrap();
    assert_eq!(first.reason.unwrap().side, Side::Below);
}

#[test]
fn a_constant_series_is_silent_until_it_changes() {
    let mut feed = Feed::new();
    assert_eq!(feed.alarms(1000, |_| 7.0), 0);
    let mut hardly = Feed { novelty: Novelty::from_bytes(&feed.novelty.to_bytes()).unwrap(), at: feed.at };
    let verdict = hardly.give(7.0001);
    assert!(!verdict.alarm, "that is not to have moved: {verdict:?}");
    assert!(feed.give(8.0).alarm);
    assert_eq!(feed.alarms(500, |_| 7.0), 0, "the incident is under way");
}

#[test]
fn a_young_series_says_nothing() {
    let mut feed = Feed::new();
    for at in 0..49 {
        let verdict = feed.give(if at == 40 { 1e6 } else { 1.0 });
        assert!(verdict.score == 0.0 && verdict.confidence < 0.05);
    }
}

#[test]
fn an_hour_of_the_day_has_its_own_normal() {
    let mut feed = Feed::new();
    let nightly = |at: u32| usual(at) + if at % 1440 < 60 { 300.0 } else { 0.0 };
    feed.alarms(7 * 1440, nightly);
    // The load of the night, at noon.
    feed.alarms(720, nightly);
    let verdicts: Vec<Verdict> = (0..60).map(|_| feed.give(usual(0) + 300.0)).collect();
    let most = verdicts.iter().max_by(|a, b| a.decades.total_cmp(&b.decades)).unwrap();
    assert_eq!(most.reason.unwrap().stream, Stream::Season, "{most:?}");
}

#[test]
fn what_is_no_point_is_let_be_and_changes_nothing() {
    let mut feed = Feed::new();
    feed.alarms(100, usual);
    let before = feed.novelty.to_bytes();
    let last_s = feed.novelty.last_s();
    let mut refused =
        |time_s: f64, value: f64, coverage: f64| feed.novelty.observe(Point { time_s, value, coverage }).unwrap_err();
    assert_eq!(refused(last_s + 60.0, f64::NAN, 1.0), Ignored::NoNumber);
    assert_eq!(refused(last_s + 60.0, f64::INFINITY, 1.0), Ignored::NoNumber);
    assert_eq!(refused(last_s, 1.0, 1.0), Ignored::Time);
    assert_eq!(refused(last_s - 60.0, 1.0, 1.0), Ignored::Time);
    assert_eq!(refused(f64::NAN, 1.0, 1.0), Ignored::Time);
    assert_eq!(refused(last_s + 60.0, 1.0, 0.0), Ignored::Unseen);
    assert_eq!(feed.novelty.to_bytes(), before);
}

#[test]
fn less_coverage_makes_less_sure() {
    let mut whole = Feed::new();
    whole.alarms(2000, usual);
    let mut half = Novelty::from_bytes(&whole.novelty.to_bytes()).unwrap();
    let time_s = whole.novelty.last_s() + MINUTE_S;
    let sure = whole.novelty.observe(Point::new(time_s, 200.0)).unwrap();
    let unsure = half.observe(Point { time_s, value: 200.0, coverage: 0.1 }).unwrap();
    assert!((sure.decades - unsure.decades - 1.0).abs() < 1e-9);
    assert!((unsure.confidence - 0.1).abs() < 1e-9);
}

#[test]
fn after_a_gap_it_goes_on() {
    let mut feed = Feed::new();
    feed.alarms(3000, usual);
    feed.at += 10_000;
    assert!(feed.alarms(1000, usual) <= 1);
}

#[test]
fn it_stays_within_its_memory() {
    let mut feed = Feed::new();
    feed.alarms(30_000, |at| usual(at) * f64::from(1 + at % 997));
    assert!(feed.novelty.bytes() <= 12 * 1024, "{} bytes", feed.novelty.bytes());
    assert!(feed.novelty.to_bytes().len() <= 12 * 1024);
}

proptest! {
    #[test]
    fn a_restart_changes_no_bit(values in prop::collection::vec(-1e9..1e9f64, 60..400), cut in 0usize..60) {
        let (mut through, mut before) = (Novelty::default(), Novelty::default());
        for (at, &value) in values.iter().enumerate() {
            if at == cut {
                before = Novelty::from_bytes(&before.to_bytes()).unwrap();
            }
            let point = Point::new(START_S + 60.0 * at as f64, value);
            prop_assert_eq!(through.observe(point), before.observe(point));
        }
        prop_assert_eq!(through.to_bytes(), before.to_bytes());
    }

    #[test]
    fn no_value_breaks_it(values in prop::collection::vec(prop::num::f64::ANY, 1..300)) {
        let mut novelty = Novelty::default();
        for (at, &value) in values.iter().enumerate() {
            if let Ok(verdict) = novelty.observe(Point::new(START_S + 60.0 * at as f64, value)) {
                prop_assert!((0.0..1.0).contains(&verdict.score), "{:?}", verdict);
            }
        }
        prop_assert!(Novelty::from_bytes(&novelty.to_bytes()).is_ok());
    }

    #[test]
    fn the_unit_does_not_matter(scale in 1e-6..1e6f64) {
        let (mut one, mut other) = (Novelty::default(), Novelty::default());
        for at in 0..400 {
            let value = if at == 390 { 900.0 } else { usual(at) };
            let time_s = START_S + 60.0 * f64::from(at);
            let a = one.observe(Point::new(time_s, value)).unwrap();
            let b = other.observe(Point::new(time_s, scale * value)).unwrap();
            prop_assert!((a.decades - b.decades).abs() < 0.2 || a.reason.is_none(), "{} {}", a.decades, b.decades);
        }
    }
}
