//! Microseconds a point, and bytes a series.

use std::hint::black_box;
use std::time::Instant;

use serde_json::{Value, json};
use skep_series::forecast::Forecast;
use skep_series::level::{Bounds, Levels};
use skep_series::limit::Limit;
use skep_series::{Novelty, Point};

const POINTS: u32 = 200_000;

/// A day's course, noise of a simple generator, and now and then a step.
fn value(at: u32) -> f64 {
    let noise =
        f64::from(at.wrapping_mul(2_654_435_761).rotate_left(13).wrapping_mul(40_503) >> 8) / f64::from(1 << 24);
    let day = (f64::from(at % 1440) / 1440.0 * std::f64::consts::TAU).sin();
    100.0 + 20.0 * day + 5.0 * noise + f64::from(at / 50_000)
}

fn per_point(mut observe: impl FnMut(Point)) -> f64 {
    let begun = Instant::now();
    for at in 0..POINTS {
        observe(Point::new(1.7e9 + 60.0 * f64::from(at), value(at)));
    }
    begun.elapsed().as_secs_f64() * 1e6 / f64::from(POINTS)
}

/// Each part by itself, one series after the other.
pub(crate) fn measure() -> Value {
    let (mut novelty, mut levels, mut limit) = (Novelty::default(), Levels::default(), Limit::default());
    let mut forecast = Forecast::new(60.0);
    let bounds = Bounds { least_spread: 0.1, least_spread_ratio: 0.01, limit: None };
    let novelty_us = per_point(|point| {
        black_box(novelty.observe(point).ok());
    });
    let level_us = per_point(|point| {
        black_box(levels.observe(point, &bounds).ok());
    });
    let forecast_us = per_point(|point| {
        black_box(forecast.observe(point).ok());
    });
    let limit_us = per_point(|point| {
        black_box(limit.observe(point).ok());
    });
    json!({
        "us_a_point": { "novelty": novelty_us, "level": level_us, "forecast": forecast_us, "limit": limit_us },
        "bytes_a_series": {
            "novelty": novelty.bytes(),
            "level": size_of::<Levels>(),
            "forecast": forecast.bytes(),
            "limit": size_of::<Limit>(),
        },
        "state_bytes": {
            "novelty": novelty.to_bytes().len(),
            "level": levels.to_bytes().len(),
            "forecast": forecast.to_bytes().len(),
            "limit": limit.to_bytes().len(),
        },
    })
}
