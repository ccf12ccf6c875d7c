use ed25519_dalek::SigningKey;
use prost::Message;
use skep_wire::chunk::{self, Builder};
use skep_wire::envelope::Origin;
use skep_wire::{tables, v1};

use super::*;
use crate::decide::state::State;
use crate::decide::{Policy, Refusal};

const SECOND: i64 = 1_000_000;

const NODE: &str = "n1";

fn origin(node: &str) -> Origin {
    Origin { node: node.to_owned(), boot: "boot-1".to_owned(), stream: "s".to_owned(), seq: 1 }
}

fn responder_with(policy: &str) -> Responder {
    let policy = Policy::parse(policy).unwrap();
    Responder::new(Setup { policy, key: SigningKey::from_bytes(&[3; 32]), rules: rules(), seed: [5; 32] })
}

/// The rules that come with skep.
fn rules() -> skep_rules::detector::Detector {
    skep_rules::detector::Detector::new(&mut skep_rules::load::Loaded::pack()).unwrap()
}

fn responder() -> Responder {
    responder_with(Policy::default_text())
}

fn batch(chunks: impl IntoIterator<Item = v1::Chunk>) -> v1::Batch {
    let chunks: Vec<_> = chunks.into_iter().collect();
    for chunk in &chunks {
        chunk::check(chunk, tables::find(&chunk.table).unwrap()).unwrap();
    }
    v1::Batch { sealed_us: 0, chunks, deliveries: Vec::new() }
}

/// A `cpu` chunk of one window: workload and cores.
fn cpu(time_us: i64, coverage: f64, usage: &[(&str, f64)]) -> v1::Chunk {
    let mut rows = Builder::new(&tables::CPU);
    // The idle task is never anybody's use.
    for (pid, (workload, cores)) in [("host", 2.0)].iter().chain(usage).enumerate() {
        let cgroup = workload.strip_prefix("cgroup:").unwrap_or("/");
        rows.int("time", time_us).float("window_s", 10.0).int("pid", pid as i64).int("start_ns", 1).text("comm", "c");
        rows.text("workload", workload).text("cgroup", cgroup).int("cgroup_id", 77).text("attribution", "exact");
        rows.int("on_cpu_ns", (cores * 10e9) as i64).int("slices", 1).int("voluntary_switches", 0);
        rows.int("involuntary_switches", 0).int("run_queue_delay_count", 0).int("run_queue_delay_sum_ns", 0);
        rows.histogram("run_queue_delay", []).int("migrations", 0).int("off_cpu_count", 0).int("off_cpu_sum_ns", 0);
        rows.histogram("off_cpu", []).float("coverage", coverage);
        rows.end_row().unwrap();
    }
    rows.finish().unwrap()
}

fn exec(pid: i64, exe: &str, argv: &[&str]) -> v1::Chunk {
    let mut rows = Builder::new(&tables::PROCESSES);
    rows.int("time", 5).text("event", "exec").int("pid", pid).int("start_ns", 9).text("comm", "x").text("exe", exe);
    rows.text("workload", "unit:x.service").text("cgroup", "/x").int("cgroup_id", 7).text("attribution", "exact");
    rows.int("parent_pid", 1).text("parent_exe", "/usr/bin/bash").text("filename", exe).text_list("argv", argv);
    rows.bool("argv_truncated", false).text_list::<&str>("flags", &[]);
    rows.end_row().unwrap();
    rows.finish().unwrap()
}

/// What the agent makes of a receipt.
fn outcome(action: &str, state: &str, parameters: &str) -> v1::Chunk {
    let mut rows = Builder::new(&tables::ACTIONS);
    rows.int("time", 5).text("action", action).text("finding", "f").text("target_node", NODE);
    rows.text("workload", "cgroup:/busy").text("cgroup", "/busy").int("cgroup_id", 77).text("verb", "throttle");
    rows.text("parameters", parameters).text("mode", "ask").text("state", state).text("actor", "executor");
    rows.text("detail", "because").bool("dry_run", false);
    rows.end_row().unwrap();
    rows.finish().unwrap()
}

/// What the agent makes of the refusal of a command to undo `action`: the row's id is the command's own.
fn undo_outcome(action: &str, state: &str) -> v1::Chunk {
    let mut rows = Builder::new(&tables::ACTIONS);
    rows.int("time", 5).text("action", &"e".repeat(32)).text("finding", "f").text("target_node", NODE);
    rows.text("workload", "cgroup:/busy").text("cgroup", "/busy").int("cgroup_id", 77).text("verb", "undo");
    rows.text("parameters", &format!("action={action}")).text("mode", "ask").text("state", state);
    rows.text("actor", "executor").text("detail", "because").bool("dry_run", false);
    rows.end_row().unwrap();
    rows.finish().unwrap()
}

