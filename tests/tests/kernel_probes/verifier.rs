//! What it takes the kernel to accept the programs.

use skep_agent::probe::ProbeOptions;

use crate::support::Watch;

/// The kernel refuses what takes more than a million instructions to verify, and older ones follow more ways than this
/// one. Whatever comes near the bound here is over it there, and makes loading slow everywhere.
const MOST: u32 = 100_000;

#[test]
fn no_program_is_hard_to_verify() {
    for untyped in [false, true] {
        let watch = Watch::start(&ProbeOptions { untyped, ..ProbeOptions::default() });
        for program in watch.cost() {
            let instructions = program.verified_instructions;
            println!("untyped {untyped}: {} {instructions}", program.name);
            assert!(instructions < MOST, "{}: {instructions} instructions to verify", program.name);
        }
    }
}
