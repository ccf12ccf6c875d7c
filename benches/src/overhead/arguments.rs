//! What the caller may choose.

/// How much is measured.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct OverheadArguments {
    /// Rounds; each measures every configuration once
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,
    /// Only this workload; may be given again
    #[arg(long, value_name = "NAME")]
    pub(crate) workload: Vec<String>,
    /// Leave the comparison with bpftrace out
    #[arg(long)]
    pub(crate) no_bpftrace: bool,
    /// A folder on a real disk, for the direct reads
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    pub(crate) disk: std::path::PathBuf,
}