const THROTTLE: &str = "cpu_millicores=500 lease_s=600";

/// Values of a text column over all chunks of a table.
fn column(output: &Output, table: &str, name: &str) -> Vec<String> {
    let chunks = output.chunks.iter().filter(|chunk| chunk.table == table);
    chunks.flat_map(chunk::rows).filter_map(|row| row.text(name).map(str::to_owned)).collect()
}

/// Every row that is made must be one its table takes.
fn checked(output: Output) -> Output {
    for chunk in &output.chunks {
        chunk::check(chunk, tables::find(&chunk.table).unwrap()).unwrap();
    }
    output
}

/// Feeds windows until the busy workload is found; the output with the finding.
fn until_found(responder: &mut Responder, coverage: f64) -> Output {
    until_found_in("boot-1", responder, coverage)
}

/// The same while the node's session is of this boot.
fn until_found_in(session_boot: &str, responder: &mut Responder, coverage: f64) -> Output {
    responder.connected(NODE, session_boot, 0);
    for window in 1..=8 {
        let quiet = responder.observe(&origin(NODE), &batch([cpu(window * 10 * SECOND, 1.0, &[("host", 0.1)])]), 0);
        assert!(column(&quiet, "findings", "finding").is_empty());
    }
    let busy = |window: i64| batch([cpu(window * 10 * SECOND, coverage, &[("host", 0.1), ("cgroup:/busy", 1.0)])]);
    let first = responder.observe(&origin(NODE), &busy(9), 90 * SECOND);
    assert!(column(&first, "findings", "finding").is_empty());
    checked(responder.observe(&origin(NODE), &busy(10), 100 * SECOND))
}

fn pending(responder: &mut Responder) -> String {
    let found = until_found(responder, 1.0);
    assert_eq!(column(&found, "actions", "state"), ["pending"]);
    assert!(found.commands.is_empty());
    column(&found, "actions", "action").remove(0)
}

fn word(
    responder: &mut Responder,
    action: &str,
    verb: v1::Verb,
    now_us: i64,
) -> Result<(v1::ActReply, Output), Refusal> {
    let request = v1::ActRequest {
        action_id: action.to_owned(),
        verb: verb.into(),
        reason: "test".to_owned(),
        ..Default::default()
    };
    responder.operator(&request, "ann", now_us).map(|(reply, output)| (reply, checked(output)))
}

fn receipt(responder: &mut Responder, action: &str, state: &str) -> Output {
    receipt_at(responder, action, state, 200)
}

fn receipt_at(responder: &mut Responder, action: &str, state: &str, now_s: i64) -> Output {
    checked(responder.observe(&origin(NODE), &batch([outcome(action, state, THROTTLE)]), now_s * SECOND))
}

fn command(output: &Output) -> v1::Command {
    assert_eq!(output.commands.len(), 1);
    v1::Command::decode(output.commands[0].command.command.as_slice()).unwrap()
}

#[test]
fn a_busy_workload_is_found_asked_about_throttled_and_undone() {
    let mut responder = responder();
    let found = until_found(&mut responder, 1.0);
    assert_eq!(column(&found, "findings", "rule"), ["cpu_cores"]);
    assert_eq!(column(&found, "findings", "target_node"), [NODE]);
    assert_eq!(column(&found, "findings", "cgroup"), ["/busy"]);
    assert!(column(&found, "scores", "signal").contains(&"cpu_cores".to_owned()));
    assert_eq!(column(&found, "audit", "step"), ["raised", "chosen", "pending"]);
    let chosen = &column(&found, "audit", "detail")[1];
    assert!(chosen.starts_with("rule throttle-busy-workload, rung 1, try 1; by order: 1 throttle taken "), "{chosen}");
    let steps: Vec<_> = found.records.iter().map(|record| record.step.as_str()).collect();
    assert_eq!(steps, ["raised", "chosen", "pending"]);
    assert_eq!(found.records[2].facts["parameters"], "cpu_millicores=500 lease_s=600");
    assert!(found.records[0].facts["evidence"].contains("cpu_cores=1.000"));
    let action = column(&found, "actions", "action").remove(0);

    let (reply, sent) = word(&mut responder, &action[..8], v1::Verb::Approve, 110 * SECOND).unwrap();
    assert_eq!(reply.state, "sent");
    assert_eq!(column(&sent, "audit", "step"), ["approve", "sent"]);
    assert_eq!(column(&sent, "actions", "actor"), ["ann"]);
    let command = command(&sent);
    assert_eq!((command.id.as_str(), command.node.as_str(), command.boot.as_str()), (action.as_str(), NODE, "boot-1"));
    assert_eq!(command.action, Some(v1::command::Action::Throttle(v1::Throttle { cpu_millicores: 500 })));
    assert_eq!((command.not_after_us, command.lease_s, command.nonce.len()), (170 * SECOND, 600, 32));
    assert_eq!(command.target.as_ref().map(|target| (target.cgroup.as_str(), target.cgroup_id)), Some(("/busy", 77)));
    assert_eq!(command.approved_by, "ann");
    assert_eq!(command.issued_us, 110 * SECOND);

    receipt(&mut responder, &action, "applied");
    receipt(&mut responder, &action, "improved");
    let (reply, undo) = word(&mut responder, &action, v1::Verb::Undo, 210 * SECOND).unwrap();
    assert_eq!(reply.state, "improved");
    let command = self::command(&undo);
    assert_eq!(command.action, Some(v1::command::Action::Undo(v1::Undo { action_id: action.clone() })));
    assert!(command.id != action && command.nonce.len() == 32);
    receipt(&mut responder, &action, "undone");
    let refused = word(&mut responder, &action, v1::Verb::Undo, 220 * SECOND).unwrap_err();
    assert_eq!(refused.to_string(), format!("cannot undo action {action}: it is undone"));
}

