//! A finding as the policy sees it, and an action's state as it hears of it.

use skep_policy::finding::{is_over, part};
use skep_policy::quorum::Checked;
use skep_policy::{Finding, Heard};

use super::state::State;
use crate::detect::finding;

/// A finding as the policy sees it.
pub fn finding(of: &finding::Finding) -> Finding {
    Finding {
        id: of.id.clone(),
        time_us: of.time_us,
        rule: of.rule.to_string(),
        severity: of.severity,
        coverage: of.coverage,
        title: of.title.clone(),
        node: of.node.clone(),
        boot: of.boot.clone(),
        workload: of.workload.clone(),
        cgroup: of.aim.as_ref().map(|aim| (aim.cgroup.clone(), aim.cgroup_id)),
        process: of.process,
        used_cores: of.used_cores,
        until_over: is_over(&of.evidence) == Some(false),
        part: part(&of.evidence),
        check: Checked::of(&of.evidence),
    }
}

/// What an executor's word means to the policy; `None` for states that are not an executor's.
pub fn heard(state: State) -> Option<Heard> {
    Some(match state {
        State::Applied => Heard::Applied,
        State::Extended => Heard::Extended,
        State::Improved => Heard::Improved,
        State::Unchanged => Heard::Unchanged,
        State::Worse => Heard::Worse,
        State::Undone => Heard::Undone,
        State::Refused => Heard::Refused,
        State::Failed => Heard::Failed,
        State::Moot => Heard::Moot,
        State::Done => Heard::Done,
        State::Observed | State::Pending | State::Rejected | State::Expired | State::Sent => return None,
    })
}
