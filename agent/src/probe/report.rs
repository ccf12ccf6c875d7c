//! What this kernel allows, feature by feature.

use std::fmt;

use super::{cost::ProgramCost, error::ProbeError, options::ProbeOptions, probes::Probes, sys};
use crate::error::chain;

/// One thing the agent can or cannot do here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// `cpu`, `syscall`, `tcp`, `process`, or something they stand on.
    pub name: &'static str,
    /// Whether it works.
    pub ok: bool,
    /// What it gives, or why it does not work.
    pub reason: String,
    /// Numbers to go with it, by name.
    pub figures: Vec<(&'static str, u64)>,
}

/// What came of loading the probes: one feature a probe.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProbeReport {
    /// Each probe, and each part of one that is left out.
    pub features: Vec<Feature>,
}

impl ProbeReport {
    /// Whether a feature works; false for one that is not in the report.
    pub fn works(&self, name: &str) -> bool {
        self.features.iter().any(|feature| feature.name == name && feature.ok)
    }

    pub(super) fn add(&mut self, name: &'static str, ok: bool, reason: impl Into<String>) {
        self.features.push(Feature { name, ok, reason: reason.into(), figures: Vec::new() });
    }
}

impl fmt::Display for ProbeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for feature in &self.features {
            let answer = if feature.ok { "yes" } else { "no" };
            write!(f, "{separator}{}: {answer}, {}", feature.name, feature.reason)?;
            separator = "; ";
        }
        Ok(())
    }
}

/// Tries everything once, leaves nothing behind: for `doctor`.
///
/// Cost: loads and unloads the probes; some tenths of a second.
pub fn probe_feature_report() -> Vec<Feature> {
    let mut report = ProbeReport::default();
    let missing = sys::missing_capabilities();
    if missing.is_empty() {
        report.add("capabilities", true, "CAP_BPF and CAP_PERFMON");
    } else {
        report.add("capabilities", false, format!("missing {}", missing.join(" and ")));
    }
    match std::fs::metadata(sys::BTF_PATH) {
        Ok(_) => report.add("btf", true, format!("{} describes the kernel's types", sys::BTF_PATH)),
        Err(error) => report.add("btf", false, format!("{}: {error}", sys::BTF_PATH)),
    }
    match sys::grace_period() {
        Ok(()) => report.add("grace_period", true, "membarrier waits for running probes"),
        Err(error) => report.add("grace_period", false, error.to_string()),
    }
    match Probes::load(&ProbeOptions::default()) {
        Ok((probes, loaded)) => {
            report.features.extend(loaded.features);
            report.features.push(verified(&probes.own_cost()));
        }
        Err(ProbeError::Nothing { report: loaded }) => report.features.extend(loaded.features),
        Err(error) => report.add("probes", false, chain(&error)),
    }
    report.features
}

/// What the programs that were accepted cost the verifier.
fn verified(programs: &[ProgramCost]) -> Feature {
    let counts = programs.iter().map(|program| (program.name, u64::from(program.verified_instructions)));
    let figures: Vec<_> = counts.filter(|(_, verified)| *verified > 0).collect();
    let loaded = programs.len();
    let reason = match figures.iter().map(|(_, verified)| verified).sum::<u64>() {
        0 => format!("{loaded} programs accepted; this kernel does not say after how many instructions"),
        sum => format!("{loaded} programs accepted after {sum} instructions"),
    };
    Feature { name: "verifier", ok: true, reason, figures }
}
