//! Forecasts, limits, levels and health on series whose truth is known.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use skep_series::Point;
use skep_series::forecast::Forecast;
use skep_series::health::{Part, health};
use skep_series::level::{Bounds, Level, Levels};
use skep_series::limit::{Limit, NoSkill};
use skep_series::tail::Side;

const STEP_S: f64 = 300.0;
const DAY_STEPS: u32 = 288;
const DAY_S: f64 = 86_400.0;

fn noise(at: u32) -> f64 {
    let mut bits = at.wrapping_mul(0x9e37_79b9) ^ 0x5bd1_e995;
    bits = (bits ^ (bits >> 15)).wrapping_mul(0x85eb_ca6b);
    bits = (bits ^ (bits >> 13)).wrapping_mul(0xc2b2_ae35);
    f64::from(bits ^ (bits >> 16)) / f64::from(u32::MAX) - 0.5
}

fn forecast(steps: u32, value: impl Fn(u32) -> f64) -> Forecast {
    let mut forecast = Forecast::new(STEP_S);
    for at in 0..steps {
        assert!(forecast.observe(Point::new(STEP_S * f64::from(at), value(at))).unwrap());
    }
    forecast
}

#[test]
fn the_course_of_a_day_is_learned() {
    let course =
        |at: u32| 100.0 + 50.0 * (f64::from(at % DAY_STEPS) / f64::from(DAY_STEPS) * std::f64::consts::TAU).sin();
    let steps = 20 * DAY_STEPS + 40;
    let forecast = forecast(steps, |at| course(at) + noise(at));
    let in_6h = forecast.outlooks().nth(2).unwrap();
    let comes = course(steps - 1 + 72);
    assert!((in_6h.value - comes).abs() < 5.0, "{in_6h:?}, {comes} comes");
    assert!(in_6h.skill.unwrap() > 0.8);
    let (from, to) = in_6h.within_95.unwrap();
    assert!(from < comes && comes < to && to - from < 40.0, "{in_6h:?}");
}

#[test]
fn a_random_walk_has_no_skill_and_honest_bounds() {
    let mut walk = vec![0.0];
    for at in 0..4000 {
        walk.push(walk[walk.len() - 1] + noise(at));
    }
    let mut forecast = Forecast::new(STEP_S);
    let (mut inside, mut judged) = (0, 0);
    for (at, &value) in walk.iter().enumerate().take(3900) {
        forecast.observe(Point::new(STEP_S * at as f64, value)).unwrap();
        if let (Some((from, to)), true) = (forecast.outlooks().nth(1).unwrap().within_95, at > 1000) {
            judged += 1;
            inside += usize::from((from..=to).contains(&walk[at + 12]));
        }
    }
    let covered = f64::from(inside as u32) / f64::from(judged);
    assert!((0.9..0.99).contains(&covered), "{covered}");
    assert!(forecast.outlooks().all(|outlook| outlook.skill.is_none_or(|skill| skill < 0.1)));
}

#[test]
fn too_young_a_forecast_claims_nothing() {
    let forecast = forecast(50, f64::from);
    assert!(forecast.outlooks().all(|outlook| outlook.skill.is_none() && outlook.within_95.is_none()));
    assert_eq!(Forecast::new(STEP_S).outlooks().count(), 0);
}

#[test]
fn a_disk_that_fills_steadily_is_full_in_time() {
    let mut limit = Limit::default();
    // One percent a day, from a fifth, with some noise; two weeks by the minute.
    for minute in 0..14 * 1440 {
        let days = f64::from(minute) / 1440.0;
        limit.observe(Point::new(60.0 * f64::from(minute), 0.2 + 0.01 * days + 0.0005 * noise(minute))).unwrap();
    }
    let until = limit.until(1.0).unwrap();
    assert!((until.days - 66.0).abs() < 6.0, "{until:?}");
    assert!(until.earliest_days <= until.days && until.latest_days.unwrap() >= until.days);
    assert!(until.earliest_days > 40.0, "{until:?}");
}

#[test]
fn a_disk_that_fills_within_the_hour_is_told_by_the_last_minutes() {
    let mut limit = Limit::default();
    for minute in 0..3000_u32 {
        let filling = f64::from(minute.saturating_sub(2960)) * 0.005;
        limit.observe(Point::new(60.0 * f64::from(minute), 0.5 + filling)).unwrap();
    }
    let until = limit.until(1.0).unwrap();
    let hours = until.days * 24.0;
    assert!((0.5..2.5).contains(&hours), "{until:?}");
}

