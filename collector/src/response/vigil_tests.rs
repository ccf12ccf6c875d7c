use ed25519_dalek::SigningKey;
use skep_wire::canary;
use skep_wire::chunk::{self, Builder};
use skep_wire::envelope::Origin;
use skep_wire::{tables, v1};

use super::*;
use crate::decide::Policy;

const SECOND: i64 = 1_000_000;

const NODE: &str = "n1";

const MARKER: &str = "00112233445566778899aabbccddeeff";

fn origin() -> Origin {
    Origin { node: NODE.to_owned(), boot: "boot-1".to_owned(), stream: "s".to_owned(), seq: 1 }
}

/// The rules that come with skep.
fn rules() -> skep_rules::detector::Detector {
    skep_rules::detector::Detector::new(&mut skep_rules::load::Loaded::pack()).unwrap()
}

fn responder() -> Responder {
    let policy = Policy::parse(Policy::default_text()).unwrap();
    Responder::new(Setup { policy, key: SigningKey::from_bytes(&[3; 32]), rules: rules(), seed: [5; 32] })
}

fn canary(event: &str, number: i64) -> v1::Chunk {
    let mut row = Builder::new(&tables::CANARIES);
    row.int("time", 5).text("event", event).text("marker", MARKER).int("number", number).int("port", 4001);
    row.float("interval_s", 10.0).text_list("expects", &["exec", "exit"]);
    row.end_row().unwrap();
    row.finish().unwrap()
}

/// An exec from a folder that is nobody's, as a build of this repository may lie in.
fn exec(pid: i64, argv: &[String]) -> v1::Chunk {
    process(pid, |row| {
        row.text("event", "exec").text("exe", "/tmp/skep-agent").text("filename", "/tmp/skep-agent");
        row.text_list("argv", argv).text_list::<&str>("flags", &[]);
    })
}

fn exit(pid: i64) -> v1::Chunk {
    process(pid, |row| {
        row.text("event", "exit").int("exit_code", i64::from(canary::EXIT_CODE)).int("exit_signal", 0);
    })
}

fn process(pid: i64, more: impl Fn(&mut Builder)) -> v1::Chunk {
    let mut row = Builder::new(&tables::PROCESSES);
    row.int("time", 6).int("pid", pid).int("start_ns", 9).text("comm", "skep-agent");
    row.text("workload", "unit:skep.service").text("attribution", "exact").int("parent_pid", 1);
    row.bool("argv_truncated", false);
    more(&mut row);
    row.end_row().unwrap();
    row.finish().unwrap()
}

fn window() -> v1::Chunk {
    let mut row = Builder::new(&tables::HOST);
    row.int("time", 6).float("window_s", 1.0).text("metric", "cpus").text("label", "").float("value", 2.0);
    row.end_row().unwrap();
    row.finish().unwrap()
}

/// Severity, rule and title of the findings.
fn findings(output: &Output) -> Vec<String> {
    let chunks = output.chunks.iter().filter(|chunk| chunk.table == "findings");
    let text = |row: &chunk::Row<'_>| {
        ["severity", "rule", "title"].map(|column| row.text(column).unwrap().to_owned()).join(": ")
    };
    chunks.flat_map(chunk::rows).map(|row| text(&row)).collect()
}

fn observe(responder: &mut Responder, chunk: v1::Chunk, at_s: i64) -> Vec<String> {
    chunk::check(&chunk, tables::find(&chunk.table).unwrap()).unwrap();
    let batch = v1::Batch { sealed_us: 0, chunks: vec![chunk], deliveries: Vec::new() };
    let output = responder.observe(&origin(), &batch, at_s * SECOND);
    for chunk in &output.chunks {
        chunk::check(chunk, tables::find(&chunk.table).unwrap()).unwrap();
    }
    findings(&output)
}

#[test]
fn an_announced_canary_breaks_no_rule_and_one_that_only_looks_like_it_does() {
    let mut responder = responder();
    let argv = canary::argv(MARKER, 4001);
    assert_eq!(observe(&mut responder, canary("sent", 1), 1), [""; 0]);
    assert_eq!(observe(&mut responder, exec(50, &argv), 1), [""; 0]);
    let found = observe(&mut responder, exec(51, &argv), 1);
    assert!(found.len() == 1 && found[0].starts_with("medium: exec-volatile: "), "{found:?}");
}

