//! What this kernel allows, feature by feature.

use std::fmt;

use super::{error::ProbeError, options::ProbeOptions, probes::Probes, sys};
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
        self.features.push(Feature { name, ok, reason: reason.into() });
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
        Ok((_, loaded)) | Err(ProbeError::Nothing { report: loaded }) => report.features.extend(loaded.features),
        Err(error) => report.add("probes", false, chain(&error)),
    }
    report.features
}
