//! What the policy needs to know of a finding.

use serde::{Deserialize, Serialize};

use crate::quorum::Checked;

/// How bad it would be if it is what it looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// For the record.
    Info,
    /// Worth knowing in company of others.
    Low,
    /// Worth a look today.
    Medium,
    /// Worth a look now.
    High,
    /// Almost never benign.
    Critical,
}

impl Severity {
    /// Names, as in the table and in policies.
    pub const CHOICES: [(&'static str, Self); 5] = [
        ("info", Self::Info),
        ("low", Self::Low),
        ("medium", Self::Medium),
        ("high", Self::High),
        ("critical", Self::Critical),
    ];

    /// By its name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::CHOICES.iter().find(|(name, _)| *name == text).map(|(_, severity)| *severity)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        Self::CHOICES[self as usize].0
    }

    /// One step less.
    pub fn lowered(self) -> Self {
        Self::CHOICES[(self as usize).saturating_sub(1)].1
    }
}

/// A finding, as the policy sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Its id.
    pub id: String,
    /// When it was raised, microseconds since the epoch.
    pub time_us: i64,
    /// Rule or signal.
    pub rule: String,
    /// How bad.
    pub severity: Severity,
    /// 0..1: how much of what happened was seen.
    pub coverage: f64,
    /// One line for people.
    pub title: String,
    /// Node it concerns.
    pub node: String,
    /// That node's boot when it happened; empty where it is not known.
    pub boot: String,
    /// Whom it is about.
    pub workload: String,
    /// Cgroup and its inode, where an action could aim.
    pub cgroup: Option<(String, i64)>,
    /// Process id and start, where it is about one.
    pub process: Option<(i64, i64)>,
    /// Cores the workload used, where that is what it is about.
    pub used_cores: Option<f64>,
    /// Its end is said: until then it is there.
    pub until_over: bool,
    /// Which of several things about the workload it is, where there are several: a check's name.
    #[serde(default)]
    pub part: String,
    /// The check it is about, where it is about one.
    pub check: Option<Checked>,
}

/// In front of what a finding that has an end says of it, among its evidence.
const STATE: &str = "state=";

/// What it says at its end.
const OVER: &str = "over";

/// What a finding's evidence says of its end: `Some(true)` where it is over, `Some(false)` where that is still to be said,
/// `None` where it never is.
pub fn is_over<T: AsRef<str>>(evidence: &[T]) -> Option<bool> {
    evidence.iter().find_map(|line| line.as_ref().strip_prefix(STATE)).map(|state| state == OVER)
}

/// In front of the check's name among its evidence.
const CHECK: &str = "check=";

/// Which of several things about a workload a finding's evidence is about; empty where there is one.
pub fn part<T: AsRef<str>>(evidence: &[T]) -> String {
    evidence.iter().find_map(|line| line.as_ref().strip_prefix(CHECK)).unwrap_or_default().to_owned()
}

impl Finding {
    /// What kind of workload it is about: the word in front of the colon.
    pub fn class(&self) -> &str {
        class(&self.workload)
    }

    /// Whether the cgroup it is about holds everything else too.
    pub fn is_in_root(&self) -> bool {
        self.cgroup.as_ref().is_some_and(|(path, _)| path.trim_matches('/').is_empty())
    }
}

/// unit, pod, container, cgroup, session or host.
pub fn class(workload: &str) -> &str {
    workload.split_once(':').map_or(workload, |(class, _)| class)
}
