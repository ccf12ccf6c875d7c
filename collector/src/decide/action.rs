//! An action, and its row.

use skep_wire::chunk::{Builder, Row};
use skep_wire::v1;

use super::policy::Mode;
use super::state::State;
use crate::detect::finding::Aim;

/// One action on one workload of one node.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// 32 hex digits; also the command's id.
    pub id: String,
    /// Finding that asked for it.
    pub finding: String,
    /// Node it acts on.
    pub node: String,
    /// The node's boot when the finding was raised; `None` when this was read back from a row.
    pub boot: Option<String>,
    /// Target.
    pub workload: String,
    /// Target cgroup.
    pub aim: Aim,
    /// The limit in thousandths of a core.
    pub cpu_millicores: u32,
    /// How long it may stand.
    pub lease_s: u32,
    /// Whether it waits for an operator.
    pub mode: Mode,
    /// Where it stands.
    pub state: State,
    /// When that changed.
    pub changed_us: i64,
    /// When the command was sent; read back from a row of a later state, that row's time.
    pub sent_us: Option<i64>,
    /// When the executor undoes it by itself.
    pub lease_until_us: Option<i64>,
    /// Nothing was changed on the host.
    pub dry_run: bool,
}

/// Who changed an action's state and why.
#[derive(Debug, Clone, Copy)]
pub struct Cause<'a> {
    /// policy, operator name, collector or executor.
    pub actor: &'a str,
    /// One line for people.
    pub detail: &'a str,
}

impl Action {
    /// `name=value`, separated by blanks.
    pub fn parameters(&self) -> String {
        format!("cpu_millicores={} lease_s={}", self.cpu_millicores, self.lease_s)
    }

    /// Whether it counts against the budgets: on its way or in force, and its lease not long over.
    pub fn occupies(&self, now_us: i64) -> bool {
        const GRACE_US: i64 = 300_000_000;
        self.state.stands() && self.lease_until_us.is_none_or(|until_us| now_us < until_us + GRACE_US)
    }

    /// The time of a change made at `now_us`: after the last one, whatever the clock does.
    pub fn later_than_changed(&self, now_us: i64) -> i64 {
        now_us.max(self.changed_us.saturating_add(1))
    }

    /// The target as the executor checks it.
    pub fn target(&self) -> v1::Target {
        v1::Target {
            workload: self.workload.clone(),
            cgroup: self.aim.cgroup.clone(),
            cgroup_id: self.aim.cgroup_id,
            ..v1::Target::default()
        }
    }

    /// Sets the columns of one row of `actions`; the caller ends it.
    pub fn write(&self, row: &mut Builder, cause: Cause<'_>) {
        row.int("time", self.changed_us)
            .text("action", &self.id)
            .text("finding", &self.finding)
            .text("target_node", &self.node)
            .text("workload", &self.workload)
            .text("cgroup", &self.aim.cgroup)
            .int("cgroup_id", self.aim.cgroup_id)
            .text("verb", "throttle")
            .text("parameters", &self.parameters())
            .text("mode", self.mode.as_str())
            .text("state", self.state.as_str())
            .text("actor", cause.actor)
            .text("detail", cause.detail)
            .maybe_int("lease_until", self.lease_until_us)
            .bool("dry_run", self.dry_run);
    }

    /// Reads a row back; `None` for a row that is not about a throttle or lacks what an action needs.
    pub fn read(row: &Row<'_>) -> Option<Self> {
        if row.text("verb")? != "throttle" {
            return None;
        }
        let parameters = row.text("parameters")?;
        let parameter = |name: &str| -> Option<u32> {
            parameters.split_whitespace().find_map(|part| part.strip_prefix(name)?.strip_prefix('='))?.parse().ok()
        };
        let state = State::parse(row.text("state")?)?;
        let changed_us = row.int("time")?;
        Some(Self {
            id: row.text("action")?.to_owned(),
            finding: row.text("finding").unwrap_or_default().to_owned(),
            node: row.text("target_node")?.to_owned(),
            boot: None,
            workload: row.text("workload")?.to_owned(),
            aim: Aim { cgroup: row.text("cgroup")?.to_owned(), cgroup_id: row.int("cgroup_id")? },
            cpu_millicores: parameter("cpu_millicores")?,
            lease_s: parameter("lease_s").unwrap_or(0),
            mode: row.text("mode").and_then(Mode::parse).unwrap_or(Mode::Ask),
            state,
            changed_us,
            sent_us: (state == State::Sent || state.is_executors()).then_some(changed_us),
            lease_until_us: row.int("lease_until"),
            dry_run: row.int("dry_run") == Some(1),
        })
    }
}
