//! `cargo xtask fuzz`: nonsense, half sense and almost sense for what reads others' bytes, for as long as one likes.

use anyhow::{Result, ensure};

use crate::run::{cargo, checked};
use crate::setup;

/// The only target so far: a command from its frame on the executor's socket to the verdict, and what is read on the way back.
const ACT: &str = "engine::tests::fuzz::nothing_that_is_not_in_order_gets_past";

/// Runs it for so many seconds of CPU, from a seed.
pub(crate) fn run(name: &str, seconds: u64, seed: u64) -> Result<()> {
    ensure!(name == "act", "{name:?} is nothing that can be fuzzed; act is");
    setup::ensure_build()?;
    let mut fuzz = cargo();
    fuzz.args(["test", "--quiet", "--package", "skep-executor", "--lib", "--", "--exact", ACT, "--nocapture"]);
    checked(fuzz.env("SKEP_FUZZ_CPU_S", seconds.to_string()).env("SKEP_FUZZ_SEED", seed.to_string()))
}
