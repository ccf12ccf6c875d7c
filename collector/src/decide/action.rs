//! An action, and its row.

use skep_policy::Mode;
use skep_wire::chunk::{Builder, Row};
use skep_wire::{order, v1};

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
    /// Target cgroup, where it is aimed at one.
    pub aim: Option<Aim>,
    /// What is to be done: action, process or unit, lease and trigger. The rest is filled in when it is sent.
    pub wanted: v1::Command,
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
        order::parameters(&self.wanted)
    }

    /// As in the table.
    pub fn verb(&self) -> &'static str {
        order::verb(self.wanted.action.as_ref())
    }

    /// The time of a change made at `now_us`: after the last one, whatever the clock does.
    pub fn later_than_changed(&self, now_us: i64) -> i64 {
        now_us.max(self.changed_us.saturating_add(1))
    }

    /// The target as the executor checks it.
    pub fn target(&self) -> v1::Target {
        let aim = self.aim.clone().unwrap_or_else(|| Aim { cgroup: String::new(), cgroup_id: 0 });
        v1::Target {
            workload: self.workload.clone(),
            cgroup: aim.cgroup,
            cgroup_id: aim.cgroup_id,
            ..self.wanted.target.clone().unwrap_or_default()
        }
    }

    /// Sets the columns of one row of `actions`; the caller ends it.
    pub fn write(&self, row: &mut Builder, cause: Cause<'_>) {
        row.int("time", self.changed_us)
            .text("action", &self.id)
            .text("finding", &self.finding)
            .text("target_node", &self.node)
            .text("workload", &self.workload)
            .maybe_text("cgroup", self.aim.as_ref().map(|aim| aim.cgroup.as_str()))
            .maybe_int("cgroup_id", self.aim.as_ref().map(|aim| aim.cgroup_id))
            .text("verb", self.verb())
            .text("parameters", &self.parameters())
            .text("mode", self.mode.as_str())
            .text("state", self.state.as_str())
            .text("actor", cause.actor)
            .text("detail", cause.detail)
            .maybe_int("lease_until", self.lease_until_us)
            .bool("dry_run", self.dry_run);
    }

    /// Reads a row back; `None` for a row of an action that is not known here or that lacks what an action needs.
    pub fn read(row: &Row<'_>) -> Option<Self> {
        let verb = row.text("verb").filter(|verb| order::VERBS.contains(verb))?;
        let wanted = order::read(verb, row.text("parameters")?).ok()?;
        let aim = row.text("cgroup").zip(row.int("cgroup_id"));
        let state = State::parse(row.text("state")?)?;
        let changed_us = row.int("time")?;
        Some(Self {
            id: row.text("action")?.to_owned(),
            finding: row.text("finding").unwrap_or_default().to_owned(),
            node: row.text("target_node")?.to_owned(),
            boot: None,
            workload: row.text("workload")?.to_owned(),
            aim: aim.map(|(cgroup, cgroup_id)| Aim { cgroup: cgroup.to_owned(), cgroup_id }),
            wanted,
            mode: row.text("mode").and_then(Mode::parse).unwrap_or(Mode::Ask),
            state,
            changed_us,
            sent_us: (state == State::Sent || state.is_executors()).then_some(changed_us),
            lease_until_us: row.int("lease_until"),
            dry_run: row.int("dry_run") == Some(1),
        })
    }
}
