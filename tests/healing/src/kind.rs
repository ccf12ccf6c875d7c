//! Kinds of faults.

/// What can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// A service lives and answers nobody.
    HungUnit,
    /// A service ends soon after each start, for what lies in its folder.
    CrashLoop,
    /// A service runs out of file descriptors.
    FdLeak,
    /// A service runs out of memory and is aborted.
    MemoryLeak,
    /// A new release answers with errors.
    BadRollout,
    /// A service fills its file system.
    DiskFilling,
    /// A service that was broken into runs a shell for somebody outside.
    ReverseShell,
    /// A service that was broken into tries somebody's ports.
    PortScan,
    /// A batch job takes a whole core.
    CpuHog,
    /// A service that ends soon after each start, whatever is done: people are to be told.
    LostCause,
}

impl Kind {
    /// All, in the order they are told of.
    pub(crate) const ALL: [Self; 10] = [
        Self::HungUnit,
        Self::CrashLoop,
        Self::FdLeak,
        Self::MemoryLeak,
        Self::BadRollout,
        Self::DiskFilling,
        Self::ReverseShell,
        Self::PortScan,
        Self::CpuHog,
        Self::LostCause,
    ];

    /// As it is called in arguments and figures.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::HungUnit => "hung-unit",
            Self::CrashLoop => "crash-loop",
            Self::FdLeak => "fd-leak",
            Self::MemoryLeak => "memory-leak",
            Self::BadRollout => "bad-rollout",
            Self::DiskFilling => "disk-filling",
            Self::ReverseShell => "reverse-shell",
            Self::PortScan => "port-scan",
            Self::CpuHog => "cpu-hog",
            Self::LostCause => "lost-cause",
        }
    }

    /// As many as make a hundred that can be repaired.
    pub(crate) fn usual_rounds(self) -> u16 {
        match self {
            Self::HungUnit => 12,
            Self::LostCause => 2,
            _ => 11,
        }
    }

    /// Whether it is a service of the box.
    pub(crate) fn is_service(self) -> bool {
        self != Self::CpuHog
    }

    /// Whether repairing it may restart the service.
    pub(crate) fn restarts(self) -> bool {
        !matches!(self, Self::ReverseShell | Self::PortScan | Self::CpuHog | Self::DiskFilling)
    }
}

/// By its name.
pub(crate) fn parse(text: &str) -> Result<Kind, String> {
    Kind::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
        let names: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        format!("{text:?} is none of {}", names.join(", "))
    })
}