#[test]
fn commands_follow_a_wall_clock_that_was_set_and_what_is_waited_for_does_not() {
    for ahead_us in [-7200 * SECOND, 7200 * SECOND] {
        let mut responder = responder();
        let action = pending(&mut responder);
        responder.wall_is_ahead(ahead_us);
        assert!(responder.tick(109 * SECOND).is_empty(), "it waits on");
        let (_, sent) = word(&mut responder, &action, v1::Verb::Approve, 110 * SECOND).unwrap();
        assert_eq!(column(&sent, "actions", "state"), ["sent"]);
        let command = command(&sent);
        assert_eq!((command.issued_us, command.not_after_us), (110 * SECOND + ahead_us, 170 * SECOND + ahead_us));
    }
}

#[test]
fn words_that_make_no_sense_are_refused() {
    let mut responder = responder();
    let action = pending(&mut responder);
    let refused = word(&mut responder, &action, v1::Verb::Undo, 0).unwrap_err();
    assert_eq!(refused.to_string(), format!("cannot undo action {action}: it is pending"));
    assert!(matches!(word(&mut responder, "feed", v1::Verb::Approve, 0), Err(Refusal::UnknownAction { .. })));
    assert!(matches!(word(&mut responder, &action[..3], v1::Verb::Approve, 0), Err(Refusal::UnknownAction { .. })));
    assert!(matches!(word(&mut responder, &action, v1::Verb::Unspecified, 0), Err(Refusal::UnknownVerb { .. })));
    responder.disconnected(NODE, false);
    assert!(matches!(word(&mut responder, &action, v1::Verb::Approve, 0), Err(Refusal::NotConnected { .. })));
    let (reply, rejected) = word(&mut responder, &action, v1::Verb::Reject, 120 * SECOND).unwrap();
    assert_eq!((reply.state.as_str(), column(&rejected, "audit", "step")), ("rejected", vec!["rejected".to_owned()]));
    let refused = word(&mut responder, &action, v1::Verb::Approve, 0).unwrap_err();
    assert_eq!(refused.to_string(), format!("cannot approve action {action}: it is rejected"));
}

#[test]
fn nobody_answers_and_nobody_asks() {
    let mut responder = responder();
    let action = pending(&mut responder);
    assert!(responder.tick(999 * SECOND).is_empty());
    let expired = checked(responder.tick(1000 * SECOND));
    assert_eq!(column(&expired, "actions", "state"), ["expired"]);

    let mut responder = self::responder();
    let action_2 = pending(&mut responder);
    assert_eq!(action, action_2, "the same seed draws the same ids");
    word(&mut responder, &action, v1::Verb::Approve, 110 * SECOND).unwrap();
    assert!(responder.tick(200 * SECOND).is_empty());
    let failed = checked(responder.tick(300 * SECOND));
    assert_eq!(column(&failed, "actions", "state"), ["failed"]);
    receipt(&mut responder, &action, "applied");
    assert!(word(&mut responder, &action, v1::Verb::Undo, 310 * SECOND).is_ok(), "a late receipt still counts");
}

#[test]
fn what_could_not_be_delivered_waits_again() {
    let mut responder = responder();
    let action = pending(&mut responder);
    word(&mut responder, &action, v1::Verb::Approve, 110 * SECOND).unwrap();
    let back = checked(responder.undeliverable(&action, false, 110 * SECOND));
    assert_eq!(column(&back, "actions", "state"), ["pending"]);
    word(&mut responder, &action, v1::Verb::Approve, 111 * SECOND).unwrap();
    receipt(&mut responder, &action, "applied");
    let undo = checked(responder.undeliverable(&action, true, 112 * SECOND));
    assert_eq!(column(&undo, "audit", "step"), ["undo undeliverable"]);
    assert!(column(&undo, "actions", "state").is_empty(), "the limit stands as it did");
}

