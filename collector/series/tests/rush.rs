//! What fills up while one looks on.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use skep_series::Point;
use skep_series::limit::NoSkill;
use skep_series::rush::Rush;

/// What is told after each window of ten seconds.
fn told(values: impl Iterator<Item = f64>) -> Vec<Result<f64, NoSkill>> {
    let mut rush = Rush::new(10.0);
    let told = values.enumerate().map(|(window, value)| {
        rush.observe(Point::new(10.0 * window as f64, value)).expect("a point");
        rush.until(1.0).map(|until| until.days * 86_400.0)
    });
    told.collect()
}

#[test]
fn what_fills_is_told_after_eight_windows_and_is_right() {
    let told = told((0..20).map(|window| 0.5 + 0.01 * f64::from(window)));
    assert!(told[..7].iter().all(|told| *told == Err(NoSkill::TooYoung)), "{told:?}");
    for (window, told) in told.iter().enumerate().skip(7) {
        let left_s = (0.5 - 0.01 * window as f64) / 0.001;
        assert!(told.is_ok_and(|seconds| (seconds - left_s).abs() < 1.0), "{window}: {told:?}");
    }
}

#[test]
fn what_begins_to_fill_after_a_quiet_time_is_told_within_a_minute_and_a_half() {
    let told = told((0..60).map(|window| 0.5 + 0.01 * f64::from((window - 40).max(0))));
    assert!(told[..40].iter().all(Result::is_err), "{told:?}");
    assert!(told[40..50].iter().any(Result::is_ok), "{told:?}");
}

#[test]
fn what_takes_long_is_let_be() {
    let told = told((0..40).map(|window| 0.5 + 0.000_01 * f64::from(window)));
    assert!(told.iter().all(Result::is_err), "{told:?}");
}