#[test]
fn a_disk_that_does_not_fill_is_not_said_to() {
    let mut quiet = Limit::default();
    let mut sawtooth = Limit::default();
    let mut emptying = Limit::default();
    for minute in 0..14 * 1440 {
        let time_s = 60.0 * f64::from(minute);
        quiet.observe(Point::new(time_s, 0.5)).unwrap();
        // Fills and is cleaned every two days.
        sawtooth.observe(Point::new(time_s, 0.3 + 0.4 * f64::from(minute % 2880) / 2880.0)).unwrap();
        emptying.observe(Point::new(time_s, 0.9 - 0.00001 * f64::from(minute))).unwrap();
    }
    assert_eq!(quiet.until(1.0), Err(NoSkill::NotNearing));
    assert_eq!(emptying.until(1.0), Err(NoSkill::NotNearing));
    if let Ok(until) = sawtooth.until(1.0) {
        assert!(until.watched_days < 1.0, "only the last hour may think so: {until:?}");
    }
    assert_eq!(Limit::default().until(1.0), Err(NoSkill::TooYoung));
}

#[test]
fn nothing_is_said_of_times_too_far_ahead() {
    let mut limit = Limit::default();
    for minute in 0..120_u32 {
        limit.observe(Point::new(60.0 * f64::from(minute), 0.2 + 1e-6 * f64::from(minute))).unwrap();
    }
    assert_eq!(limit.until(1.0), Err(NoSkill::TooFar));
    assert!(limit.until(0.2002).is_ok());
    assert!(limit.until(0.2002).unwrap().days < 120.0 * 60.0 / DAY_S);
}

fn levels(before: impl IntoIterator<Item = f64>, value: f64, bounds: &Bounds) -> Level {
    let mut levels = Levels::default();
    let mut at = 0.0;
    for value in before {
        at += 60.0;
        levels.observe(Point::new(at, value), bounds).unwrap();
    }
    levels.observe(Point::new(at + 60.0, value), bounds).unwrap().unwrap()
}

#[test]
fn what_is_far_from_the_last_hour_is_far_every_time() {
    let bounds = Bounds { least_spread: 0.5, least_spread_ratio: 0.01, limit: None };
    let every_tenth = |at: u32| if at.is_multiple_of(10) { 500.0 } else { 100.0 + noise(at) };
    let level = levels((0..600).map(every_tenth), 500.0, &bounds);
    assert!(level.far && level.seen == 6 && level.of == 60, "{level:?}");
    let (from, to) = level.expected();
    assert!(from < 100.0 && to > 100.0 && to < 110.0);
    let level = levels((0..60).map(|_| 100.0), 100.4, &bounds);
    assert!(!level.far, "below the floor nothing matters: {level:?}");
}

#[test]
fn a_limit_is_a_limit_on_its_side() {
    let above = Bounds { least_spread: 1.0, least_spread_ratio: 0.0, limit: Some((Side::Above, 0.9)) };
    let below = Bounds { limit: Some((Side::Below, 0.1)), ..above };
    let steady = || (0..60).map(|_| 0.5);
    assert!(levels(steady(), 0.95, &above).over_limit && !levels(steady(), 0.85, &above).over_limit);
    assert!(levels(steady(), 0.05, &below).over_limit && !levels(steady(), 0.95, &below).over_limit);
}

fn part(name: &'static str, value: Option<f64>, weight: f64) -> Part {
    Part { name, value, good: 0.5, bad: 1.0, weight }
}

#[test]
fn health_explains_every_point_that_is_missing() {
    let parts = [part("disk", Some(0.95), 0.8), part("memory", Some(0.75), 0.5), part("cpu", Some(0.2), 0.5)];
    let all = health(&parts);
    assert!((all.score - 100.0 * (1.0 - 0.72) * (1.0 - 0.25)).abs() < 1e-9);
    let missing: f64 = all.shares.iter().map(|share| share.points).sum();
    assert!((missing - (100.0 - all.score)).abs() < 1e-9);
    assert_eq!(all.shares[0].part.name, "disk");
    assert_eq!(all.shares[2].points, 0.0);
    let mut turned = parts;
    turned.reverse();
    assert!((health(&turned).score - all.score).abs() < 1e-9);
}

#[test]
fn what_was_not_measured_takes_nothing_and_is_named() {
    let all = health(&[part("disk", None, 0.5), part("memory", Some(f64::NAN), 0.25), part("cpu", Some(0.5), 0.25)]);
    assert_eq!((all.score, all.known), (100.0, 0.25));
    assert_eq!(health(&[]).score, 100.0);
    let falling = Part { name: "available", value: Some(0.1), good: 0.5, bad: 0.0, weight: 1.0 };
    assert!((health(&[falling]).score - 20.0).abs() < 1e-9);
}
