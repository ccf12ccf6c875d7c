//! The exit code and the one line of everything that goes wrong before a collector is reached.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use skep::up::certificates;
use skep::up::folder::Folder;

fn skep(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.args(args).stdin(Stdio::null());
    for name in ["SKEP_DATA", "SKEP_COLLECTOR", "SKEP_TLS", "XDG_CONFIG_HOME"] {
        command.env_remove(name);
    }
    command.env("HOME", "/nowhere");
    command
}

/// Runs; checks the code and that the error is one line that contains `said`.
fn check(args: &[&str], code: i32, said: &str) -> Output {
    let output = skep(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert!(stderr.contains(said), "{args:?}: {stderr}");
    if code != 2 {
        assert!(stderr.lines().count() <= 1, "{args:?}: {stderr}");
    }
    output
}

fn certificates_in(root: &Path) {
    let folder = Folder::create(root).unwrap();
    certificates::ensure(&folder, "h", IpAddr::V4(Ipv4Addr::LOCALHOST), jiff::Timestamp::now()).unwrap();
}

#[test]
fn help_and_version_are_no_failure() {
    check(&["--help"], 0, "");
    check(&["--version"], 0, "");
    check(&["query", "--help"], 0, "");
}

#[test]
fn a_wrong_command_line_is_two() {
    check(&[], 2, "Usage");
    check(&["fly"], 2, "unrecognized subcommand");
    check(&["query"], 2, "SQL");
    check(&["query", "SELECT 1", "--format", "xml"], 2, "xml");
    check(&["events", "--since", "soon"], 2, "30s");
    check(&["up", "--window", "10ms"], 2, "at least 1s");
    check(&["query", "SELECT 1", "--data", "/a", "--collector", "https://h:1"], 2, "cannot be used with");
    check(&["query", "SELECT 1", "--collector", "http://h:1", "--tls", "/t"], 2, "TLS only");
    check(&["query", "SELECT 1", "--collector", "https://h:1"], 2, "--tls");
    check(&["top", "--once", "--sort", "colour"], 2, "no column");
    check(&["explain", "x' OR 1=1", "--data", "/nowhere"], 3, "no data folder");
    check(&["export", "--table", "cpu,loss", "--out", "/tmp/x"], 2, "one --table");
}

#[test]
fn nobody_to_ask_is_three() {
    check(&["query", "SELECT 1", "--data", "/nowhere/skep"], 3, "no data folder at /nowhere/skep");
    check(&["top", "--once", "--data", "/nowhere/skep"], 3, "no data folder");
    let temp = tempfile::tempdir().unwrap();
    certificates_in(temp.path());
    let tls = temp.path().join("tls");
    let tls = tls.to_str().unwrap();
    // A port that was just given back: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("https://127.0.0.1:{port}");
    check(&["query", "SELECT 1", "--collector", &url, "--tls", tls], 3, "not reachable");
    check(&["nodes", "--collector", &url, "--tls", tls], 3, "not reachable");
}

#[test]
fn what_needs_a_collector_says_so_on_a_folder() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().to_str().unwrap();
    check(&["actions", "approve", "abc", "--data", data], 3, "actions approve needs a running collector");
    check(&["actions", "undo", "abc", "--data", data], 3, "actions undo needs a running collector");
    check(&["events", "--follow", "--data", data], 3, "events --follow needs a running collector");
    check(&["flush", "--data", data], 3, "flush needs a running collector");
}

#[test]
fn a_missing_certificate_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let tls = temp.path().to_str().unwrap();
    let args = ["query", "SELECT 1", "--collector", "https://127.0.0.1:1", "--tls", tls];
    check(&args, 1, &format!("cannot read {tls}/ca.pem"));
}

#[test]
fn a_client_file_with_an_unknown_key_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("skep/client.toml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "colector = 'https://h:1'\n").unwrap();
    let output = skep(&["query", "SELECT 1"]).env("XDG_CONFIG_HOME", temp.path()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("colector") && stderr.contains("client.toml"), "{stderr}");
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = skep(&["tables", "cpu"]).stdout(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn tables_are_known_without_asking_anybody() {
    let output = check(&["tables", "--format", "json"], 0, "");
    let tables: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<&str> = tables.as_array().unwrap().iter().filter_map(|table| table["table"].as_str()).collect();
    assert!(names.contains(&"cpu") && names.contains(&"loss"), "{names:?}");
    let output = check(&["tables", "loss", "--format", "csv"], 0, "");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("column,type,null,unit,what\n") && text.contains("\nattempted,bigint,maybe,,"), "{text}");
    let of = |name: &str| tables.as_array().unwrap().iter().find(|table| table["table"] == name).unwrap().clone();
    assert_eq!((&of("cpu")["kind"], &of("top_cpu")["kind"]), (&"table".into(), &"view".into()));
    assert!(of("top_cpu")["sql"].as_str().unwrap().starts_with("SELECT "));
    let output = check(&["tables", "listeners"], 0, "");
    assert!(String::from_utf8(output.stdout).unwrap().contains("ANTI JOIN"), "a view is shown with its SQL");
}

#[test]
fn doctor_fails_on_a_folder_without_certificates() {
    let temp = tempfile::tempdir().unwrap();
    let output = skep(&["doctor", "--data", temp.path().to_str().unwrap(), "--format", "json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let checks: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let find = |name: &str| checks.as_array().unwrap().iter().find(|check| check["check"] == name).cloned();
    assert_eq!(find("certificate ca").unwrap()["status"], "fail");
    assert_eq!(find("data folder").unwrap()["status"], "ok");
}

#[test]
fn completions_and_manual_pages_come_out() {
    let output = check(&["completions", "bash"], 0, "");
    assert!(String::from_utf8_lossy(&output.stdout).contains("_skep()"));
    let temp = tempfile::tempdir().unwrap();
    check(&["man", "--to", temp.path().to_str().unwrap()], 0, "");
    let query = std::fs::read_to_string(temp.path().join("skep-query.1")).unwrap();
    assert!(query.contains("hist_quantile"), "{query}");
}