#[test]
fn a_refused_undo_does_not_hide_that_the_limit_stands() {
    let mut responder = responder();
    let action = pending(&mut responder);
    word(&mut responder, &action, v1::Verb::Approve, 110 * SECOND).unwrap();
    receipt(&mut responder, &action, "applied");
    for state in ["refused", "failed"] {
        let undo_row = batch([undo_outcome(&action, state)]);
        let again = checked(responder.observe(&origin(NODE), &undo_row, 200 * SECOND));
        assert_eq!(column(&again, "actions", "action"), [action.as_str()]);
        assert_eq!(column(&again, "actions", "state"), ["applied"]);
        assert_eq!(column(&again, "actions", "detail"), ["undo refused: because"]);
    }
}

#[test]
fn a_restarted_node_takes_no_action_of_its_earlier_life() {
    let mut responder = responder();
    let action = pending(&mut responder);
    let expired = checked(responder.connected(NODE, "boot-2", 120 * SECOND));
    assert_eq!(column(&expired, "actions", "state"), ["expired"]);
    assert!(matches!(word(&mut responder, &action, v1::Verb::Approve, 0), Err(Refusal::WrongState { .. })));
}

#[test]
fn modes_protection_coverage_and_budgets_hold() {
    let rule = |mode: &str| {
        format!(
            "[[rule]]\nname = \"r\"\nfinding = \"cpu_*\"\naction = \"throttle\"\nmode = \"{mode}\"\ncpu_millicores = 250\n"
        )
    };
    let found = until_found(&mut responder_with(&rule("auto")), 1.0);
    assert_eq!(column(&found, "actions", "state"), ["pending", "sent"]);
    let rows = found.chunks.iter().find(|chunk| chunk.table == "actions").unwrap();
    let times: Vec<_> = chunk::rows(rows).filter_map(|row| row.int("time")).collect();
    assert!(times[0] < times[1], "the newest row is the one that counts: {times:?}");
    assert_eq!(command(&found).approved_by, "policy");
    assert_eq!(command(&found).mode, "auto");

    let found = until_found(&mut responder_with(&rule("observe")), 1.0);
    assert_eq!(column(&found, "actions", "state"), ["observed"]);
    assert!(found.commands.is_empty());

    let budget = format!("[budget]\nmax_per_hour = 0\n{}", rule("auto"));
    let found = until_found(&mut responder_with(&budget), 1.0);
    assert_eq!(column(&found, "audit", "detail")[1], "the policy's budget is used up: 0 of 0 commands an hour");
    assert!(column(&found, "actions", "state").is_empty() && found.commands.is_empty());

    for (policy, coverage, why) in [
        (format!("protected = [\"*busy\"]\n{}", rule("auto")), 1.0, "cgroup:/busy is protected by *busy"),
        (format!("{}min_severity = \"low\"\n", rule("auto")), 0.5, "coverage 0.50 is below the policy's 0.80"),
    ] {
        let found = until_found(&mut responder_with(&policy), coverage);
        assert_eq!(column(&found, "audit", "step"), ["raised", "withheld"]);
        assert_eq!(column(&found, "audit", "detail")[1], why);
        assert!(column(&found, "actions", "state").is_empty() && found.commands.is_empty());
    }
    let found = until_found(&mut responder_with(""), 1.0);
    assert_eq!(column(&found, "audit", "step"), ["raised"], "no rule, no action");
}

#[test]
fn half_a_view_is_said_and_weighs_less() {
    let found = until_found(&mut responder_with(""), 0.5);
    assert_eq!(column(&found, "findings", "severity"), ["low"]);
    assert!(column(&found, "findings", "title")[0].ends_with("(50 % of what happened was seen)"));
}

#[test]
fn a_storm_of_execs_is_one_finding_with_its_evidence() {
    let mut responder = responder();
    let mut findings = Vec::new();
    for pid in 1..=200 {
        let output = responder.observe(&origin(NODE), &batch([exec(pid, "/dev/shm/x", &["/dev/shm/x", "it's"])]), pid);
        findings.push(checked(output));
    }
    assert_eq!(column(&findings[0], "findings", "rule"), ["exec-dev-shm"]);
    assert_eq!(column(&findings[0], "findings", "severity"), ["high"]);
    let chunk = findings[0].chunks.iter().find(|chunk| chunk.table == "findings").unwrap();
    let row = chunk::rows(chunk).next().unwrap();
    let evidence = row.text_list("evidence").unwrap();
    assert!(evidence.contains(&"exe=/dev/shm/x") && evidence.contains(&"argv=/dev/shm/x it's"), "{evidence:?}");
    assert_eq!(
        row.text("evidence_sql"),
        Some("SELECT * FROM processes WHERE node = 'n1' AND boot = 'boot-1' AND pid = 1 AND start_ns = 9")
    );
    assert_eq!((row.int("pid"), row.int("start_ns"), row.float("coverage")), (Some(1), Some(9), Some(1.0)));
    assert!(findings[1..].iter().all(Output::is_empty));
    let told = checked(responder.tick(3_600 * SECOND + 1));
    assert_eq!(column(&told, "audit", "step"), ["repeated"]);
    assert!(column(&told, "audit", "detail")[0].starts_with("199 more of exec-dev-shm"));
}

