//! Whether what happened may have.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use anyhow::{Result, bail, ensure};
use skep_wire::order;
use skep_wire::v1::{Step, command::Action};

use crate::host::Host;
use crate::log::Log;
use crate::watch::Sight;
use skep_chaos_ground::Figures;
use skep_chaos_ground::{Ground, beside};

/// Budgets of an episode.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Actions that may stand at a time, by the executor.
    pub(crate) concurrent: u64,
    /// Actions that the executor may begin in an hour,
    pub(crate) in_executor: u64,
    /// and that the collector may send.
    pub(crate) in_collector: u64,
}

/// Reasons of refusals, by a piece of their words.
const REASONS: [(&str, &str); 14] = [
    ("carried out or refused before", "refused_replay"),
    ("the command expired", "refused_expired"),
    ("the command is valid for", "refused_valid_too_long"),
    ("clocks of collector and host differ", "refused_clock_skew"),
    ("actions in an hour", "refused_budget"),
    ("actions stand", "refused_budget"),
    ("stands on", "refused_occupied"),
    ("no action", "refused_nothing_stands"),
    ("cannot be undone", "refused_irreversible"),
    ("a lease of", "refused_lease"),
    ("limited to", "refused_limited_already"),
    ("withdrawn", "refused_withdrawn"),
    ("is stopping", "refused_stopping"),
    ("trigger gave no reading", "refused_unreadable"),
];

/// What the host and the executor say.
pub(crate) fn of_the_host(log: &Log, host: &Host, sight: &Sight, limits: Limits, figures: &mut Figures) -> Result<()> {
    count(log, figures);
    figures.most("longest_over_lease_ms", sight.longest_over.as_millis() as u64);
    figures.most("most_at_once", log.most_at_once() as u64);
    ensure!(log.missing().is_none(), "receipt {:?} was never given out", log.missing());

    let begun = log.begun();
    if let Some((action, times)) = begun.iter().find(|(_, times)| **times > 1) {
        bail!("an action was begun {times} times: {}", log.said_of(action));
    }
    let (ran, asked) = (host.ran(), host.asked());
    let (runs, asks): (u64, u64) = (ran.values().sum(), asked.values().sum());
    figures.add("runs", runs);
    figures.add("victims_asked", asks);
    let twice: Vec<_> = ran.iter().chain(&asked).filter(|(_, times)| **times > 1).collect();
    ensure!(twice.is_empty(), "commands that ran twice, or processes that were asked twice: {twice:?}");
    if let Some(action) = ran.keys().find(|action| !log.knows_run(action)) {
        bail!("{action} was run and not ordered, or refused before: {}", log.said_of(action));
    }

    let most = log.most_at_once() as u64;
    ensure!(most <= limits.concurrent, "{most} actions stood at a time, {} may", limits.concurrent);
    let begun = begun.len() as u64;
    ensure!(begun <= limits.in_executor, "{begun} actions were begun in an hour, {} may be", limits.in_executor);
    let sent = log.commands.iter().filter(|seen| !is_word(seen.command.action.as_ref())).count() as u64;
    ensure!(sent <= limits.in_collector, "{sent} actions were sent in an hour, {} may be", limits.in_collector);
    Ok(())
}

fn is_word(action: Option<&Action>) -> bool {
    matches!(action, Some(Action::Undo(_) | Action::Extend(_)))
}

fn count(log: &Log, figures: &mut Figures) {
    for (name, times) in &log.counts {
        figures.add(name, *times);
    }
    figures.add("commands_sent", log.commands.len() as u64);
    for (_, receipt) in log.receipts.values() {
        let name = match receipt.step() {
            Step::Refused => {
                REASONS.iter().find(|(piece, _)| receipt.detail.contains(piece)).map_or("refused_else", |r| r.1)
            }
            Step::Applied => "applied",
            Step::Undone => "undone",
            Step::Done => "done",
            Step::Moot => "moot",
            Step::Failed => "failed",
            Step::Extended => "extended",
            _ => continue,
        };
        figures.add(name, 1);
    }
}

impl Log {
    /// Whether this action is one to run something, and was begun by the executor's word.
    fn knows_run(&self, action: &str) -> bool {
        let ordered = self
            .commands
            .iter()
            .any(|seen| seen.command.id == action && order::verb(seen.command.action.as_ref()) == "run");
        let refused = self
            .receipts
            .values()
            .any(|(_, receipt)| receipt.action_id == action && matches!(receipt.step(), Step::Refused | Step::Moot));
        ordered && !refused
    }
}

/// What the audit chain of the collector that stopped says: it holds, and it has every command.
pub(crate) fn of_the_chain(ground: &Ground, log: &Log, figures: &mut Figures) -> Result<()> {
    let verified = Command::new(beside("skep")?)
        .args(["audit", "verify", "--format", "json"])
        .arg("--data")
        .arg(ground.data())
        .arg("--key")
        .arg(ground.tls("command.pub"))
        .output()?;
    let said = || format!("{}{}", String::from_utf8_lossy(&verified.stdout), String::from_utf8_lossy(&verified.stderr));
    ensure!(verified.status.success(), "skep audit verify: {}", said());
    let mut steps = BTreeSet::new();
    for file in fs::read_dir(ground.data().join("audit"))? {
        let path = file?.path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        for line in fs::read_to_string(path)?.lines() {
            let entry: serde_json::Value = serde_json::from_str(line)?;
            let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            steps.insert((text("subject"), text("step")));
            figures.add("audit_entries", 1);
        }
    }
    for seen in &log.commands {
        let (subject, step) = match &seen.command.action {
            Some(Action::Undo(undo)) => (undo.action_id.clone(), "undo"),
            Some(Action::Extend(extend)) => (extend.action_id.clone(), "extend"),
            _ => (seen.command.id.clone(), "sent"),
        };
        let what = (subject, step.to_owned());
        ensure!(steps.contains(&what), "a command left that is not in the audit chain: {what:?}");
    }
    for (_, receipt) in log.receipts.values().filter(|(_, receipt)| receipt.step() == Step::Applied) {
        let what = (receipt.action_id.clone(), "applied".to_owned());
        let told = || steps.iter().filter(|(subject, _)| *subject == what.0).map(|(_, step)| step).collect::<Vec<_>>();
        let said = log.said_of(&receipt.action_id);
        ensure!(steps.contains(&what), "{what:?} is not in the audit chain, which has {:?}; receipts: {said}", told());
    }
    Ok(())
}

/// What the tables of the collector that stopped say: every act that was begun, once.
pub(crate) fn of_the_tables(ground: &Ground, log: &Log) -> Result<()> {
    const SQL: &str = "SELECT action, count(*) AS rows FROM actions \
        WHERE node = 'a' AND actor = 'executor' AND state = 'applied' GROUP BY action";
    let output = Command::new(beside("skep")?)
        .args(["query", "--format", "json", "--data"])
        .arg(ground.data())
        .arg(SQL)
        .output()?;
    ensure!(output.status.success(), "skep query: {}", String::from_utf8_lossy(&output.stderr));
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)?;
    let rows: BTreeMap<&str, u64> =
        rows.iter().filter_map(|row| Some((row["action"].as_str()?, row["rows"].as_u64()?))).collect();
    let begun = log.begun();
    let wrong: Vec<_> = begun
        .keys()
        .map(|action| (*action, rows.get(action).copied().unwrap_or(0)))
        .filter(|(_, rows)| *rows != 1)
        .collect();
    ensure!(wrong.is_empty(), "acts that were begun, and how many rows say so: {wrong:?}");
    Ok(())
}
