//! What is wrong is said in one clear line, with an exit code that says so, and nothing acknowledged is lost.
//!
//! Needs root and the real kernel.

#![expect(clippy::expect_used, reason = "tests fail by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use skep_tests::{PATIENCE, Skep, binary, eventually, query, send, skep};

/// The only line of an error, or a failed test.
fn one_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    assert_eq!(lines.len(), 1, "not one line: {text}");
    lines[0].to_owned()
}

fn assert_refused(output: &Output, code: i32, says: &[&str]) {
    let line = one_line(output);
    for word in says {
        assert!(line.contains(word), "{word:?} is not in: {line}");
    }
    assert_eq!(output.status.code(), Some(code), "{line}");
}

/// The newest file below `folder` with this extension.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|found| found == extension) {
                found.push(entry);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn wrong_sql_is_one_line() {
    let data = tempfile::tempdir().expect("a folder");
    let skep = Skep::up(data.path(), &["--window", "1s"]);
    assert_refused(&skep.skep(&["query", "SELEC 1"]), 1, &["SELEC"]);
    assert_refused(&skep.skep(&["query", "SELECT * FROM syscall"]), 1, &["syscall", "syscalls"]);
    assert_refused(&skep.skep(&["query", "SELECT pidd FROM cpu"]), 1, &["pidd"]);
    assert_refused(&skep.skep(&["query", "DROP TABLE cpu"]), 1, &["read"]);
    skep.stop();
    assert_refused(&skep_tests::skep(data.path(), &["query", "SELEC 1"]), 1, &["SELEC"]);
    assert_refused(&skep_tests::skep(data.path(), &["query", "SELECT * FROM syscall"]), 1, &["syscall", "syscalls"]);
}

#[test]
fn a_collector_that_is_not_there_is_exit_3() {
    let data = tempfile::tempdir().expect("a folder");
    let up = Skep::up(data.path(), &["--window", "1s"]);
    let tls = data.path().join("tls");
    let output = Command::new(binary("skep"))
        .args(["query", "--collector", "https://127.0.0.1:1", "--tls"])
        .arg(&tls)
        .arg("SELECT 1")
        .output()
        .expect("skep runs");
    assert_refused(&output, 3, &["127.0.0.1:1"]);
    up.stop();
    let empty = tempfile::tempdir().expect("a folder");
    let output = skep(empty.path(), &["query", "SELECT 1"]);
    assert_ne!(output.status.code(), Some(0));
    one_line(&output);
}

#[test]
fn an_impostor_is_not_believed_in_either_direction() {
    let (ours, theirs) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    Skep::up(theirs.path(), &["--window", "1s"]).stop();
    let skep = Skep::up(ours.path(), &["--window", "1s"]);
    let endpoint: serde_json::Value =
        serde_json::from_slice(&fs::read(ours.path().join("endpoint.json")).expect("endpoint")).expect("JSON");
    let url = format!("https://{}", endpoint["grpc"].as_str().expect("an address"));
    let tls = theirs.path().join("tls");
    let output = Command::new(binary("skep"))
        .args(["query", "--collector", &url, "--tls"])
        .arg(&tls)
        .arg("SELECT 1")
        .output()
        .expect("skep runs");
    assert_refused(&output, 3, &["certificate"]);

    let state = tempfile::tempdir().expect("a folder");
    let mut agent = Command::new(binary("skep-agent"))
        .args(["--pin", "", "--collector", &url, "--state-dir"])
        .arg(state.path())
        .arg("--ca")
        .arg(tls.join("ca.pem"))
        .arg("--cert")
        .arg(tls.join("agent.pem"))
        .arg("--key")
        .arg(tls.join("agent.key"))
        .stdout(Stdio::null())
        .stderr(fs::File::create(state.path().join("log")).expect("a log"))
        .spawn()
        .expect("the agent starts");
    eventually("the agent to say why", PATIENCE, || {
        let log = fs::read_to_string(state.path().join("log")).unwrap_or_default();
        log.contains("certificate").then_some(())
    });
    send(agent.id(), Signal::TERM);
    agent.wait().expect("it ends");
    assert_eq!(skep.number("SELECT count(DISTINCT stream) FROM loss WHERE node <> 'collector'"), 1, "one agent only");
    skep.stop();
}

#[test]
fn every_fault_of_a_config_is_told_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("config.toml");
    fs::write(&config, "no_such_key = 1\nalso_unknown = true\n").expect("a file");
    let executor = ["--socket", "s", "--state-dir", "d", "--trusted-key", "k", "--node", "n"];
    for (program, arguments) in [("skep-agent", &[][..]), ("skep-executor", &executor), ("skep-collector", &["serve"])]
    {
        let output =
            Command::new(binary(program)).args(arguments).arg("--config").arg(&config).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{program}: {text}");
        for key in ["no_such_key", "also_unknown"] {
            assert!(text.contains(key), "{program} says nothing of {key}: {text}");
        }
    }
}

