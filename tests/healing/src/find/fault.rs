//! Faults, and what is to be said of them.

/// What can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A job takes a whole core.
    CpuHog,
    /// Eight times as many threads want to run as there are CPUs.
    RunQueue,
    /// A disk takes a hundred times as long to answer.
    SlowDisk,
    /// A client opens hundreds of connections a second.
    ConnectionStorm,
    /// A service opens files and never closes them.
    FdLeak,
    /// A job fills its disk.
    DiskFilling,
}

impl Fault {
    /// All, in the order they are told of.
    pub(crate) const ALL: [Self; 6] =
        [Self::CpuHog, Self::RunQueue, Self::SlowDisk, Self::ConnectionStorm, Self::FdLeak, Self::DiskFilling];

    /// As it is called in arguments and figures.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CpuHog => "cpu-hog",
            Self::RunQueue => "run-queue",
            Self::SlowDisk => "slow-disk",
            Self::ConnectionStorm => "connection-storm",
            Self::FdLeak => "fd-leak",
            Self::DiskFilling => "disk-filling",
        }
    }

    /// A finding that rests on a series which begins so explains it; one on anything else does not.
    pub(crate) fn series(self) -> &'static [&'static str] {
        match self {
            Self::CpuHog => &["cpu_cores="],
            Self::RunQueue => &["run_queue_length_per_cpu=", "run_queue_delay_"],
            Self::SlowDisk => &["block_latency_"],
            Self::ConnectionStorm => &["connection_attempts_per_s=", "connects_per_s="],
            Self::FdLeak => &["files_used_ratio="],
            Self::DiskFilling => &["disk_used_ratio{"],
        }
    }
}

/// By its name.
pub(crate) fn parse(text: &str) -> Result<Fault, String> {
    Fault::ALL.into_iter().find(|fault| fault.name() == text).ok_or_else(|| {
        let names: Vec<_> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        format!("{text:?} is none of {}", names.join(", "))
    })
}
