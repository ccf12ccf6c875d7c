//! State as bytes: what is damaged is refused, with a reason.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use skep_series::forecast::Forecast;
use skep_series::level::{Bounds, Levels};
use skep_series::limit::Limit;
use skep_series::state::StateError;
use skep_series::{Novelty, Point};

fn learned() -> Novelty {
    let mut novelty = Novelty::default();
    for at in 0..500 {
        novelty.observe(Point::new(60.0 * f64::from(at), f64::from(at * 7919 % 1000))).unwrap();
    }
    novelty
}

#[test]
fn every_wrong_bit_is_noticed() {
    let bytes = learned().to_bytes();
    for at in (0..bytes.len()).step_by(97).chain(0..20) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(Novelty::from_bytes(&damaged).is_err(), "byte {at}");
    }
}

#[test]
fn every_cut_is_noticed() {
    let bytes = learned().to_bytes();
    for length in (0..bytes.len()).step_by(101) {
        assert!(matches!(Novelty::from_bytes(&bytes[..length]), Err(StateError::Length { .. })), "{length} bytes");
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let bytes = learned().to_bytes();
    let mut other = bytes.clone();
    other[4] = 9;
    assert_eq!(Novelty::from_bytes(&other), Err(StateError::Version { found: 9 }));
    assert_eq!(Novelty::from_bytes(b"something else entirely"), Err(StateError::Magic));
    let error = Levels::from_bytes(&bytes).unwrap_err();
    assert_eq!(error.to_string(), "state of kind 1 where kind 2 belongs");
}

#[test]
fn the_other_parts_survive_a_restart_too() {
    let (mut levels, mut limit, mut forecast) = (Levels::default(), Limit::default(), Forecast::new(300.0));
    let bounds = Bounds { least_spread: 0.1, least_spread_ratio: 0.0, limit: None };
    for at in 0..2000 {
        let point = Point::new(300.0 * f64::from(at), f64::from(at * 7919 % 1000));
        levels.observe(point, &bounds).unwrap();
        limit.observe(point).unwrap();
        forecast.observe(point).unwrap();
    }
    assert_eq!(Levels::from_bytes(&levels.to_bytes()).unwrap(), levels);
    let again = Limit::from_bytes(&limit.to_bytes()).unwrap();
    assert_eq!((again.to_bytes(), again.until(2000.0)), (limit.to_bytes(), limit.until(2000.0)));
    // Steps that were not seen are not numbers, which equal nothing.
    let again = Forecast::from_bytes(&forecast.to_bytes()).unwrap();
    assert_eq!(again.to_bytes(), forecast.to_bytes());
    assert!(again.outlooks().eq(forecast.outlooks()));
    assert!(forecast.bytes() <= 10 * 1024, "{} bytes", forecast.bytes());
}

#[test]
fn the_checksum_is_castagnolis() {
    assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
}