#[test]
fn an_agent_without_capabilities_names_them_and_ends() {
    let output = Command::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all", "--reuid=65534", "--clear-groups"])
        .arg(binary("skep-agent"))
        .arg("doctor")
        .output()
        .expect("setpriv runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_ne!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("CAP_BPF"), "{text}");
}

#[test]
fn a_torn_wal_is_trimmed_and_a_missing_file_is_named() {
    let data = tempfile::tempdir().expect("a folder");
    let skep = Skep::up(data.path(), &["--window", "1s"]);
    skep.next_window();
    let stored = "SELECT CAST(sum(count) AS BIGINT) FROM syscalls";
    // First a kill that leaves a WAL behind: nobody may restart the collector, so its parent stops first.
    let up = skep.parent();
    send(up, Signal::STOP);
    let before = skep.number(stored);
    for part in ["collector", "agent", "executor"] {
        send(skep.pid(part), Signal::KILL);
    }
    send(up, Signal::KILL);
    skep.forget();
    // A killed collector still holds its listener for a moment.
    eventually("the folder to answer by itself", PATIENCE, || {
        skep_tests::skep(data.path(), &["query", "SELECT 1"]).status.success().then_some(())
    });
    let after = skep_tests::number(data.path(), stored);
    assert!(after >= before, "{after} rows after the kill, {before} before");

    let wal = files(&data.path().join("wal"), "seg").pop().expect("a WAL segment");
    let length = fs::metadata(&wal).expect("its size").len();
    fs::File::options().write(true).open(&wal).expect("it opens").set_len(length - 3).expect("it is cut");
    let cut = skep_tests::number(data.path(), stored);
    assert!(cut > 0 && cut <= after, "{cut} calls after the cut, {after} before it");

    Skep::up(data.path(), &["--window", "1s"]).stop();
    assert!(skep_tests::number(data.path(), stored) >= cut);
    let victim = files(&data.path().join("history/syscalls"), "parquet").pop().expect("a file");
    fs::remove_file(&victim).expect("it goes");
    let output = skep_tests::skep(data.path(), &["query", "--format", "json", stored]);
    assert_refused(&output, 1, &[victim.file_name().and_then(|name| name.to_str()).expect("a name")]);
    assert!(!output.stdout.is_empty(), "the rest is still answered");
}

#[test]
fn a_full_disk_stops_acknowledgements_and_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = SmallDisk::mount(folder.path());
    let skep = Skep::up(folder.path(), &["--window", "1s"]);
    skep.next_window();
    let ballast = folder.path().join("ballast");
    disk.fill(&ballast);
    eventually("somebody to say that the disk is full", PATIENCE, || {
        let logs = ["collector", "agent"]
            .map(|part| fs::read_to_string(folder.path().join(format!("log/{part}.log"))).unwrap_or_default());
        (logs.concat() + &skep.log()).contains("space").then_some(())
    });
    fs::remove_file(&ballast).expect("room again");
    skep.next_window();
    skep.stop();
    let broken = "SELECT count(*) FROM loss WHERE attempted <> delivered + lost";
    assert_eq!(skep_tests::number(folder.path(), broken), 0);
    let rows = query(
        folder.path(),
        "SELECT (SELECT CAST(sum(delivered) AS BIGINT) FROM loss WHERE probe = 'syscall') AS told, \
         (SELECT CAST(sum(count) AS BIGINT) FROM syscalls) AS stored",
    );
    assert_eq!(rows[0]["told"], rows[0]["stored"]);
}

/// A tmpfs of 64 MiB over a folder.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: &Path) -> Self {
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"]).arg(folder).status();
        assert!(status.expect("mount runs").success());
        Self(folder.to_owned())
    }

    fn fill(&self, ballast: &Path) {
        let mut file = fs::File::create(ballast).expect("a file");
        let block = vec![1u8; 1 << 16];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
        std::thread::sleep(Duration::from_millis(10));
        assert!(self.0.exists());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

#[test]
fn a_read_only_folder_is_said_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = SmallDisk::mount(folder.path());
    let status = Command::new("mount").args(["-o", "remount,ro"]).arg(folder.path()).status();
    assert!(status.expect("mount runs").success());
    let output = Command::new(binary("skep"))
        .args(["up", "--for", "5s", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder.path())
        .output()
        .expect("skep runs");
    assert_refused(&output, 1, &["ead-only"]);
    drop(disk);
}