#[test]
fn the_loss_of_execs_is_the_findings_coverage() {
    let mut loss = Builder::new(&tables::LOSS);
    for (reason, attempted, delivered, lost) in [("none", 60, 60, 0), ("ring_full", 40, 0, 40)] {
        loss.int("time", 1).int("until", 2).text("probe", "exec").text("reason", reason);
        loss.int("attempted", attempted).int("delivered", delivered).int("lost", lost);
        loss.end_row().unwrap();
    }
    let mut responder = responder();
    // Events come ahead of their window's ledger, so it is the one before that counts.
    responder.observe(&origin(NODE), &batch([loss.finish().unwrap()]), 1);
    let output = checked(responder.observe(&origin(NODE), &batch([exec(1, "/dev/shm/x", &["x"])]), 1));
    let chunk = output.chunks.iter().find(|chunk| chunk.table == "findings").unwrap();
    let row = chunk::rows(chunk).next().unwrap();
    assert!((row.float("coverage").unwrap() - 0.6).abs() < 1e-9);
    assert_eq!(row.text("severity"), Some("medium"));
}

#[test]
fn a_restarted_collector_knows_what_stands_and_what_was_raised() {
    let mut before = responder();
    let found = until_found(&mut before, 1.0);
    let action = column(&found, "actions", "action").remove(0);
    let (_, sent) = word(&mut before, &action, v1::Verb::Approve, 110 * SECOND).unwrap();

    let mut after = responder();
    let own = origin(OWN_NODE);
    after.restore(&own, &batch(found.chunks.clone()), 120 * SECOND);
    after.restore(&own, &batch(sent.chunks.clone()), 120 * SECOND);
    // Once more, and in the wrong order, as history and WAL may overlap.
    after.restore(&own, &batch(found.chunks), 120 * SECOND);
    after.connected(NODE, "boot-1", 120 * SECOND);
    assert!(matches!(word(&mut after, &action, v1::Verb::Approve, 0), Err(Refusal::WrongState { .. })));
    receipt(&mut after, &action, "applied");
    assert!(word(&mut after, &action, v1::Verb::Undo, 130 * SECOND).is_ok());

    for window in 1..=10 {
        let cores: &[(&str, f64)] = if window > 8 { &[("cgroup:/busy", 1.0)] } else { &[("host", 0.1)] };
        let again = after.observe(&origin(NODE), &batch([cpu(window * 10 * SECOND, 1.0, cores)]), 130 * SECOND);
        assert!(column(&again, "findings", "finding").is_empty(), "the hold outlives the process");
    }
}

#[test]
fn own_rows_are_never_looked_at() {
    let mut responder = responder();
    let own = batch([exec(1, "/dev/shm/x", &["x"]), outcome("a", "applied", THROTTLE)]);
    assert!(responder.observe(&origin(OWN_NODE), &own, 1).is_empty());
}

/// The state an operator would be told.
fn state_of(responder: &Responder, action: &str) -> Option<State> {
    responder.ledger.get(action).map(|action| action.state)
}

#[test]
fn a_node_cannot_forge_what_became_of_an_action() {
    let mut responder = responder();
    let action = pending(&mut responder);
    let mut audited = |node: &str, chunk: v1::Chunk, expected: State| {
        let said = checked(responder.observe(&origin(node), &batch([chunk]), 105 * SECOND));
        assert_eq!(state_of(&responder, &action), Some(expected));
        assert!(column(&said, "actions", "state").is_empty());
        column(&said, "audit", "step")
    };
    assert_eq!(audited(NODE, outcome(&action, "applied", THROTTLE), State::Pending), ["unknown_action"], "never sent");
    assert_eq!(audited(NODE, undo_outcome(&action, "failed"), State::Pending), ["unknown_action"]);
    word(&mut responder, &action, v1::Verb::Approve, 110 * SECOND).unwrap();
    let mut audited = |node: &str, chunk: v1::Chunk| {
        let said = checked(responder.observe(&origin(node), &batch([chunk]), 115 * SECOND));
        assert_eq!(state_of(&responder, &action), Some(State::Sent));
        assert!(column(&said, "actions", "state").is_empty());
        column(&said, "audit", "step")
    };
    assert_eq!(audited("n2", outcome(&action, "undone", THROTTLE)), ["foreign_action"]);
    assert_eq!(audited("n2", undo_outcome(&action, "refused")), ["foreign_action"]);
    for state in ["pending", "observed", "sent", "rejected", "expired"] {
        assert_eq!(audited(NODE, outcome(&action, state, THROTTLE)), ["claimed_state"]);
    }
    assert_eq!(audited(NODE, outcome(&"f".repeat(32), "applied", THROTTLE)), ["unknown_action"]);
    assert!(audited(NODE, outcome("replay:x", "refused", THROTTLE)).is_empty(), "a refusal is only a row");
    assert_eq!(state_of(&responder, &"f".repeat(32)), None);
}

