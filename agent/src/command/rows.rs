//! Receipts as rows of `actions` and `audit`. Pure.

use skep_wire::chunk::{Builder, ChunkError};
use skep_wire::v1::{self, Command, Step};
use skep_wire::{order, tables};

/// What a command without a mode is taken for.
const DEFAULT_MODE: &str = "ask";

/// One change of state of an action.
#[derive(Debug)]
pub struct Change<'a> {
    /// When, wall clock in microseconds.
    pub time_us: i64,
    /// The action.
    pub action_id: &'a str,
    /// Its new state, as in the table.
    pub state: &'static str,
    /// `executor` or `agent`.
    pub actor: &'static str,
    /// One line for people.
    pub detail: &'a str,
    /// What was asked for, where it could be read.
    pub command: Option<&'a Command>,
    /// Nothing was changed on the host.
    pub dry_run: bool,
    /// When the lease ends.
    pub lease_until_us: Option<i64>,
    /// This node, where no command names one.
    pub node: &'a str,
}

impl<'a> Change<'a> {
    /// A receipt's. `None` for a step of a later revision.
    pub fn of_receipt(receipt: &'a v1::Receipt, node: &'a str) -> Option<Self> {
        Some(Self {
            time_us: receipt.time_us,
            action_id: &receipt.action_id,
            state: state(Step::try_from(receipt.step).ok()?)?,
            actor: "executor",
            detail: &receipt.detail,
            command: receipt.command.as_ref(),
            dry_run: receipt.dry_run,
            lease_until_us: (receipt.lease_until_us != 0).then_some(receipt.lease_until_us),
            node,
        })
    }
}

fn state(step: Step) -> Option<&'static str> {
    match step {
        Step::Unspecified => None,
        Step::Refused => Some("refused"),
        Step::Applied => Some("applied"),
        Step::Improved => Some("improved"),
        Step::Unchanged => Some("unchanged"),
        Step::Worse => Some("worse"),
        Step::Undone => Some("undone"),
        Step::Failed => Some("failed"),
        Step::Moot => Some("moot"),
        Step::Done => Some("done"),
        Step::Extended => Some("extended"),
    }
}

/// One chunk of `actions` and one of `audit`, a row each for every change.
///
/// # Errors
/// [`ChunkError`]: more rows than a chunk holds.
pub fn chunks(changes: &[Change<'_>]) -> Result<Vec<v1::Chunk>, ChunkError> {
    let mut actions = Builder::new(&tables::ACTIONS);
    let mut audit = Builder::new(&tables::AUDIT);
    for change in changes {
        let command = change.command;
        let target = command.and_then(|command| command.target.as_ref());
        let aim = target.filter(|target| !target.cgroup.is_empty());
        let node = command.map_or(change.node, |command| command.node.as_str());
        let verb = order::verb(command.and_then(|command| command.action.as_ref()));
        let parameters = command.map_or_else(String::new, order::parameters);
        actions
            .int("time", change.time_us)
            .text("action", change.action_id)
            .text("finding", command.map_or("", |command| &command.finding))
            .text("target_node", node)
            .text("workload", target.map_or("", |target| &target.workload))
            .maybe_text("cgroup", aim.map(|target| target.cgroup.as_str()))
            .maybe_int("cgroup_id", aim.map(|target| target.cgroup_id))
            .text("verb", verb)
            .text("parameters", &parameters)
            .text("mode", mode(command))
            .text("state", change.state)
            .text("actor", change.actor)
            .text("detail", change.detail)
            .maybe_int("lease_until", change.lease_until_us)
            .bool("dry_run", change.dry_run)
            .end_row()?;
        audit
            .int("time", change.time_us)
            .text("actor", change.actor)
            .text("step", change.state)
            .text("subject", change.action_id)
            .text("target_node", node)
            .text("detail", change.detail)
            .end_row()?;
    }
    Ok([actions.finish(), audit.finish()].into_iter().flatten().collect())
}

fn mode(command: Option<&Command>) -> &str {
    command.map(|command| command.mode.as_str()).filter(|mode| !mode.is_empty()).unwrap_or(DEFAULT_MODE)
}

#[cfg(test)]
mod tests {
    use skep_wire::chunk;
    use skep_wire::v1::command;

    use super::*;

    fn command(action: command::Action) -> Command {
        Command {
            id: "a".repeat(32),
            node: "n1".to_owned(),
            target: Some(v1::Target {
                workload: "cgroup:/x".to_owned(),
                cgroup: "/x".to_owned(),
                cgroup_id: 7,
                ..v1::Target::default()
            }),
            action: Some(action),
            lease_s: 60,
            finding: "f1".to_owned(),
            ..Command::default()
        }
    }

    #[test]
    fn a_receipt_is_a_row_of_actions_and_of_audit() {
        let receipt = v1::Receipt {
            number: 1,
            time_us: 5,
            action_id: "a".repeat(32),
            step: Step::Applied.into(),
            detail: "quota 25000 of 100000".to_owned(),
            command: Some(command(command::Action::Throttle(v1::Throttle { cpu_millicores: 250 }))),
            dry_run: false,
            lease_until_us: 65,
            journal_us: 1,
        };
        let chunks = chunks(&[Change::of_receipt(&receipt, "n1").unwrap()]).unwrap();
        for chunk in &chunks {
            chunk::check(chunk, tables::find(&chunk.table).unwrap()).unwrap();
        }
        let row = chunk::rows(&chunks[0]).next().unwrap();
        assert_eq!(row.text("state"), Some("applied"));
        assert_eq!(row.text("parameters"), Some("cpu_millicores=250 lease_s=60"));
        assert_eq!(row.text("cgroup"), Some("/x"));
        assert_eq!(row.int("lease_until"), Some(65));
        let row = chunk::rows(&chunks[1]).next().unwrap();
        assert_eq!((row.text("step"), row.text("subject")), (Some("applied"), Some(receipt.action_id.as_str())));
    }

    #[test]
    fn a_receipt_of_an_unreadable_command_has_a_row_too() {
        let receipt = v1::Receipt { number: 1, step: Step::Refused.into(), ..v1::Receipt::default() };
        let chunks = chunks(&[Change::of_receipt(&receipt, "n1").unwrap()]).unwrap();
        assert_eq!(chunk::rows(&chunks[0]).next().unwrap().text("target_node"), Some("n1"));
        let later = v1::Receipt { step: 99, ..v1::Receipt::default() };
        assert!(Change::of_receipt(&later, "n1").is_none());
    }
}
