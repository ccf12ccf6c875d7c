//! From an exec to a line on the operator's screen and a finding. Needs root and the real kernel.

#![expect(clippy::expect_used, reason = "tests fail by panicking")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use skep_tests::{PATIENCE, Skep, binary, eventually};

/// A copy of /bin/true under /dev/shm, removed when dropped.
struct ShmProgram(std::path::PathBuf);

impl ShmProgram {
    fn new() -> Self {
        let path = Path::new("/dev/shm").join(format!("skep-test-{}", std::process::id()));
        std::fs::copy("/bin/true", &path).expect("/dev/shm takes a program");
        Self(path)
    }

    fn run(&self) {
        let status = Command::new(&self.0).arg("marker").status().expect("/dev/shm allows execution");
        assert!(status.success());
    }
}

impl Drop for ShmProgram {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

#[test]
fn an_exec_from_shared_memory_is_a_line_within_a_second_and_a_finding() {
    let data = tempfile::tempdir().expect("a folder");
    let skep = Skep::up(data.path(), &[]);
    let mut follow = Command::new(binary("skep"))
        .args(["events", "--follow", "--kind", "exec", "--data"])
        .arg(data.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("skep events starts");
    let (lines, seen) = mpsc::channel();
    let stdout = follow.stdout.take().expect("its output");
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if lines.send((Instant::now(), line)).is_err() {
                return;
            }
        }
    });
    // It follows once it has shown any exec at all.
    eventually("events to follow", PATIENCE, || {
        Command::new("/bin/true").status().expect("true runs");
        seen.recv_timeout(Duration::from_millis(500)).ok()
    });

    let program = ShmProgram::new();
    let name = program.0.to_string_lossy().into_owned();
    let start = Instant::now();
    program.run();
    let shown = eventually("the exec to be shown", PATIENCE, || {
        seen.try_iter().find(|(_, line)| line.contains(&name)).map(|(at, _)| at - start)
    });
    assert!(shown < Duration::from_secs(1), "shown after {shown:?}");
    follow.kill().expect("it still runs");
    follow.wait().expect("it ends");

    let finding = eventually("the finding", PATIENCE, || {
        let sql = format!(
            "SELECT rule, severity, evidence, coverage FROM findings WHERE array_to_string(evidence, ' ') LIKE '%{name}%'"
        );
        skep.query(&sql).into_iter().next()
    });
    let rule = finding["rule"].as_str().expect("a rule");
    assert!(rule.contains("shm"), "the rule is {rule}");
    let listed = skep.skep(&["findings", "--format", "json"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains(rule));
    skep.stop();
}
