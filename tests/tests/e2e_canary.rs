//! Canaries arrive whole while all is well, and a finding says which part does not. Needs root and gdb, which takes a
//! probe out of the running agent: no other way leads to a link that the agent alone holds.

#![expect(clippy::expect_used, reason = "tests fail by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use aya_obj::btf::{Btf, BtfKind};
use rustix::process::Signal;
use serde_json::Value;
use skep_tests::{PATIENCE, Skep, UNLIMITED, eventually, send};

const OFTEN: [(&str, &str); 2] = [UNLIMITED, ("SKEP_CANARY_INTERVAL", "2s")];

fn up(data: &Path) -> Skep {
    Skep::up_with(data, &["--window", "1s"], &OFTEN)
}

/// Findings about skep's own sight, oldest first.
fn findings(skep: &Skep, rule: &str) -> Vec<Value> {
    skep.query(&format!("SELECT severity, title, evidence_sql FROM findings WHERE rule = '{rule}' ORDER BY time"))
}

fn wait_for(skep: &Skep, rule: &str, severity: &str) -> Value {
    eventually(&format!("a finding {rule}, {severity}"), PATIENCE, || {
        findings(skep, rule).into_iter().find(|finding| finding["severity"] == severity)
    })
}

fn ran(skep: &Skep) -> i64 {
    skep.try_number("SELECT count(*) FROM canaries WHERE event = 'ran'").unwrap_or(0)
}

/// The agent's descriptors of links to a tracepoint.
fn links(agent: u32, tracepoint: &str) -> Vec<String> {
    let kernel = Btf::from_sys_fs().expect("the kernel describes its types");
    let typed = kernel.id_by_type_name_kind(&format!("btf_trace_{tracepoint}"), BtfKind::Typedef);
    let typed = typed.expect("the kernel has the tracepoint").to_string();
    let folder = std::fs::read_dir(format!("/proc/{agent}/fdinfo")).expect("the agent runs");
    let is_link = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        field("target_btf_id:") == Some(&typed) || field("tp_name:") == Some(tracepoint)
    };
    let paths = folder.flatten().map(|entry| entry.path()).filter(is_link);
    paths.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect()
}

/// Puts the agent's standard input in the place of a link, which lets go of the link.
fn detach(agent: u32, tracepoint: &str) {
    unpin(Path::new("/sys/fs/bpf"), tracepoint);
    let links = links(agent, tracepoint);
    assert!(!links.is_empty(), "the agent has no link to {tracepoint}");
    for link in links {
        let output = Command::new("gdb")
            .args(["-nx", "-batch", "-p", &agent.to_string(), "-ex", &format!("call (int)dup2(0, {link})")])
            .output()
            .expect("gdb is installed: cargo xtask setup");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(&format!("= {link}")), "{said}{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(self::links(agent, tracepoint).is_empty(), "the link is gone");
}

/// A link that is pinned outlives the descriptor.
fn unpin(folder: &Path, tracepoint: &str) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder {
            unpin(&entry.path(), tracepoint);
        } else if entry.file_name().to_string_lossy().contains(tracepoint) {
            std::fs::remove_file(entry.path()).expect("a pin can be removed");
        }
    }
}

#[test]
fn canaries_arrive_whole_until_the_exec_probe_is_taken_away() {
    let data = tempfile::tempdir().expect("a folder");
    let skep = up(data.path());
    eventually("five canaries", PATIENCE, || (ran(&skep) >= 5).then_some(()));
    // The newest may still be on its way.
    let whole = "SELECT count(*) FROM canaries c WHERE c.event = 'ran' AND c.number <= 4 \
                 AND EXISTS (SELECT 1 FROM processes e WHERE e.event = 'exec' AND e.pid = c.pid \
                 AND array_has(e.argv, c.marker)) \
                 AND EXISTS (SELECT 1 FROM processes x WHERE x.event = 'exit' AND x.pid = c.pid AND x.exit_code = 67) \
                 AND EXISTS (SELECT 1 FROM connections t WHERE t.pid = c.pid AND t.remote_port = c.port)";
    assert_eq!(skep.number(whole), 4);
    skep.next_window();
    assert_eq!(findings(&skep, "canary-missing"), [Value::Null; 0]);
    let about_them = "SELECT count(*) FROM findings f JOIN canaries c ON f.pid = c.pid WHERE f.kind = 'event'";
    assert_eq!(skep.number(about_them), 0, "rules let canaries be");

    detach(skep.pid("agent"), "sched_process_exec");
    let found = wait_for(&skep, "canary-missing", "high");
    let title = found["title"].as_str().unwrap_or_default();
    assert!(title.ends_with("exec is missing, exit and connect came"), "{title}");
    let evidence = skep.query(found["evidence_sql"].as_str().expect("it has evidence"));
    assert_eq!(evidence.iter().map(|row| &row["event"]).collect::<Vec<_>>(), ["sent", "ran"]);

    // A new agent attaches its own.
    let old = skep.kill("agent");
    skep.restarted("agent", old);
    wait_for(&skep, "canary-missing", "info");
    skep.stop();
}

#[test]
fn an_agent_that_stands_still_does_not_read_as_healthy() {
    let data = tempfile::tempdir().expect("a folder");
    let skep = up(data.path());
    eventually("a canary", PATIENCE, || (ran(&skep) >= 1).then_some(()));
    skep.next_window();
    assert_eq!(findings(&skep, "node-silent"), [Value::Null; 0]);
    let agent = skep.pid("agent");
    send(agent, Signal::STOP);
    let found = wait_for(&skep, "node-silent", "high");
    send(agent, Signal::CONT);
    assert!(found["title"].as_str().is_some_and(|title| title.starts_with("nothing was heard of the node for ")));
    wait_for(&skep, "node-silent", "info");
    skep.stop();
}