#[test]
fn a_node_cannot_forge_actions_for_the_time_after_a_restart() {
    let mut before = responder();
    let found = until_found(&mut before, 1.0);
    let action = column(&found, "actions", "action").remove(0);
    let (_, sent) = word(&mut before, &action, v1::Verb::Approve, 110 * SECOND).unwrap();
    let mut after = responder();
    let own = origin(OWN_NODE);
    let mut told = |origin: &Origin, chunks: Vec<v1::Chunk>| {
        after.restore(origin, &batch(chunks), 120 * SECOND);
        (state_of(&after, &action), state_of(&after, "forged"))
    };
    assert_eq!(told(&origin(NODE), vec![outcome("forged", "pending", THROTTLE)]), (None, None));
    assert_eq!(told(&origin(NODE), vec![outcome("forged", "applied", THROTTLE)]), (None, None));
    told(&own, found.chunks);
    let (state, _) = told(&origin(NODE), vec![outcome(&action, "applied", THROTTLE)]);
    assert_eq!(state, Some(State::Pending), "it was not sent yet");
    told(&own, sent.chunks);
    let (state, _) = told(&origin("n2"), vec![outcome(&action, "undone", THROTTLE)]);
    assert_eq!(state, Some(State::Sent));
    // Its clock is behind the collector's.
    let (state, _) = told(&origin(NODE), vec![outcome(&action, "applied", THROTTLE)]);
    assert_eq!(state, Some(State::Applied));
}

#[test]
fn a_spooled_batch_of_an_earlier_boot_raises_no_action_in_this_one() {
    for mode in ["ask", "auto"] {
        let rule = format!(
            "[[rule]]\nname = \"r\"\nfinding = \"cpu_*\"\naction = \"throttle\"\nmode = \"{mode}\"\ncpu_millicores = 250\n"
        );
        let mut responder = responder_with(&rule);
        let found = until_found_in("boot-2", &mut responder, 1.0);
        assert_eq!(column(&found, "actions", "state"), ["pending", "expired"]);
        assert!(found.commands.is_empty());
    }
}

#[test]
fn a_pending_action_of_before_a_restart_expires_as_its_boot_is_unknown() {
    let mut before = responder();
    let found = until_found(&mut before, 1.0);
    let mut after = responder();
    after.restore(&origin(OWN_NODE), &batch(found.chunks), 120 * SECOND);
    let expired = checked(after.connected(NODE, "boot-1", 121 * SECOND));
    assert_eq!(column(&expired, "actions", "state"), ["expired"]);
    assert_eq!(column(&expired, "audit", "step"), ["expired"]);
}

#[test]
fn an_undeliverable_undo_leaves_the_action_as_it_is_and_a_failed_one_can_be_undone() {
    let mut responder = responder();
    let action = pending(&mut responder);
    word(&mut responder, &action, v1::Verb::Approve, 110 * SECOND).unwrap();
    let (_, undo) = word(&mut responder, &action, v1::Verb::Undo, 111 * SECOND).unwrap();
    assert!(undo.commands[0].undo);
    let said = checked(responder.undeliverable(&action, true, 111 * SECOND));
    assert_eq!(column(&said, "audit", "step"), ["undo undeliverable"]);
    assert_eq!(state_of(&responder, &action), Some(State::Sent));
    responder.tick(300 * SECOND);
    assert_eq!(state_of(&responder, &action), Some(State::Failed));
    let (_, undo) = word(&mut responder, &action, v1::Verb::Undo, 310 * SECOND).unwrap();
    assert_eq!(undo.commands.len(), 1);
}

fn order(verb: &str, parameters: &str, workload: &str) -> v1::ActRequest {
    let order = v1::Order {
        node: NODE.to_owned(),
        verb: verb.to_owned(),
        parameters: parameters.to_owned(),
        workload: workload.to_owned(),
        cgroup: "/busy".to_owned(),
        cgroup_id: 77,
    };
    v1::ActRequest { verb: v1::Verb::Order.into(), order: Some(order), ..Default::default() }
}

