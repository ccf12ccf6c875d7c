//! Why the probes could not do what was asked.

use std::io;

use super::report::ProbeReport;

/// Why the probes could not be loaded or read.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Loading needs privileges this process does not have.
    #[error("missing {}: run as root, or give the program these capabilities", .names.join(" and "))]
    Capabilities {
        /// What is missing, as `CAP_BPF`.
        names: Vec<&'static str>,
    },
    /// The kernel does not describe its types.
    #[error("{path} cannot be read; the kernel must be built with CONFIG_DEBUG_INFO_BTF: {source}")]
    NoBtf {
        /// Where the description should be.
        path: &'static str,
        /// What reading it gave.
        source: io::Error,
    },
    /// The kernel's description of its types makes no sense.
    #[error("the kernel's type information is damaged at byte {offset}")]
    DamagedBtf {
        /// Where it stops making sense.
        offset: usize,
    },
    /// The object could not be loaded into the kernel.
    #[error("the probes' maps cannot be created")]
    Load {
        /// What the loader says.
        #[source]
        source: Box<aya::EbpfError>,
    },
    /// The loader cannot read the kernel's type information.
    #[error("the loader cannot read the kernel's type information")]
    LoaderBtf {
        /// What the loader says.
        #[source]
        source: Box<aya::BtfError>,
    },
    /// The object and the agent were not built from the same source.
    #[error("the object has no map {name}; it was built from another source")]
    NoMap {
        /// Which map.
        name: &'static str,
    },
    /// Not one probe works on this kernel.
    #[error("no probe works on this kernel: {report}")]
    Nothing {
        /// Each probe and why not.
        report: ProbeReport,
    },
    /// A map could not be used.
    #[error("map {name}: {operation} failed")]
    Map {
        /// Which map.
        name: &'static str,
        /// What was tried.
        operation: &'static str,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// A program could not be switched off or on.
    #[error("the probes cannot be switched")]
    Switch {
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// What was handed out before is not safe yet.
    #[error("what the probes counted before is not stored yet")]
    NotSafe,
    /// The kernel would not say when every program that saw the old epoch has returned.
    #[error("membarrier failed; on kernels with nohz_full it is refused")]
    GracePeriod {
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
}
