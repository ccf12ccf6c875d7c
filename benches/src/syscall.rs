//! What the probes add to the cheapest system call.

use std::time::Instant;

use anyhow::Result;
use serde_json::{Map, Value, json};
use skep_agent::probe::{ProbeOptions, Probes};

use crate::{best, rounded};

const CALLS: u32 = 1_000_000;
const ROUNDS: usize = 7;

/// Nanoseconds of one `getppid`, without probes and with all of them, in turn.
pub(crate) fn run() -> Result<Map<String, Value>> {
    let (mut bare, mut probed) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(nanoseconds_a_call());
        let (_probes, _report) = Probes::load(&ProbeOptions::default())?;
        probed.push(nanoseconds_a_call());
    }
    let (bare, probed) = (best(&bare), best(&probed));
    let mut figures = Map::new();
    figures.insert("getppid_bare_ns".to_owned(), json!(bare));
    figures.insert("getppid_probed_ns".to_owned(), json!(probed));
    figures.insert("added_ns".to_owned(), json!(rounded(probed - bare)));
    Ok(figures)
}

fn nanoseconds_a_call() -> f64 {
    let start = Instant::now();
    for _ in 0..CALLS {
        std::hint::black_box(rustix::process::getppid());
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
}