#[test]
fn an_operator_orders_each_action_and_its_row_comes_back() {
    let mut responder = responder();
    responder.connected(NODE, "boot-1", 0);
    for (verb, parameters, workload, state) in [
        ("freeze", "lease_s=60", "cgroup:/busy", "undone"),
        ("limit_memory", "high_bytes=1048576 lease_s=60", "cgroup:/busy", "undone"),
        ("kill", "scope=tree grace_s=5 pid=77 start_ns=5", "cgroup:/busy", "done"),
        ("restart_unit", "unit=web.service when=unit_down at_least=1", "unit:web.service", "moot"),
        ("block", "address=192.0.2.7 lease_s=60", "host", "undone"),
        ("run", "name=flush", "host", "failed"),
    ] {
        let (reply, output) = responder.operator(&order(verb, parameters, workload), "ann", 10 * SECOND).unwrap();
        let output = checked(output);
        assert_eq!(reply.state, "sent");
        assert_eq!(column(&output, "actions", "state"), ["pending", "sent"]);
        assert_eq!(column(&output, "actions", "parameters"), [parameters, parameters]);
        let command = command(&output);
        assert_eq!((command.id.as_str(), command.boot.as_str()), (reply.action_id.as_str(), "boot-1"));
        assert_eq!(skep_wire::order::parameters(&command), parameters);
        let aimed = skep_wire::order::aims_at_cgroup(&command);
        assert_eq!(command.target.unwrap().cgroup, if aimed { "/busy" } else { "" });
        // What another start makes of the rows.
        let mut again = responder_with(Policy::default_text());
        again.restore(&origin(OWN_NODE), &batch(output.chunks), 20 * SECOND);
        assert_eq!(again.ledger.get(&reply.action_id).unwrap().parameters(), parameters);
        let mut row = Builder::new(&tables::ACTIONS);
        row.int("time", 5).text("action", &reply.action_id).text("finding", "").text("target_node", NODE);
        row.text("workload", workload).text("verb", verb).text("parameters", parameters).text("mode", "ask");
        row.text("state", state).text("actor", "executor").text("detail", "because").bool("dry_run", false);
        row.end_row().unwrap();
        responder.observe(&origin(NODE), &batch(row.finish()), 30 * SECOND);
        assert_eq!(responder.ledger.get(&reply.action_id).unwrap().state.as_str(), state);
    }
}

#[test]
fn an_order_that_makes_no_sense_is_refused() {
    let mut responder = responder();
    let refused = |responder: &mut Responder, request: &v1::ActRequest| {
        responder.operator(request, "ann", 0).unwrap_err().to_string()
    };
    assert_eq!(
        refused(&mut responder, &order("freeze", "lease_s=60", "cgroup:/busy")),
        format!("node {NODE} is not connected")
    );
    responder.connected(NODE, "boot-1", 0);
    assert!(refused(&mut responder, &order("reboot", "", "host")).contains("is none of throttle"));
    assert!(refused(&mut responder, &order("undo", "action=x", "host")).contains("is none of throttle"));
    assert!(refused(&mut responder, &order("freeze", "hard=1", "cgroup:/busy")).contains("no parameter hard"));
    assert!(refused(&mut responder, &order("freeze", "lease_s=60", "host")).contains("is protected by host"));
    let unit = order("restart_unit", "unit=ssh.service", "unit:ssh.service");
    assert!(refused(&mut responder, &unit).contains("is protected by unit:ssh.service"));
    let mut nowhere = order("freeze", "lease_s=60", "cgroup:/busy");
    nowhere.order.as_mut().unwrap().cgroup.clear();
    assert!(refused(&mut responder, &nowhere).contains("aimed at a cgroup"));
}

#[test]
fn an_action_that_stands_is_extended_by_a_command_of_its_own() {
    let mut responder = responder();
    responder.connected(NODE, "boot-1", 0);
    let request = order("freeze", "lease_s=60", "cgroup:/busy");
    let (reply, _) = responder.operator(&request, "ann", 10 * SECOND).unwrap();
    let extend = v1::ActRequest {
        action_id: reply.action_id.clone(),
        verb: v1::Verb::Extend.into(),
        lease_s: 120,
        ..Default::default()
    };
    assert!(responder.operator(&extend, "ann", 11 * SECOND).is_err(), "it does not stand yet");
    receipt(&mut responder, &reply.action_id, "applied");
    let (_, output) = responder.operator(&extend, "ann", 12 * SECOND).unwrap();
    let command = command(&output);
    assert_eq!((command.lease_s, skep_wire::order::verb(command.action.as_ref())), (120, "extend"));
    assert_ne!(command.id, reply.action_id);
    receipt(&mut responder, &reply.action_id, "extended");
    assert_eq!(responder.ledger.get(&reply.action_id).unwrap().state.as_str(), "extended");
}