#[test]
fn a_canary_without_its_exec_is_a_finding_and_the_next_whole_one_its_end() {
    let mut responder = responder();
    observe(&mut responder, canary("sent", 3), 1);
    observe(&mut responder, exit(50), 1);
    let mut row = Builder::new(&tables::CANARIES);
    row.int("time", 5).text("event", "ran").text("marker", MARKER).int("number", 3).int("port", 4001).int("pid", 50);
    row.float("interval_s", 10.0).text_list("expects", &["exec", "exit"]).end_row().unwrap();
    observe(&mut responder, row.finish().unwrap(), 1);
    for at in 2..4 {
        assert_eq!(observe(&mut responder, window(), at), [""; 0]);
    }
    let found = observe(&mut responder, window(), 4);
    let expected = "high: canary-missing: canary 3 did not arrive whole: exec is missing, exit came";
    assert_eq!(found, [expected]);

    // The same again is held back, the end of it is not, and after that it is news again.
    for (number, at) in [(4, 5), (5, 20)] {
        observe(&mut responder, canary("sent", number), at);
        let found: Vec<_> = (1..4).flat_map(|later| observe(&mut responder, window(), at + later)).collect();
        assert!(found.iter().all(|title| title.contains("exec and exit")), "{found:?}");
    }
    observe(&mut responder, canary("sent", 6), 30);
    observe(&mut responder, exec(56, &canary::argv(MARKER, 4001)), 30);
    let over = observe(&mut responder, exit(56), 31);
    assert_eq!(over, ["info: canary-missing: canaries arrive whole again: number 6 did"]);
    observe(&mut responder, canary("sent", 7), 32);
    let found: Vec<_> = (33..36).flat_map(|at| observe(&mut responder, window(), at)).collect();
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn a_node_that_falls_silent_is_a_finding_across_a_restart_of_the_collector() {
    let mut responder = responder();
    observe(&mut responder, canary("sent", 1), 1);
    observe(&mut responder, window(), 2);
    for at in 2..=42 {
        assert!(responder.tick(at * SECOND).is_empty());
    }
    let raised = responder.tick(43 * SECOND);
    assert_eq!(findings(&raised), ["high: node-silent: nothing was heard of the node for 41 s: nobody watches it"]);

    let mut next = self::responder();
    let own = Origin { node: OWN_NODE.to_owned(), ..origin() };
    let batch = |chunks: Vec<v1::Chunk>| v1::Batch { sealed_us: 0, chunks, deliveries: Vec::new() };
    next.restore(&own, &batch(raised.chunks), 50 * SECOND);
    next.restore(&origin(), &batch(vec![canary("sent", 1)]), 50 * SECOND);
    for at in 50..=200 {
        assert!(next.tick(at * SECOND).is_empty(), "it was told before");
    }
    let heard = observe(&mut next, window(), 201);
    assert_eq!(heard, ["info: node-silent: the node is heard of again after 151 s"]);
}

#[test]
fn a_node_that_goes_to_another_collector_and_comes_back_owes_nothing() {
    let mut responder = responder();
    observe(&mut responder, canary("sent", 1), 1);
    responder.disconnected(NODE, true);
    for at in 2..=100 {
        assert!(responder.tick(at * SECOND).is_empty(), "it is listened for there");
    }
    observe(&mut responder, canary("sent", 5), 101);
    responder.was_elsewhere(NODE);
    for at in 102..110 {
        assert_eq!(observe(&mut responder, window(), at), [""; 0], "the canary's exec is elsewhere");
        assert!(responder.tick(at * SECOND).is_empty());
    }
    for at in 110..150 {
        assert!(responder.tick(at * SECOND).is_empty());
    }
    assert_eq!(findings(&responder.tick(150 * SECOND)).len(), 1, "back here, it is listened for here");
}

#[test]
fn an_agent_that_observes_less_is_a_finding_and_so_is_its_end() {
    let gauges = |more: &[(&str, &str, f64)]| {
        let mut row = Builder::new(&tables::HOST);
        let always = [("agent_detail_level", "", 3.0), ("agent_budget_cpu_ratio", "", 0.003)];
        for (metric, label, value) in always.iter().chain(more) {
            row.int("time", 6).float("window_s", 1.0).text("metric", metric).text("label", label);
            row.float("value", *value).end_row().unwrap();
        }
        row.finish().unwrap()
    };
    let mut responder = responder();
    let found = observe(&mut responder, gauges(&[("agent_syscall_one_in", "", 8.0)]), 1);
    let title = "agent-degraded: the agent observes less to keep to its budget of 0.3 % of a core: ";
    assert_eq!(found, [format!("low: {title}1 system call in 8 looked at")]);
    let found = observe(&mut responder, gauges(&[("agent_domain_off", "cpu", 1.0)]), 2);
    assert_eq!(found, [format!("medium: {title}cpu not watched")]);
    let found = observe(&mut responder, gauges(&[]), 3);
    assert_eq!(found, ["info: agent-degraded: everything is observed again: it fits the budget"]);
    let found = observe(&mut responder, gauges(&[("agent_syscall_one_in", "", 2.0)]), 4);
    assert_eq!(found.len(), 1, "news again: {found:?}");
}
