//! Whether there still is a reason, and afterwards whether it helped; pure.

use skep_wire::v1::Step;

/// A throttled group may use a little more than its quota: the kernel hands it out in slices.
const SLACK: f64 = 1.15;

/// Differences below this are noise.
const NOISE_CORES: f64 = 0.05;

/// Whether the cgroup uses more than the limit. One that is starved counts too if it would.
pub fn stands(used_cores: f64, wanted_cores: f64, limit_cores: f64) -> bool {
    used_cores > limit_cores || (used_cores > limit_cores / 2.0 && wanted_cores > limit_cores)
}

/// What became of the cores used under the limit.
pub fn outcome(before: f64, after: f64, limit_cores: f64) -> Step {
    if after > before * 1.1 + NOISE_CORES {
        return Step::Worse;
    }
    let within = after <= limit_cores * SLACK + 0.01;
    let less = after < before || before <= limit_cores;
    if within && less { Step::Improved } else { Step::Unchanged }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_must_still_be_there() {
        for (used, wanted, expected) in
            [(1.0, 1.0, true), (0.5, 0.5, false), (0.3, 1.0, true), (0.1, 1.0, false), (0.0, 0.0, false)]
        {
            assert_eq!(stands(used, wanted, 0.5), expected, "{used} {wanted}");
        }
    }

    #[test]
    fn what_helped_and_what_did_not() {
        for (before, after, expected) in [
            (1.0, 0.5, Step::Improved),
            (1.0, 0.0, Step::Improved),
            (1.0, 0.56, Step::Improved),
            (1.0, 0.8, Step::Unchanged),
            (1.0, 1.0, Step::Unchanged),
            (1.0, 1.3, Step::Worse),
        ] {
            assert_eq!(outcome(before, after, 0.5), expected, "{before} {after}");
        }
    }
}