const LADDER: &str = "[[rule]]\nname = \"r\"\nfinding = \"cpu_*\"\nmode = \"auto\"\n[[rule.rung]]\naction = \"throttle\"\n\
                      cpu_share = 0.5\nverify_s = 20\n[[rule.rung]]\naction = \"freeze\"\nlease_s = 60\nverify_s = 20\n";

#[test]
fn what_does_not_help_is_undone_and_the_next_rung_is_taken_until_people_are_needed() {
    let mut responder = responder_with(LADDER);
    let found = until_found(&mut responder, 1.0);
    let throttle = command(&found);
    receipt(&mut responder, &throttle.id, "applied");
    let said = receipt(&mut responder, &throttle.id, "unchanged");
    assert_eq!(
        said.records.last().map(|record| record.step.as_str()),
        Some("unchanged"),
        "with the readings in its detail"
    );
    let over = checked(responder.tick(221 * SECOND));
    assert_eq!(column(&over, "audit", "step"), ["undo", "withheld"]);
    assert_eq!(skep_wire::order::verb(command(&over).action.as_ref()), "undo");
    let next = receipt_at(&mut responder, &throttle.id, "undone", 222);
    let freeze = command(&next);
    assert_eq!(skep_wire::order::verb(freeze.action.as_ref()), "freeze");
    assert_eq!(freeze.finding, throttle.finding);
    let failed = receipt_at(&mut responder, &freeze.id, "failed", 223);
    assert_eq!(column(&failed, "audit", "step"), ["escalated", "raised"]);
    assert_eq!(column(&failed, "findings", "rule"), ["action-escalated"]);
}

#[test]
fn a_restarted_collector_goes_on_with_an_open_ladder() {
    let mut before = responder_with(LADDER);
    let found = until_found(&mut before, 1.0);
    let throttle = command(&found);
    let kept = before.under_way().unwrap().unwrap();
    let mut after = responder_with(LADDER);
    after.go_on(&kept).unwrap();
    after.restore(&origin(OWN_NODE), &batch(found.chunks), 120 * SECOND);
    after.connected(NODE, "boot-1", 120 * SECOND);
    let moved_on = receipt(&mut after, &throttle.id, "failed");
    assert_eq!(skep_wire::order::verb(command(&moved_on).action.as_ref()), "freeze");
}

#[test]
fn what_is_well_again_by_its_readings_is_left_alone() {
    let policy = format!("[budget]\nmax_per_hour = 0\n{LADDER}");
    let mut responder = responder_with(&policy);
    let found = until_found(&mut responder, 1.0);
    assert_eq!(column(&found, "audit", "step"), ["raised", "withheld"]);
    let quiet = batch([cpu(110 * SECOND, 1.0, &[("host", 0.1), ("cgroup:/busy", 0.0)])]);
    let well = checked(responder.observe(&origin(NODE), &quiet, 110 * SECOND));
    assert_eq!(column(&well, "audit", "step"), ["recovered"]);
    assert_eq!(column(&well, "audit", "detail"), ["it is well again"]);
}

/// What comes of an operator's word on an incident.
fn say_of(responder: &mut Responder, incident: &str, verb: v1::Verb, now_us: i64) -> Result<Output, Refusal> {
    let request = v1::ActRequest { action_id: incident.to_owned(), verb: verb.into(), ..Default::default() };
    responder.operator(&request, "ann", now_us).map(|(_, output)| checked(output))
}

#[test]
fn findings_become_an_incident_that_operators_see_to() {
    let mut before = responder();
    let found = until_found(&mut before, 1.0);
    assert_eq!(column(&found, "incidents", "change"), ["opened"]);
    assert_eq!(column(&found, "incidents", "finding"), column(&found, "findings", "finding"));
    let incident = column(&found, "incidents", "incident").remove(0);
    let restarted = checked(before.connected(NODE, "boot-2", 101 * SECOND));
    assert_eq!(column(&restarted, "incidents", "detail"), ["the node has restarted"]);

    let mut after = responder();
    after.restore(&origin(OWN_NODE), &batch(found.chunks), 110 * SECOND);
    let seen_to = say_of(&mut after, &incident, v1::Verb::Acknowledge, 110 * SECOND).unwrap();
    assert_eq!(column(&seen_to, "incidents", "state"), ["acknowledged"]);
    assert_eq!(column(&seen_to, "audit", "step"), ["incident acknowledged"]);
    assert!(matches!(
        say_of(&mut after, &incident, v1::Verb::Acknowledge, 111 * SECOND),
        Err(Refusal::PastIncident { state: "acknowledged", .. })
    ));
    let closed = checked(after.tick(3_600 * SECOND));
    assert_eq!(column(&closed, "incidents", "change"), ["closed"]);
    let unknown = say_of(&mut after, "x", v1::Verb::Close, 3_601 * SECOND);
    assert_eq!(unknown.err(), Some(Refusal::UnknownIncident { incident: "x".to_owned() }));
}
